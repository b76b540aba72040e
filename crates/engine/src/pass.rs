//! One pass over the sound: opened, limited, and told to the watcher as its share of the conversion.

use std::ops::Range;
use std::time::Duration;

use crate::decode::{Block, Length, SLACK, Sound};
use crate::encode::{Format, Lame};
use crate::loudness::Meter;
use crate::pulse::Pulse;
use crate::{Error, Limits, Loudness, Options, Source};

/// What a conversion with a loudness takes for measuring it, of the whole: decoding and measuring, against decoding and encoding.
const MEASURING: f64 = 0.4;

/// What a second of sound before the wanted piece takes, which is decoded and dropped, against one that is encoded, too.
const DROPPING: f64 = 0.15;

/// A sound that is ready to be read from its start to its end.
pub(crate) struct Pass<'s, 'w> {
    pub sound: Sound<'s, 'w>,
    pub length: Length,
    pub format: Format,
    pub course: Course<'s, 'w>,
}

impl<'s, 'w> Pass<'s, 'w> {
    /// Begins to decode a sound that is open.
    pub fn begin(
        mut sound: Sound<'s, 'w>,
        length: Length,
        course: Course<'s, 'w>,
        options: &Options,
    ) -> Result<Pass<'s, 'w>, Error> {
        let (rate, channels) = sound.start()?;
        let format = Format::choose(options, rate, channels);
        sound.deliver(format.sample_rate, format.decoded_channels);
        Ok(Pass { sound, length, format, course })
    }
}

/// How far the conversion is when a pass is somewhere in the sound.
pub(crate) struct Course<'s, 'w> {
    pulse: &'s Pulse<'w>,
    /// The longest sound that is decoded.
    limit: Duration,
    /// Where the wanted piece begins, and where it ends as far as is known.
    piece: Range<Duration>,
    /// From where to where this pass takes the conversion.
    share: Range<f64>,
}

impl<'s, 'w> Course<'s, 'w> {
    /// The course of a pass that takes such a part of what is left of the conversion.
    pub fn new(
        pulse: &'s Pulse<'w>,
        sound: &Sound<'_, '_>,
        length: &Length,
        limits: &Limits,
        part: f64,
    ) -> Course<'s, 'w> {
        let done = pulse.progress().fraction;
        Course {
            pulse,
            limit: limits.duration,
            piece: sound.piece(length),
            share: done..done + part * (1.0 - done),
        }
    }

    /// A pass that converts nothing is so far.
    pub fn passed(&self, sound: &Sound<'_, '_>) -> Result<(), Error> {
        self.decoded(sound)?;
        self.tell(sound.position(), sound.place(), Duration::ZERO)
    }

    /// So far the sound is in the MP3.
    pub fn copied(&self, sound: &Sound<'_, '_>) -> Result<(), Error> {
        self.decoded(sound)?;
        self.encoded(sound.position(), sound.place())
    }

    /// After each block: refuses to go on when there is too much sound, and tells how far the way to the wanted piece is.
    pub fn decoded(&self, sound: &Sound<'_, '_>) -> Result<(), Error> {
        let position = sound.position();
        if position > self.limit.saturating_add(SLACK) {
            return Err(Error::too_long(self.limit));
        }
        if position < self.piece.start { self.tell(position, 0.0, Duration::ZERO) } else { Ok(()) }
    }

    /// So much of the wanted piece is in the MP3; `place` is how far into the video its sound is read.
    pub fn encoded(&self, converted: Duration, place: f64) -> Result<(), Error> {
        if converted.is_zero() {
            return self.beat();
        }
        self.tell(self.piece.start.saturating_add(converted), place, converted)
    }

    fn tell(&self, position: Duration, place: f64, converted: Duration) -> Result<(), Error> {
        let part = work(position, &self.piece) / work(self.piece.end, &self.piece).max(0.001);
        // A header that promises less than comes lies: then the place in the file says more. The end is told at the end alone.
        let part = if part < 1.0 { part } else { place }.min(0.99);
        let Range { start, end } = self.share;
        self.pulse.note(start + part * (end - start), converted);
        self.beat()
    }

    fn beat(&self) -> Result<(), Error> {
        if self.pulse.beat().is_break() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// What it takes to come to `position`, in seconds of sound that is encoded.
fn work(position: Duration, piece: &Range<Duration>) -> f64 {
    let (before, within) = (position.min(piece.start), position.saturating_sub(piece.start));
    before.as_secs_f64() * DROPPING + within.as_secs_f64()
}

/// Reads all of the sound for its loudness: the gain before the encoder that brings the MP3 to `target`.
pub(crate) fn measure(
    source: &dyn Source,
    pulse: &Pulse<'_>,
    options: &Options,
    limits: &Limits,
    target: Loudness,
) -> Result<f32, Error> {
    let sound = Sound::open(source, pulse, options)?;
    let length = sound.length(limits)?;
    let course = Course::new(pulse, &sound, &length, limits, MEASURING);
    let Pass { mut sound, length, format, course } = Pass::begin(sound, length, course, options)?;
    let mut meter = Meter::new(&format)?;
    while let Some(Block { left, right }) = sound.next()? {
        meter.add(left, right)?;
        course.passed(&sound)?;
    }
    sound.finish(&length)?;
    Ok(meter.gain(target)? / Lame::scale(&format)?)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn a_pass_takes_the_conversion_through_its_share_and_never_to_its_end() {
        let mut watch = |_| ControlFlow::Continue(());
        let pulse = Pulse::new(&mut watch);
        let seconds = Duration::from_secs;
        let course =
            Course { pulse: &pulse, limit: seconds(100), piece: seconds(50)..seconds(90), share: 0.5..1.0 };
        let told = |position, place| {
            course.tell(seconds(position), place, Duration::ZERO).unwrap();
            pulse.progress().fraction
        };
        // 50 s dropped are 7.5 s of work, before 40.
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        near(told(0, 0.0), 0.5);
        near(told(50, 0.0), 0.5 + 0.5 * 7.5 / 47.5);
        near(told(70, 0.0), 0.5 + 0.5 * 27.5 / 47.5);
        assert_eq!(
            (told(95, 0.9), told(95, 1.0)),
            (0.95, 0.995),
            "behind the claimed end, by the place in the file"
        );
    }
}
