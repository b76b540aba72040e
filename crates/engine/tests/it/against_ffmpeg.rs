//! Each file becomes an MP3 that sounds as FFmpeg's program decodes the file: as long, left in left, as loud, no sample earlier or later.
//!
//! FFmpeg makes the files (`cases`), and the real ones of the repository come along. How more than two channels are mixed FFmpeg cannot
//! judge, as both do it by the same library: that is held against the rule of docs/api.md (`mix`).

mod cases;
mod mix;
mod signal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::{Limits, Summary};
use tempfile::TempDir;

use super::options::options;
use super::{convert, ffmpeg, media, real_files};
pub(super) use cases::CASES;
use cases::{Case, channels};
use signal::{Likeness, Planes, SECONDS, compare, interleaved, planar, signal};

/// No quieter channel is compared: what is there is the rest of what the mix cancels.
const SILENT: f64 = -70.0;

/// What FFmpeg's program decodes of the first sound track, at this rate and with so many channels. What is too loud is clipped, as it is
/// before the encoder.
fn decoded_planes(path: &Path, rate: u32, channels: u8) -> Planes {
    let (rate, count) = (rate.to_string(), channels.to_string());
    let path = path.to_str().unwrap();
    let pcm =
        ffmpeg_that_may_warn(&["-i", path, "-map", "0:a:0", "-ac", &count, "-ar", &rate, "-f", "f32le", "-"]);
    let mut planes = planar(&pcm, channels.into());
    planes.iter_mut().flatten().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
    planes
}

/// Real files and some encoders bring warnings that do not matter here.
fn ffmpeg_that_may_warn(arguments: &[&str]) -> Vec<u8> {
    ffmpeg(&[&["-v", "fatal"], arguments].concat())
}

/// Asserts that the MP3 of a file of this sample rate sounds as FFmpeg decodes the file; returns a row of the table.
fn assert_alike(path: &Path, rate: u32) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let (summary, mp3) = at_its_best(path, rate);
    let reference = decoded_planes(path, summary.sample_rate, summary.channels);
    assert_same(name, rate, &reference, &summary, &mp3)
}

/// With as many bits as MP3 can take, so that what is measured is ours and not the codec's.
fn at_its_best(path: &Path, rate: u32) -> (Summary, Vec<u8>) {
    let quality = if rate > 24_000 { "cbr=320" } else { "vbr=0" };
    convert(path, &options(quality), &Limits::default())
        .unwrap_or_else(|error| panic!("{}: {} {error:?}", path.display(), error.code))
}

/// Asserts that an MP3 of a sound of this sample rate is like the reference; returns a row of the table.
fn assert_same(name: &str, rate: u32, reference: &Planes, summary: &Summary, mp3: &[u8]) -> String {
    let found = decoded_mp3(summary, mp3);
    let (expected, length) = (reference[0].len(), found[0].len());
    assert_eq!(length as u64, summary.samples, "{name}: the MP3 is not as long as was said");
    let likenesses = compare(reference, &found);
    let row = row(name, summary, length as i64 - expected as i64, &likenesses);
    // Resampling may round the last sample away.
    let slack = usize::from(rate != summary.sample_rate);
    assert!(length.abs_diff(expected) <= slack, "{length} samples instead of {expected}\n{row}");
    assert!(likenesses.iter().all(|likeness| is_alike(likeness, summary.sample_rate)), "\n{row}");
    row
}

fn decoded_mp3(summary: &Summary, mp3: &[u8]) -> Planes {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("it.mp3");
    std::fs::write(&path, mp3).unwrap();
    planar(&ffmpeg(&["-i", path.to_str().unwrap(), "-f", "f32le", "-"]), summary.channels.into())
}

fn is_alike(likeness: &Likeness, rate: u32) -> bool {
    let Likeness { expected, found, correlation, crossed, shift } = *likeness;
    if expected < SILENT {
        return found < SILENT + 3.0;
    }
    // Old codecs fill the upper edge of their band with noise, which MP3 cuts off: the more of it the narrower the band.
    let least = match rate {
        ..16_000 => 0.99,
        16_000..32_000 => 0.995,
        _ => 0.998,
    };
    (found - expected).abs() < 0.1 && correlation > least && crossed.abs() < 0.02 && shift == 0
}

fn row(name: &str, summary: &Summary, longer: i64, likenesses: &[Likeness]) -> String {
    let channel = |likeness: &Likeness| {
        let Likeness { expected, found, correlation, crossed, shift } = likeness;
        let louder = found - expected;
        format!("| {expected:6.1} {louder:+.3} dB {correlation:.5} crossed {crossed:+.3} at {shift:+} ")
    };
    let Summary { container, codec, sample_rate, .. } = summary;
    let facts = format!("{name:38} {container:9} {codec:15} {sample_rate:6} {longer:+} ");
    facts + &likenesses.iter().map(channel).collect::<String>()
}

/// Makes the file of a case from our signal.
pub(super) fn made(folder: &TempDir, case: &Case<'_>) -> PathBuf {
    let count = channels(case.layout);
    let raw = folder.path().join(format!("{}.raw", case.name));
    std::fs::write(&raw, interleaved(&signal(case.rate, count))).unwrap();
    let path = folder.path().join(case.name);
    let (rate, seconds) = (case.rate.to_string(), SECONDS.to_string());
    let picture = format!("testsrc=s=176x144:r=25:d={seconds}");
    let mut arguments = vec!["-f", "f32le", "-ar", &rate, "-channel_layout", case.layout];
    let count = count.to_string();
    arguments.extend(["-ac", &count, "-i", raw.to_str().unwrap()]);
    if case.arguments.contains("-c:v") {
        arguments.extend(["-f", "lavfi", "-i", &picture]);
    }
    arguments.extend(case.arguments.split(' '));
    arguments.push(path.to_str().unwrap());
    ffmpeg_that_may_warn(&arguments);
    std::fs::remove_file(raw).unwrap();
    path
}

/// Runs `check` on each item, two at a time; prints the rows, and fails with all that failed.
pub(super) fn all<T: Sync>(items: &[T], check: impl Fn(&T) -> String + Sync) {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let work = || {
        while let Some((i, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
        {
            let row = catch_unwind(AssertUnwindSafe(|| check(item)));
            rows.lock().unwrap().push((i, row));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(i, _)| *i);
    let failed = rows.iter().filter(|(_, row)| row.is_err()).count();
    for (_, row) in rows {
        println!("{}", row.unwrap_or_else(|_| "failed, see above".to_owned()));
    }
    assert_eq!(failed, 0, "of {}", items.len());
}

#[test]
fn each_made_file_sounds_as_ffmpeg_decodes_it() {
    let folder = TempDir::new().unwrap();
    all(CASES, |case| {
        let path = made(&folder, case);
        let row = assert_alike(&path, case.rate);
        std::fs::remove_file(path).unwrap();
        row
    });
}

#[test]
fn each_real_file_sounds_as_ffmpeg_decodes_it() {
    let golden = std::fs::read_to_string(media().join("golden.toml")).unwrap();
    let golden: toml::Table = toml::from_str(&golden).unwrap();
    let rate = |path: PathBuf| {
        let rate = golden[path.file_name().unwrap().to_str().unwrap()].get("rate")?;
        Some((path, u32::try_from(rate.as_integer().unwrap()).unwrap()))
    };
    let files: Vec<_> = real_files().into_iter().filter_map(rate).collect();
    assert!(files.len() > 20);
    all(&files, |(path, rate)| assert_alike(path, *rate));
}
