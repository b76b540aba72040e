//! One conversion, from source to sink, in this process.

use std::cell::{Cell, OnceCell};
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::copy;
use crate::decode::{Block, Length, Sound};
use crate::encode::{Encoder, Lame, Outlet, Work, id3v2};
use crate::io::HEAD;
use crate::mp3::splice::Spliced;
use crate::pass::{self, Course, Pass};
use crate::peaks::{PeakMeter, Peaks};
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
    /// The sound was MP3 already, and its frames were copied; else it was decoded and encoded.
    #[serde(default)]
    pub copied: bool,
    /// Bytes that were read of the video, those read twice counted twice; by [`crate::Input::Ranges`], what the source gave.
    pub bytes_read: u64,
    /// The picture of its waveform; `None` where the sound was not decoded.
    pub peaks: Option<Peaks>,
}

impl Summary {
    /// How long the sound is.
    pub fn duration(&self) -> Duration {
        time(self.samples, self.sample_rate)
    }
}

/// Converts `source` into `sink`, in this process: reads and decodes in this thread, encodes in as many others as
/// [`Limits`] says, which have ended when this returns. A sound that is MP3 already is copied where the options leave it as it is.
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
    options.check()?;
    let pulse = Pulse::new(watch);
    let made = convert_by(&pulse, source, sink, options, limits);
    // A read that was broken off for it may have been taken for another failure.
    made.map_err(|error| if pulse.stopped() { Error::cancelled() } else { error })
}

fn convert_by(
    pulse: &Pulse<'_>,
    source: &dyn Source,
    sink: &mut dyn Sink,
    options: &Options,
    limits: &Limits,
) -> Result<Summary, Error> {
    let source = Counted { source, pulse, size: OnceCell::new(), bytes: Cell::new(0) };
    let gain = match options.loudness {
        Some(target) => pass::measure(&source, pulse, options, limits, target)?,
        None => 1.0,
    };
    let mut sound = Sound::open(&source, pulse, options)?;
    let length = sound.length(limits)?;
    let course = |sound: &Sound<'_, '_>, part| Course::new(pulse, sound, &length, limits, part);
    let (mut scanned, mut late) = (None, Duration::ZERO);
    if copy::may_be_copied(options, &sound) {
        let scanning = course(&sound, copy::SCANNING);
        scanned = copy::scan(&mut sound, &length, |sound| scanning.passed(sound))?;
        late = sound.late();
        sound = Sound::open(&source, pulse, options)?;
    }
    let (container, codec) = (sound.container(), sound.codec().to_owned());
    let course = course(&sound, 1.0);
    let mut output = Output { sink, pending: Vec::new(), bytes: 0, limit: limits.output };
    let copied = scanned.is_some();
    let Made { samples, sample_rate, channels, peaks } = match scanned {
        Some(scanned) => {
            let tag = tag(&sound, &length, late, options);
            copied_behind(&tag, sound, &scanned, &course, &mut output)?
        }
        None => {
            let pass = Pass::begin(sound, length, course, options)?;
            let tag = tag(&pass.sound, &pass.length, pass.sound.late(), options);
            encoded_behind(&tag, pass, gain, &mut output, limits.threads())?
        }
    };
    pulse.note(1.0, time(samples, sample_rate));
    pulse.tell();
    let (bytes, bytes_read) = (output.bytes, source.bytes.get());
    Ok(Summary { samples, sample_rate, channels, bytes, container, codec, copied, bytes_read, peaks })
}

/// What is in the MP3.
struct Made {
    samples: u64,
    sample_rate: u32,
    channels: u8,
    peaks: Option<Peaks>,
}

/// The tag that stands before the sound, which begins so late in the video.
fn tag(sound: &Sound<'_, '_>, length: &Length, late: Duration, options: &Options) -> Vec<u8> {
    id3v2(&Work {
        metadata: &sound.metadata(),
        tags: &options.tags,
        title: options.title.as_deref(),
        chapters: &sound.chapters(length, late),
        pictures: &sound.pictures(),
    })
}

/// Writes the tag, the Info frame and the copied frames.
fn copied_behind(
    tag: &[u8],
    mut sound: Sound<'_, '_>,
    scanned: &Spliced,
    course: &Course<'_, '_>,
    output: &mut Output<'_>,
) -> Result<Made, Error> {
    output.write(tag)?;
    output.write(&scanned.info)?;
    copy::write(&mut sound, scanned, |bytes| output.write(bytes), |sound| course.copied(sound))?;
    output.finish(tag.len() as u64, &scanned.info)?;
    let Spliced { samples, sample_rate, channels, .. } = *scanned;
    Ok(Made { samples, sample_rate, channels, peaks: None })
}

