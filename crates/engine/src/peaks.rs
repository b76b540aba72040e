//! Peaks: how low and how high the sound goes, piece by piece, for the picture of a waveform. Gathered while the sound is encoded.

use serde::{Deserialize, Serialize};

/// The lowest and the highest sample of each piece of the sound, its channels mixed to one, as the MP3 has it.
///
/// Sounds of any length have between 512 and 1024 of them, and only those of less than 1024 samples have fewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peaks {
    /// Samples per second of the sound.
    pub sample_rate: u32,
    /// How many samples a piece has, a power of 2. The last piece may have fewer.
    pub samples_per_peak: u32,
    /// Lowest and highest of each piece, -128 to 127; the average of the channels, as in audiowaveform's form for one channel.
    pub peaks: Vec<(i8, i8)>,
}

/// Peaks are halved before they are more.
const MOST: usize = 1024;

/// How many samples a peak begins with: one would be the sound itself.
const FINEST: u32 = 2;

impl Peaks {
    /// The JSON of BBC's audiowaveform, version 2, which players such as peaks.js and wavesurfer.js read:
    /// <https://github.com/bbc/audiowaveform/blob/master/doc/DataFormat.md>.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Audiowaveform {
            version: u8,
            channels: u8,
            sample_rate: u32,
            samples_per_pixel: u32,
            bits: u8,
            length: usize,
            data: Vec<i8>,
        }
        let form = Audiowaveform {
            version: 2,
            channels: 1,
            sample_rate: self.sample_rate,
            samples_per_pixel: self.samples_per_peak,
            bits: 8,
            length: self.peaks.len(),
            data: self.peaks.iter().flat_map(|(low, high)| [*low, *high]).collect(),
        };
        serde_json::to_string(&form).expect("numbers under names are JSON")
    }

    /// Whether these can be the peaks of so many samples at this rate.
    pub(crate) fn fit(&self, samples: u64, sample_rate: u32) -> bool {
        let mut samples_per_peak = FINEST;
        while samples.div_ceil(samples_per_peak.into()) > MOST as u64 {
            let Some(coarser) = samples_per_peak.checked_mul(2) else { return false };
            samples_per_peak = coarser;
        }
        self.sample_rate == sample_rate
            && self.samples_per_peak == samples_per_peak
            && self.peaks.len() as u64 == samples.div_ceil(samples_per_peak.into())
            && self.peaks.iter().all(|(low, high)| low <= high)
    }
}

/// Gathers peaks block by block, in the same memory however long the sound is: when there is room for no more, two become one.
pub(crate) struct PeakMeter {
    samples_per_peak: u32,
    /// Lowest and highest sum of both channels.
    peaks: Vec<(f32, f32)>,
    /// How many samples the last peak still lacks.
    lacking: u32,
}

impl PeakMeter {
    pub fn new() -> PeakMeter {
        PeakMeter { samples_per_peak: FINEST, peaks: Vec::with_capacity(MOST), lacking: 0 }
    }

    /// Takes the next samples, which are all numbers; `right` is `None` for mono.
    pub fn add(&mut self, left: &[f32], right: Option<&[f32]>) {
        let (mut left, mut right) = (left, right.unwrap_or(left));
        while !left.is_empty() {
            if self.lacking == 0 {
                self.begin();
            }
            let count = left.len().min(self.lacking as usize);
            let ((now_left, later_left), (now_right, later_right)) =
                (left.split_at(count), right.split_at(count));
            let (low, high) = extremes(now_left, now_right);
            if let Some(peak) = self.peaks.last_mut() {
                *peak = (low.min(peak.0), high.max(peak.1));
            }
            // No more than was lacking, which is no more than a u32.
            self.lacking -= count as u32;
            (left, right) = (later_left, later_right);
        }
    }

    /// Begins a peak; all before it are complete.
    fn begin(&mut self) {
        if self.peaks.len() == MOST {
            let merged =
                self.peaks.chunks_exact(2).map(|two| (two[0].0.min(two[1].0), two[0].1.max(two[1].1)));
            self.peaks = merged.collect();
            self.samples_per_peak = self.samples_per_peak.saturating_mul(2); // Enough for a year of sound.
        }
        self.peaks.push((f32::INFINITY, f32::NEG_INFINITY));
        self.lacking = self.samples_per_peak;
    }

    /// The peaks of all samples, each multiplied by `scale`.
    pub fn finish(&self, sample_rate: u32, scale: f32) -> Peaks {
        // Half the sum is the average. Truncated: silence with a little noise stays a line.
        #[expect(clippy::cast_possible_truncation, reason = "what is out of range becomes the outermost")]
        let level = |sum: f32| (sum * 0.5 * scale * 128.0) as i8;
        let peaks = self.peaks.iter().map(|(low, high)| (level(*low), level(*high))).collect();
        Peaks { sample_rate, samples_per_peak: self.samples_per_peak, peaks }
    }
}

