//! The peaks are those of the MP3, by FFmpeg's word: gain, piece and channels included.

use engine::{Limits, Peaks};
use tempfile::TempDir;

use super::options::options;
use super::{convert, ffmpeg, make, media};

/// What FFmpeg decodes, the average of its channels. Its own mix of floats is louder.
fn decoded(path: &std::path::Path, channels: u8) -> Vec<f32> {
    let bytes = ffmpeg(&["-i", path.to_str().unwrap(), "-map", "0:a:0", "-f", "f32le", "-"]);
    let samples: Vec<f32> =
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let frames = samples.chunks_exact(channels.into());
    frames.map(|frame| frame.iter().sum::<f32>() / f32::from(channels)).collect()
}

/// The lowest and the highest of each piece, -128 to 127.
fn extremes(samples: &[f32], samples_per_peak: u32) -> Vec<(f32, f32)> {
    let level = |sample: f32| (sample * 128.0).clamp(-128.0, 127.0);
    let pieces = samples.chunks(samples_per_peak as usize);
    let extremes = pieces
        .map(|piece| (piece.iter().copied().fold(1.0, f32::min), piece.iter().copied().fold(-1.0, f32::max)));
    extremes.map(|(low, high)| (level(low), level(high))).collect()
}

/// How far apart two pictures are, on average, in levels; half a level is what whole numbers cost.
fn distance(peaks: &Peaks, expected: &[(f32, f32)]) -> f32 {
    assert_eq!(peaks.peaks.len(), expected.len());
    let pairs = peaks.peaks.iter().zip(expected);
    let sum: f32 = pairs
        .map(|(ours, theirs)| (f32::from(ours.0) - theirs.0).abs() + (f32::from(ours.1) - theirs.1).abs())
        .sum();
    sum / expected.len() as f32 / 2.0
}

#[test]
fn peaks_are_those_that_ffmpeg_finds_in_the_mp3() {
    let folder = TempDir::new().unwrap();
    // Left and right differ, and the level goes up and down.
    let noise = "-f lavfi -i anoisesrc=d=20:c=brown:a=0.9:seed=1:r=44100 -f lavfi -i sine=f=300:d=20:r=44100 \
                 -filter_complex [0:a][1:a]amerge,tremolo=f=0.2:d=0.9";
    let noise = make(&folder, "noise.wav", noise);
    let short = make(&folder, "short.wav", "-f lavfi -i aevalsrc=0.5|0.25:s=44100:d=0.00002267");
    let bbb = media().join("bbb_480p_30s.mp4");
    let cases = [
        (&noise, "cbr=320", 0.7),
        (&noise, "cbr=320 mono=1", 0.7),
        (&noise, "cbr=320 trim=3.3-11.7", 0.7),
        (&noise, "cbr=320 loudness=-30", 0.7),
        (&noise, "abr=48", 1.2),
        (&noise, "preset=voice", 0.9),
        (&bbb, "preset=music", 0.7),
        (&bbb, "preset=original mono=1", 0.7),
        (&short, "cbr=320", 8.0),
    ];
    for (path, wish, most) in cases {
        let (summary, mp3) = convert(path, &options(wish), &Limits::default()).unwrap();
        let peaks = summary.peaks.expect("the sound was decoded");
        let mp3_path = folder.path().join("it.mp3");
        std::fs::write(&mp3_path, mp3).unwrap();
        let decoded = decoded(&mp3_path, summary.channels);
        assert_eq!((decoded.len() as u64, peaks.sample_rate), (summary.samples, summary.sample_rate));
        let expected = extremes(&decoded, peaks.samples_per_peak);
        let found = distance(&peaks, &expected);
        println!(
            "{wish}: {} peaks of {} samples, {found:.2} levels apart",
            expected.len(),
            peaks.samples_per_peak
        );
        assert!(found < most, "{wish}: {found}");
        assert!(expected.len() >= 512 || summary.samples < 1024);
    }
}