/// Writes the tag and what is encoded: decodes in this thread and encodes in others, to the end of the sound.
fn encoded_behind(
    tag: &[u8],
    pass: Pass<'_, '_>,
    gain: f32,
    output: &mut Output<'_>,
    threads: usize,
) -> Result<Made, Error> {
    output.write(tag)?;
    let Pass { mut sound, length, format, course } = pass;
    let (scale, mut meter) = (Lame::scale(&format)?, PeakMeter::new());
    let (samples, info) = std::thread::scope(|scope| {
        let mut encoder = Encoder::new(scope, &format, threads)?;
        output.write(encoder.place_holder())?;
        let mut outlet = Mp3 { output, course: &course, rate: format.sample_rate, place: 0.0 };
        while let Some(Block { left, mut right }) = sound.next()? {
            tame(left, gain);
            right.iter_mut().for_each(|right| tame(right, gain));
            meter.add(left, right.as_deref());
            encoder.push(left, right.as_deref(), &mut outlet)?;
            outlet.place = sound.place();
            course.decoded(&sound)?;
        }
        sound.finish(&length)?;
        encoder.finish(&mut outlet)
    })?;
    output.finish(tag.len() as u64, &info)?;
    let peaks = Some(meter.finish(format.sample_rate, scale));
    Ok(Made { samples, sample_rate: format.sample_rate, channels: format.channels, peaks })
}

/// What comes out of the encoder, and how far it is.
struct Mp3<'a, 's, 'w> {
    output: &'a mut Output<'s>,
    course: &'a Course<'a, 'w>,
    rate: u32,
    /// How far into the video its sound is read.
    place: f64,
}

impl Outlet for Mp3<'_, '_, '_> {
    fn mp3(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write(bytes)
    }

    fn encoded(&mut self, samples: u64) -> Result<(), Error> {
        self.course.encoded(time(samples, self.rate), self.place)
    }
}

/// Applies the gain; what is no number becomes silence, what is too loud becomes as loud as can be.
fn tame(samples: &mut [f32], gain: f32) {
    for sample in samples {
        *sample = if sample.is_finite() { (*sample * gain).clamp(-1.0, 1.0) } else { 0.0 };
    }
}

fn time(samples: u64, rate: u32) -> Duration {
    // No sound is so long that it would not fit; what an engine process says may be.
    Duration::try_from_secs_f64(samples as f64 / f64::from(rate.max(1))).unwrap_or(Duration::MAX)
}

/// The source as long as it was at first, and how much was read of it.
///
/// What is appended meanwhile is not there; what is missing is a fault of the source, and no end of the video: it may be deleted after.
struct Counted<'a, 'w> {
    source: &'a dyn Source,
    pulse: &'a Pulse<'w>,
    size: OnceCell<u64>,
    bytes: Cell<u64>,
}

impl Source for Counted<'_, '_> {
    fn len(&self) -> io::Result<u64> {
        match self.size.get() {
            Some(size) => Ok(*size),
            None => self.source.len().map(|size| *self.size.get_or_init(|| size)),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.len()?;
        let rest = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        if rest == 0 {
            return Ok(0);
        }
        // Also where nothing is decoded, as in a walk through all of a file's boxes.
        if self.pulse.beat().is_break() {
            return Err(io::Error::other("cancelled"));
        }
        let n = self.source.read_at(offset, &mut buf[..rest])?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it became shorter while it was read: {size} bytes at first, none at {offset} now"),
            ));
        }
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
    fn a_summary_has_a_duration_whatever_an_engine_process_said() {
        let summary = |samples, sample_rate| Summary {
            samples,
            sample_rate,
            channels: 2,
            bytes: 1,
            container: String::new(),
            codec: String::new(),
            copied: false,
            bytes_read: 0,
            peaks: None,
        };
        assert_eq!(summary(88_200, 44_100).duration(), Duration::from_secs(2));
        assert_eq!(summary(u64::MAX, 0).duration(), Duration::MAX);
    }

    #[test]
    fn samples_that_are_no_sound_are_tamed() {
        let mut samples = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.5, -7.0, 0.25];
        tame(&mut samples, 1.0);
        assert_eq!(samples, [0.0, 0.0, 0.0, 1.0, -1.0, 0.25]);
        let mut loud = [1.5, f32::MAX, 0.25];
        tame(&mut loud, 0.5);
        assert_eq!(
            loud,
            [0.75, 1.0, 0.125],
            "the gain comes first: what it brings into range is not clipped"
        );
    }
}
