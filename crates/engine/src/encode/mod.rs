//! From samples to an MP3: which format, tags first, then frames.

mod chapters;
mod cover;
mod lame;
mod merge;
mod parallel;
mod segments;
mod stream;
mod tags;

pub(crate) use lame::Lame;
#[cfg(any(test, fuzzing))]
pub(crate) use merge::fuzzing::merge_any;
pub(crate) use parallel::{Encoder, Outlet};
#[cfg(any(test, fuzzing))]
pub(crate) use tags::fuzzing::tag_any;
pub(crate) use tags::{TAGS, Work, id3v2, is_date};

pub(crate) use crate::options::Quality;
use crate::{Options, Preset};

/// What the MP3 will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub sample_rate: u32,
    pub channels: u8,
    /// Channels to decode to: mono is doubled by the encoder, at full level.
    pub decoded_channels: u8,
    pub quality: Quality,
}

/// Sample rates that MP3 can carry: MPEG 2.5, 2 and 1.
const RATES: [u32; 9] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

impl Format {
    /// Per channel.
    pub fn samples_per_frame(&self) -> u64 {
        if self.sample_rate < 32_000 { 576 } else { 1152 }
    }

    /// What valid options make of a source.
    pub fn choose(options: &Options, source_rate: u32, source_channels: u32) -> Format {
        let wants_mono = options.mono || options.preset == Preset::Voice;
        let decoded_channels = if wants_mono || source_channels == 1 { 1 } else { 2 };
        let quality = options.quality.unwrap_or(match options.preset {
            Preset::Music => Quality::Vbr(2),
            Preset::Voice => Quality::Vbr(5),
            Preset::Small => Quality::Vbr(7),
            Preset::Original => Quality::Cbr(128),
        });
        let (sample_rate, channels) = match options.preset {
            Preset::Original if options.mono => (44_100, 1),
            Preset::Original => (44_100, 2),
            _ => (carried(source_rate), decoded_channels),
        };
        let sample_rate = match quality {
            Quality::Vbr(_) => sample_rate,
            Quality::Cbr(kilobits) | Quality::Abr(kilobits) => with_bit_rate(sample_rate, kilobits),
        };
        Format { sample_rate, channels, decoded_channels, quality }
    }
}

/// The sample rate nearest to `rate`, in its family, at which LAME writes frames of `kilobits`: who asks for a bit rate wants it as asked.
fn with_bit_rate(mut rate: u32, kilobits: u16) -> u32 {
    // MPEG 2.5, of which LAME uses the lower half; MPEG 2; MPEG 1.
    let range = |rate| match rate {
        0..=12_000 => 8..=64,
        12_001..=24_000 => 8..=160,
        _ => 32..=320,
    };
    while kilobits > *range(rate).end() && rate <= 24_000 {
        rate *= 2;
    }
    while kilobits < *range(rate).start() && rate >= 32_000 {
        rate /= 2;
    }
    rate
}

/// The rate that MP3 can carry and that keeps the most of `rate`: the same, else the next higher; above 48 kHz that of its family.
fn carried(rate: u32) -> u32 {
    match RATES.into_iter().find(|carried| *carried >= rate) {
        Some(carried) => carried,
        None if rate.is_multiple_of(11_025) => 44_100,
        None => 48_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(options: &[(&str, &str)], rate: u32, channels: u32) -> (u32, u8, u8, Quality) {
        let mut all = Options::default();
        for (name, value) in options {
            assert!(all.set(name, value).unwrap());
        }
        let Format { sample_rate, channels, decoded_channels, quality } =
            Format::choose(&all, rate, channels);
        (sample_rate, channels, decoded_channels, quality)
    }

    #[test]
    fn presets_and_what_overrides_them_make_the_format() {
        use Quality::{Abr, Cbr, Vbr};
        assert_eq!(chosen(&[], 48_000, 6), (48_000, 2, 2, Vbr(2)));
        assert_eq!(chosen(&[], 22_050, 1), (22_050, 1, 1, Vbr(2)));
        assert_eq!(chosen(&[("mono", "true")], 96_000, 2), (48_000, 1, 1, Vbr(2)));
        assert_eq!(chosen(&[("preset", "voice")], 44_100, 2), (44_100, 1, 1, Vbr(5)));
        assert_eq!(chosen(&[("preset", "small")], 44_100, 2), (44_100, 2, 2, Vbr(7)));
        assert_eq!(chosen(&[("preset", "original")], 8_000, 1), (44_100, 2, 1, Cbr(128)));
        assert_eq!(chosen(&[("preset", "original"), ("mono", "1")], 8_000, 2), (44_100, 1, 1, Cbr(128)));
        assert_eq!(chosen(&[("preset", "original"), ("vbr", "0")], 48_000, 2), (44_100, 2, 2, Vbr(0)));
        assert_eq!(chosen(&[("preset", "voice"), ("abr", "40")], 48_000, 2), (48_000, 1, 1, Abr(40)));
    }

    #[test]
    fn the_sample_rate_follows_the_bit_rate_that_was_asked_for() {
        let at = |kilobits: &'static str, rate| chosen(&[("cbr", kilobits)], rate, 2).0;
        assert_eq!((at("128", 44_100), at("320", 44_100), at("32", 48_000)), (44_100, 44_100, 48_000));
        assert_eq!((at("160", 22_050), at("192", 22_050), at("320", 16_000)), (22_050, 44_100, 32_000));
        assert_eq!((at("64", 8_000), at("80", 8_000), at("192", 11_025)), (8_000, 16_000, 44_100));
        assert_eq!((at("24", 44_100), at("8", 48_000), at("16", 32_000)), (22_050, 24_000, 16_000));
        assert_eq!(chosen(&[("abr", "200")], 12_000, 2).0, 48_000);
    }

    #[test]
    fn rates_are_kept_or_move_within_their_family() {
        let moved = [
            (48_000, 48_000),
            (44_100, 44_100),
            (8_000, 8_000),
            (96_000, 48_000),
            (88_200, 44_100),
            (176_400, 44_100),
            (37_800, 44_100),
            (7_350, 8_000),
            (192_000, 48_000),
        ];
        for (from, to) in moved {
            assert_eq!(carried(from), to, "{from}");
        }
    }
}
