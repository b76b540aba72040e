//! One pass over the sound: opened, limited, and told to the watcher as its share of the conversion.

use std::ops::Range;
use std::time::Duration;

use crate::decode::{Block, Length, SLACK, Sound};
use crate::encode::Format;
use crate::loudness::Meter;
use crate::pulse::Pulse;
use crate::{Error, Limits, Loudness, Options, Source};

/// What a conversion with a loudness takes for measuring it, of the whole: decoding and measuring, against decoding and encoding.
const MEASURING: f64 = 0.35;

/// A sound that is ready to be read from its start to its end.
pub(crate) struct Pass<'s, 'w> {
    pub sound: Sound<'s, 'w>,
    pub length: Length,
    pub format: Format,
    pub told: Told<'s, 'w>,
    /// So many threads may encode.
    pub threads: usize,
}

/// What the watcher is told of a pass.
pub(crate) struct Told<'s, 'w> {
    pulse: &'s Pulse<'w>,
    limits: &'s Limits,
    /// How much is to be decoded, in seconds, as far as is known.
    extent: f64,
    /// From where to where this pass takes the conversion.
    share: Range<f64>,
    /// How much is decoded, and how far into the file that is.
    read: Duration,
    place: f64,
}

impl<'s, 'w> Pass<'s, 'w> {
    /// Opens the sound for the pass that encodes it.
    pub fn open(
        source: &'s dyn Source,
        pulse: &'s Pulse<'w>,
        options: &Options,
        limits: &'s Limits,
    ) -> Result<Pass<'s, 'w>, Error> {
        let mut sound = Sound::open(source, pulse, options)?;
        let length = sound.length(limits)?;
        let (rate, channels) = sound.start()?;
        let format = Format::choose(options, rate, channels);
        sound.deliver(format.sample_rate, format.decoded_channels);
        let extent = sound.extent(&length).as_secs_f64().max(0.001);
        let share = if options.loudness.is_some() { MEASURING..1.0 } else { 0.0..1.0 };
        let told = Told { pulse, limits, extent, share, read: Duration::ZERO, place: 0.0 };
        Ok(Pass { sound, length, format, told, threads: limits.threads() })
    }
}

impl Told<'_, '_> {
    /// Notes how far the sound is decoded; refuses to go on when there is too much of it.
    pub fn reached(&mut self, sound: &Sound<'_, '_>) -> Result<(), Error> {
        (self.read, self.place) = (sound.position(), sound.place());
        if self.read > self.limits.duration.saturating_add(SLACK) {
            return Err(Error::too_long(self.limits.duration));
        }
        Ok(())
    }

    /// Tells how far this pass is; refuses to go on when the watcher asked to stop. `converted` is what is in the MP3 so far, and
    /// `waiting` what is decoded and not there yet.
    pub fn tell(&self, converted: Duration, waiting: Duration) -> Result<(), Error> {
        let part = self.read.saturating_sub(waiting).as_secs_f64() / self.extent;
        // A header that promises less than comes lies: then the place in the file says more. The end is told at the end alone.
        let part = if part < 1.0 { part } else { self.place }.min(0.99);
        let Range { start, end } = self.share;
        self.pulse.note(start + part * (end - start), converted);
        if self.pulse.beat().is_break() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// Reads all of the sound for its loudness: the gain that brings it to `target`.
pub(crate) fn measure(
    source: &dyn Source,
    pulse: &Pulse<'_>,
    options: &Options,
    limits: &Limits,
    target: Loudness,
) -> Result<f32, Error> {
    let mut pass = Pass::open(source, pulse, options, limits)?;
    pass.told.share = 0.0..MEASURING;
    let mut meter = Meter::new(&pass.format)?;
    while let Some(Block { left, right }) = pass.sound.next()? {
        meter.add(left, right)?;
        pass.told.reached(&pass.sound)?;
        pass.told.tell(Duration::ZERO, Duration::ZERO)?;
    }
    pass.sound.finish(&pass.length)?;
    meter.gain(target)
}
