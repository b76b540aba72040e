//! The sound that tells channels apart, and what two sounds have in common.

use std::f64::consts::TAU;

/// Planar samples.
pub(super) type Planes = Vec<Vec<f32>>;

/// How long the test sounds are: no multiple of any codec's frame.
pub(super) const SECONDS: f64 = 2.345;

/// A sound of which each channel has a tone, a sweep, a noise and a level of its own, all below what MP3 cuts off. The channels have nothing in
/// common, and are so quiet that all of them together do not clip.
pub(super) fn signal(rate: u32, channels: usize) -> Planes {
    (0..channels).map(|channel| plane(f64::from(rate), channel)).collect()
}

fn plane(rate: f64, channel: usize) -> Vec<f32> {
    let number = channel as f64;
    let highest = (rate * 0.4).min(15_000.0);
    let level = 0.09 * (1.0 + number * 0.12);
    let mut noise = Noise::new(1 + channel as u64, rate, highest);
    let sample = |i: u32| {
        let time = f64::from(i) / rate;
        let tone = (TAU * (0.03 + 0.017 * number) * highest * time).sin();
        let way = time / SECONDS;
        let sweep = (TAU * highest * time * (0.05 + (0.45 - 0.03 * number) * way)).sin();
        let fade = (time * 200.0).min(1.0);
        (level * fade * (tone + 0.5 * sweep + 0.2 * noise.next())) as f32
    };
    (0..(rate * SECONDS) as u32).map(sample).collect()
}

/// Noise whose band has an edge: many tones of random frequency and phase, each a number that turns in the complex plane.
struct Noise {
    tones: [[f64; 2]; 24],
    turns: [[f64; 2]; 24],
}

impl Noise {
    fn new(mut state: u64, rate: f64, highest: f64) -> Noise {
        let mut random = || {
            // Knuth's MMIX generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let unit = |angle: f64| [angle.cos(), angle.sin()];
        let turns = std::array::from_fn(|_| unit(TAU * (60.0 + random() * (highest - 60.0)) / rate));
        Noise { tones: std::array::from_fn(|_| unit(TAU * random())), turns }
    }

    fn next(&mut self) -> f64 {
        let mut sum = 0.0;
        for ([x, y], [cos, sin]) in self.tones.iter_mut().zip(&self.turns) {
            (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
            sum += *y;
        }
        sum
    }
}

/// Samples by turns, as raw files have them.
pub(super) fn interleaved(planes: &Planes) -> Vec<u8> {
    let frames = planes.first().map_or(0, Vec::len);
    (0..frames).flat_map(|i| planes.iter().flat_map(move |plane| plane[i].to_le_bytes())).collect()
}

/// The reverse of [`interleaved`].
pub(super) fn planar(bytes: &[u8], channels: usize) -> Planes {
    let mut planes = vec![Vec::with_capacity(bytes.len() / 4 / channels); channels];
    for (i, sample) in bytes.chunks_exact(4).enumerate() {
        planes[i % channels].push(f32::from_le_bytes(sample.try_into().unwrap()));
    }
    planes
}

/// How one channel of an MP3 compares with its reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Likeness {
    /// How loud each is, against full scale.
    pub expected: f64,
    pub found: f64,
    /// 1 is the same.
    pub correlation: f64,
    /// How much more it has of the other channel than it should have, as a difference of correlations.
    pub crossed: f64,
    /// At which shift it fits best, in samples.
    pub shift: isize,
}

/// Compares channel by channel.
pub(super) fn compare(reference: &Planes, found: &Planes) -> Vec<Likeness> {
    let one = |channel: usize| {
        let (expected, found) = (&reference[channel][..], &found[channel][..]);
        let other = (reference.len() == 2).then(|| &reference[1 - channel][..]);
        Likeness {
            expected: 10.0 * power(expected).log10(),
            found: 10.0 * power(found).log10(),
            correlation: correlation(expected, found),
            crossed: other.map_or(0.0, |other| correlation(other, found) - correlation(other, expected)),
            shift: shift(expected, found),
        }
    };
    (0..reference.len()).map(one).collect()
}

fn power(samples: &[f32]) -> f64 {
    dot(samples, samples) / samples.len().max(1) as f64
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    // In short runs of single precision, which the compiler can take several at a time.
    let lanes = |(a, b): (&[f32], &[f32])| {
        let mut sums = [0.0_f32; 8];
        for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
            for i in 0..8 {
                sums[i] += a[i] * b[i];
            }
        }
        let rest = a.len().min(b.len()) / 8 * 8;
        let tail: f32 = a[rest..].iter().zip(&b[rest..]).map(|(a, b)| a * b).sum();
        f64::from(sums.iter().sum::<f32>() + tail)
    };
    a.chunks(1024).zip(b.chunks(1024)).map(lanes).sum()
}

fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let shared = a.len().min(b.len());
    let (a, b) = (&a[..shared], &b[..shared]);
    let energy = (dot(a, a) * dot(b, b)).sqrt();
    if energy > 0.0 { dot(a, b) / energy } else { 0.0 }
}

/// At which shift a piece from the middle is found again, unless it fits as well where it is; more than any codec's frame is looked at.
fn shift(expected: &[f32], found: &[f32]) -> isize {
    const REACH: usize = 1300;
    const LONGEST: usize = 3000;
    let shared = expected.len().min(found.len());
    let reach = REACH.min(shared / 4);
    let length = LONGEST.min(shared - 2 * reach);
    let start = (shared - length) / 2;
    let piece = &expected[start..start + length];
    let fits = |shift: usize| correlation(piece, &found[start + shift - reach..][..length]);
    let here = fits(reach);
    let best = (0..=2 * reach).map(|shift| (fits(shift), shift)).max_by(|a, b| a.0.total_cmp(&b.0));
    let (_, best) = best.filter(|(fit, _)| *fit > here + 1e-4).unwrap_or((here, reach));
    best.cast_signed() - reach.cast_signed()
}