/// The lowest and the highest sum of both channels. In lanes, enough for vectors to hide what each step takes: the compiler may not reorder floats by itself.
fn extremes(left: &[f32], right: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let lower = |a: f32, b: f32| if a < b { a } else { b };
    let higher = |a: f32, b: f32| if a > b { a } else { b };
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            let sum = left[lane] + right[lane];
            (low[lane], high[lane]) = (lower(sum, low[lane]), higher(sum, high[lane]));
        }
    }
    for (lane, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        (low[lane], high[lane]) = (lower(left + right, low[lane]), higher(left + right, high[lane]));
    }
    (low.into_iter().fold(f32::INFINITY, lower), high.into_iter().fold(f32::NEG_INFINITY, higher))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The peaks of these samples, which come in blocks of this size.
    fn gathered(left: &[f32], right: Option<&[f32]>, block: usize) -> Peaks {
        let mut meter = PeakMeter::new();
        for start in (0..left.len()).step_by(block) {
            let now = start..left.len().min(start + block);
            meter.add(&left[now.clone()], right.map(|right| &right[now]));
        }
        meter.finish(44_100, 1.0)
    }

    fn level(sample: f32) -> i8 {
        (sample * 128.0) as i8
    }

    #[test]
    fn a_peak_is_the_lowest_and_the_highest_of_the_averaged_channels() {
        let peaks = gathered(&[0.5, -0.5, 1.0, 1.0, -1.0], Some(&[0.25, -1.0, 1.0, 0.0, -1.0]), 2);
        assert_eq!(peaks.peaks, [(-96, 48), (64, 127), (-128, -128)]);
        assert_eq!(gathered(&[0.5, -0.25, 0.75], None, 3).peaks, [(-32, 64), (96, 96)]);
        let mut meter = PeakMeter::new();
        meter.add(&[0.5], None);
        assert_eq!(meter.finish(8_000, 0.5).peaks, [(32, 32)], "scaled");
    }

    #[test]
    fn there_are_512_to_1024_peaks_however_long_the_sound_is() {
        let mut meter = PeakMeter::new();
        let block = vec![0.25; 48_000];
        let mut samples = 0;
        for second in 0..36_000_u64 {
            let last = &block[..if second == 35_999 { 47_999 } else { 48_000 }];
            meter.add(last, None);
            samples += last.len() as u64;
            if second < 100 || second % 1000 == 0 || last.len() < 48_000 {
                let peaks = meter.finish(48_000, 1.0);
                assert!((512..=1024).contains(&peaks.peaks.len()), "{second}: {}", peaks.peaks.len());
                assert!(peaks.fit(samples, 48_000), "{second}");
                assert!(meter.peaks.capacity() <= MOST);
            }
        }
    }

    #[test]
    fn audiowaveforms_json_is_written() {
        let json = gathered(&[0.5, -0.5, 1.0], None, 3).to_json();
        let expected = r#"{"version":2,"channels":1,"sample_rate":44100,"samples_per_pixel":2,"bits":8,"length":2,"data":[-64,64,127,127]}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn peaks_that_are_not_of_the_sound_do_not_fit() {
        let peaks = gathered(&[0.0; 3000], None, 700);
        assert!(peaks.fit(3000, 44_100) && peaks.fit(2997, 44_100) && !peaks.fit(3001, 44_100));
        let (mut rate, mut scale, mut few, mut turned) =
            (peaks.clone(), peaks.clone(), peaks.clone(), peaks.clone());
        rate.sample_rate = 8_000;
        scale.samples_per_peak = 8;
        few.peaks.pop();
        turned.peaks[7] = (1, -1);
        for lie in [rate, scale, few, turned] {
            assert!(!lie.fit(3000, 44_100), "{lie:?}");
        }
        assert!(!peaks.fit(u64::MAX, 44_100));
    }

    proptest! {
        #[test]
        fn any_blocks_give_the_peaks_of_the_whole(
            length in 1..20_000_usize,
            block in 1..5_000_usize,
            stereo: bool,
            seed: u32,
        ) {
            let noise = |i: usize| (i as u32).wrapping_mul(seed | 1).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 * 2.0 - 1.0;
            let left: Vec<f32> = (0..length).map(noise).collect();
            let right: Vec<f32> = (0..length).map(|i| noise(i + length)).collect();
            let peaks = gathered(&left, stereo.then_some(&right), block);
            prop_assert!(peaks.fit(length as u64, 44_100));
            let mixed: Vec<f32> = left.iter().zip(if stereo { &right } else { &left }).map(|(l, r)| (l + r) * 0.5).collect();
            let pieces = mixed.chunks(peaks.samples_per_peak as usize);
            let expected: Vec<_> = pieces.map(|piece| (
                level(piece.iter().copied().fold(1.0, f32::min)),
                level(piece.iter().copied().fold(-1.0, f32::max)),
            )).collect();
            prop_assert_eq!(peaks.peaks, expected);
        }
    }
}
