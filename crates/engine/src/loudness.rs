//! Loudness by EBU R128: which gain brings the sound to the one that is asked for, without clipping.
//!
//! One gain for the whole sound, as EBU R128 means it (integrated loudness, gated, by ITU-R BS.1770). Where it would lift the true peak above
//! -1 dBTP it is less, and the sound stays quieter than asked: nothing is compressed. Mono is measured as one channel, and as two where it is
//! doubled, so that a meter says of the MP3 what was asked for.

use ebur128::{Channel, EbuR128, Mode};

use crate::encode::Format;
use crate::{Code, Error, Loudness};

/// No true peak lies higher, in dBTP: room for what lossy coding adds.
const HIGHEST_PEAK: f64 = -1.0;

/// Measures a sound, block by block, in constant memory.
pub(crate) struct Meter {
    meter: EbuR128,
}

impl Meter {
    pub fn new(format: &Format) -> Result<Meter, Error> {
        let modes = Mode::I | Mode::TRUE_PEAK | Mode::HISTOGRAM;
        let meter = EbuR128::new(format.decoded_channels.into(), format.sample_rate, modes);
        let mut meter = meter.map_err(failed)?;
        if format.channels > format.decoded_channels {
            meter.set_channel(0, Channel::DualMono).map_err(failed)?;
        }
        Ok(Meter { meter })
    }

    /// Takes the next samples, and makes silence of those that are no numbers, and full scale of those that are damage.
    pub fn add(&mut self, left: &mut [f32], mut right: Option<&mut [f32]>) -> Result<(), Error> {
        numbers(left);
        right.iter_mut().for_each(|right| numbers(right));
        match right {
            Some(right) => self.meter.add_frames_planar_f32(&[&*left, &*right]),
            None => self.meter.add_frames_planar_f32(&[&*left]),
        }
        .map_err(failed)
    }

    /// What to multiply the samples by. Silence, and what is shorter than the 0.4 s that R128 measures by, stays as it is.
    pub fn gain(&self, target: Loudness) -> Result<f32, Error> {
        let loudness = self.meter.loudness_global().map_err(failed)?;
        let mut peak = 0_f64;
        for channel in 0..self.meter.channels() {
            peak = peak.max(self.meter.true_peak(channel).map_err(failed)?);
        }
        if !loudness.is_finite() {
            return Ok(1.0);
        }
        let decibels = (target.lufs() - loudness).min(HIGHEST_PEAK - 20.0 * peak.log10());
        #[expect(clippy::cast_possible_truncation, reason = "a sample is no more precise")]
        Ok(10_f64.powf(decibels / 20.0) as f32)
    }
}

/// No sound is so far above full scale, here by 30 dB: damaged packets decode to such, and one of them would make all the rest quiet.
const DAMAGE: f32 = 32.0;

fn numbers(samples: &mut [f32]) {
    for sample in samples {
        match *sample {
            number if !number.is_finite() => *sample = 0.0,
            damage if damage.abs() > DAMAGE => *sample = damage.signum(),
            _ => {}
        }
    }
}

fn failed(error: ebur128::Error) -> Error {
    match error {
        ebur128::Error::NoMem => Error::out_of_memory(),
        error => {
            let text = "The loudness could not be measured. This is a fault of the server, not of the video.";
            Error::new(Code::EngineCrashed, text).because(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    /// The gain in decibels for a sine of 997 Hz of this amplitude, by options.
    fn decibels(amplitude: f32, target: &str, option: &str, seconds: f32) -> f64 {
        let mut options = Options::default();
        options.set(option, "original").or_else(|_| options.set(option, "1")).unwrap();
        let format = Format::choose(&options, 44_100, if option == "preset" { 1 } else { 2 });
        let mut meter = Meter::new(&format).unwrap();
        let tone = |i: u32| (i as f32 * 997.0 * std::f32::consts::TAU / 44_100.0).sin() * amplitude;
        let mut tone: Vec<f32> = (0..(seconds * 44_100.0) as u32).map(tone).collect();
        for block in tone.chunks_mut(1000) {
            let mut right = block.to_vec();
            meter.add(block, (format.decoded_channels == 2).then_some(&mut right)).unwrap();
        }
        f64::from(meter.gain(target.parse().unwrap()).unwrap().log10()) * 20.0
    }

    #[test]
    fn the_gain_is_what_the_standards_reference_tone_asks_for() {
        // EBU Tech 3341, case 1: 1 kHz at -23 dBFS in both channels is -23 LUFS; in one channel it is 3 LU less.
        let amplitude = 10_f32.powf(-23.0 / 20.0);
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 0.1, "{found} for {expected}");
        near(decibels(amplitude, "-23", "vbr", 20.0), 0.0);
        near(decibels(amplitude, "-16", "vbr", 20.0), 7.0);
        near(decibels(amplitude, "-33", "vbr", 20.0), -10.0);
        near(decibels(amplitude, "-23", "mono", 20.0), 3.0);
        near(decibels(amplitude, "-23", "preset", 20.0), 0.0);
    }

    #[test]
    fn the_true_peak_limits_the_gain() {
        let found = decibels(0.5, "0", "vbr", 5.0);
        assert!((found - 5.02).abs() < 0.1, "{found}: from -6.02 dBTP to -1");
        let found = decibels(1.0, "0", "vbr", 5.0);
        assert!((found + 1.0).abs() < 0.1, "{found}");
    }

    #[test]
    fn samples_that_are_no_numbers_count_as_silence() {
        let gain = |wrong: &[f32]| {
            let mut meter = Meter::new(&Format::choose(&Options::default(), 44_100, 1)).unwrap();
            let mut tone: Vec<f32> = (0..441_000).map(|i| (i as f32 * 0.1).sin() * 0.1).collect();
            tone[1000..][..wrong.len()].copy_from_slice(wrong);
            meter.add(&mut tone, None).unwrap();
            meter.gain("-16".parse().unwrap()).unwrap()
        };
        let usual = gain(&[0.0; 3]);
        assert!(usual > 1.5, "{usual}");
        assert_eq!(gain(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), usual);
        // As much as a click at full scale takes, and no more.
        let click = gain(&[1.0, -1.0]);
        assert!(click > 0.5 && gain(&[31_349.0, -1e6]) == click, "{click}");
    }

    #[test]
    fn what_has_no_loudness_stays_as_it_is() {
        assert_eq!(decibels(0.0, "-16", "vbr", 5.0), 0.0);
        assert_eq!(decibels(0.5, "-16", "vbr", 0.3), 0.0);
    }
}
