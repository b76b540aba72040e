//! One conversion, from source to sink, in this process.

use std::cell::Cell;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decode::{Block, Length, SLACK, Sound};
use crate::encode::{Encoder, Format, Outlet, id3v2};
use crate::io::HEAD;
use crate::pulse::Pulse;
use crate::{Error, Limits, Options, Progress, Sink, Source};

/// What a conversion made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Samples per channel in the MP3, without its delay and padding.
    pub samples: u64,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Size of the MP3, with its tags.
    pub bytes: u64,
    /// The video's container: `mp4`, `matroska`, `avi` …
    pub container: String,
    /// The codec of its sound: `aac`, `opus` …
    pub codec: String,
    /// Bytes that were read of the video, those read twice counted twice; by [`crate::Input::Ranges`], what the source gave.
    pub bytes_read: u64,
}

impl Summary {
    /// How long the sound is.
    pub fn duration(&self) -> Duration {
        time(self.samples, self.sample_rate)
    }
}

/// Converts `source` into `sink`, in this process and thread.
///
/// `watch` is called four times a second at most, also while a file is only searched, and ends the conversion by `Break`. Of the
/// limits, `memory`, `cpu` and `stall` bind only an engine process. After an error, what the sink holds is to be thrown away.
pub fn convert(
    source: &dyn Source,
    sink: &mut dyn Sink,
    options: &Options,
    limits: &Limits,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, Error> {
    let pulse = Pulse::new(watch);
    let source = Counted { source, bytes: Cell::new(0) };
    let mut sound = Sound::open(&source, &pulse)?;
    let length = sound.length(limits)?;
    let (rate, channels) = sound.start()?;
    let format = Format::choose(options, rate, channels);
    sound.deliver(format.sample_rate, format.decoded_channels);

    let mut output = Output { sink, pending: Vec::new(), bytes: 0, limit: limits.output };
    let tag = id3v2(&sound.metadata(), options.title.as_deref());
    output.write(&tag)?;
    let (samples, info) = encode(&mut sound, &format, &mut output, &length, limits, &pulse)?;
    sound.finish(time(samples, format.sample_rate), &length)?;
    output.finish(tag.len() as u64, &info)?;

    pulse.note(1.0, time(samples, format.sample_rate));
    pulse.tell();
    Ok(Summary {
        samples,
        sample_rate: format.sample_rate,
        channels: format.channels,
        bytes: output.bytes,
        container: sound.container(),
        codec: sound.codec().to_owned(),
        bytes_read: source.bytes.get(),
    })
}

/// Decodes in this thread and encodes in others, to the end of the sound; returns the samples per channel and the Info frame.
fn encode(
    sound: &mut Sound<'_, '_>,
    format: &Format,
    output: &mut Output<'_>,
    length: &Length,
    limits: &Limits,
    pulse: &Pulse<'_>,
) -> Result<(u64, Vec<u8>), Error> {
    std::thread::scope(|scope| {
        let mut encoder = Encoder::new(scope, format, limits.threads())?;
        output.write(encoder.place_holder())?;
        let whole = length.duration().as_secs_f64().max(0.001);
        let mut outlet = Mp3 { output, pulse, rate: format.sample_rate, whole, place: 0.0 };
        let mut samples = 0;
        while let Some(Block { left, mut right }) = sound.next()? {
            samples += left.len() as u64;
            if time(samples, format.sample_rate) > limits.duration.saturating_add(SLACK) {
                return Err(Error::too_long(limits.duration));
            }
            tame(left);
            right.iter_mut().for_each(|right| tame(right));
            encoder.push(left, right.as_deref(), &mut outlet)?;
            outlet.place = sound.place();
        }
        if samples == 0 { Err(sound.silent()) } else { encoder.finish(&mut outlet) }
    })
}

/// What comes out of the encoder, and how far it is.
struct Mp3<'a, 's, 'w> {
    output: &'a mut Output<'s>,
    pulse: &'a Pulse<'w>,
    rate: u32,
    /// How long the sound is said to be, in seconds.
    whole: f64,
    /// How far into the video its sound is read.
    place: f64,
}

impl Outlet for Mp3<'_, '_, '_> {
    fn mp3(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write(bytes)
    }

    fn encoded(&mut self, samples: u64) -> Result<(), Error> {
        let encoded = time(samples, self.rate);
        let share = encoded.as_secs_f64() / self.whole;
        // A header that promises less than comes lies: then the place in the file says more. The end is told at the end alone.
        self.pulse.note(if share < 1.0 { share } else { self.place }.min(0.99), encoded);
        if self.pulse.beat().is_break() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// What is no number becomes silence, what is too loud becomes as loud as can be.
fn tame(samples: &mut [f32]) {
    for sample in samples {
        *sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
    }
}

fn time(samples: u64, rate: u32) -> Duration {
    Duration::from_secs_f64(samples as f64 / f64::from(rate.max(1)))
}

/// The source, and how much was read of it.
struct Counted<'a> {
    source: &'a dyn Source,
    bytes: Cell<u64>,
}

impl Source for Counted<'_> {
    fn len(&self) -> io::Result<u64> {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read_at(offset, buf)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}

/// The sink, in pieces of 64 KiB, counted and limited.
struct Output<'a> {
    sink: &'a mut dyn Sink,
    pending: Vec<u8>,
    bytes: u64,
    limit: u64,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.limit {
            return Err(Error::output_too_large(self.limit));
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= 64 * 1024 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.sink.write(&self.pending).map_err(Error::write_failed)?;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is left, then the Info frame over its place holder at `offset`.
    fn finish(&mut self, offset: u64, info: &[u8]) -> Result<(), Error> {
        debug_assert!(offset + info.len() as u64 <= HEAD.min(self.bytes), "tags are kept short");
        self.flush()?;
        self.sink.rewrite_head(offset, info).map_err(Error::write_failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_are_no_sound_are_tamed() {
        let mut samples = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.5, -7.0, 0.25];
        tame(&mut samples);
        assert_eq!(samples, [0.0, 0.0, 0.0, 1.0, -1.0, 0.25]);
    }
}
