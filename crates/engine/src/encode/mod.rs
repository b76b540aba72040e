//! From samples to an MP3: which format, tags first, then frames.

mod lame;
mod merge;
mod parallel;
mod segments;
mod stream;
mod tags;

pub(crate) use lame::Lame;
pub(crate) use parallel::{Encoder, Outlet};
pub(crate) use tags::id3v2;

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

    pub fn choose(options: &Options, source_rate: u32, source_channels: u32) -> Format {
        let decoded_channels = if source_channels == 1 { 1 } else { 2 };
        let chosen = match options.preset {
            Preset::Music => Format {
                sample_rate: carried(source_rate),
                channels: decoded_channels,
                decoded_channels,
                quality: Quality::Vbr(2),
            },
            Preset::Original => {
                Format { sample_rate: 44_100, channels: 2, decoded_channels, quality: Quality::Cbr(128) }
            }
        };
        Format { quality: options.quality.unwrap_or(chosen.quality), ..chosen }
    }
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
