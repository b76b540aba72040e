//! Files that are foreign, lie, or change while they are read: each ends in its stable error code or in a right MP3, within time and memory,
//! and whatever the engine process makes of them, its parent goes on.

mod boxes;
mod changing;
mod foreign;
mod garbled;
mod tracks;
mod wav;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use engine::{Cancel, Error, FileSink, Input, Limits, Options, Sink, Summary, mp3};

use super::engine;

/// What one of these files may cost; all of them take far less.
fn tight() -> Limits {
    Limits {
        memory: 256 << 20,
        cpu: Duration::from_secs(20),
        stall: Duration::from_secs(10),
        output: 64 << 20,
        threads: 1,
        ..Limits::default()
    }
}

/// No file here may take longer, on a machine that does other things, too.
const LONGEST: Duration = Duration::from_secs(20);

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Converts in an engine process, and looks at what came of it: an MP3 that is what its summary says, or an error that helps.
fn convert(
    name: &str,
    file: File,
    sink: &mut dyn Sink,
    options: &Options,
    limits: &Limits,
) -> Result<Summary, Error> {
    let begun = Instant::now();
    let result =
        engine("hostile").convert(Input::File(file), sink, options, limits, &Cancel::new(), &mut |_| ());
    assert!(begun.elapsed() < LONGEST, "{name} took {:?}", begun.elapsed());
    if let Err(error) = &result {
        assert_helps(name, error);
    }
    result
}

/// An error says what failed, why, and how to mend it: at least two thoughts, whole sentences, nothing of ours or libav's inside.
fn assert_helps(name: &str, error: &Error) {
    let Error { code, text, .. } = error;
    let thoughts = text.matches(['.', ':', ',']).count();
    let whole =
        text.starts_with(char::is_uppercase) && text.ends_with('.') && text.len() > 50 && thoughts >= 2;
    assert!(whole && !text.contains(['\n', '@', '[']), "{name}: {code}: {text}");
}

/// The verdict on a file in a few words: the error's code, or `mp3 RATE CHANNELS SAMPLES`.
fn verdict_with(name: &str, bytes: &[u8], options: &Options, limits: &Limits) -> String {
    let mut sink = FileSink::new(tempfile::tempfile().unwrap());
    match convert(name, file_of(bytes), &mut sink, options, limits) {
        Ok(summary) => {
            assert_whole(name, &summary, sink.into_file());
            format!("mp3 {} {} {}", summary.sample_rate, summary.channels, summary.samples)
        }
        Err(error) => {
            println!("{name}: {error} ({:?})", error.source.as_ref().map(ToString::to_string));
            error.code.to_string()
        }
    }
}

fn verdict(name: &str, bytes: &[u8]) -> String {
    verdict_with(name, bytes, &Options::default(), &tight())
}

/// The MP3 is one, and is what its summary says.
fn assert_whole(name: &str, summary: &Summary, mut file: File) {
    let mut made = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut made).unwrap();
    let facts = mp3::check(&made[..]).unwrap_or_else(|defect| panic!("{name}: {defect}"));
    assert_eq!((facts.samples, facts.bytes), (summary.samples, summary.bytes), "{name}");
}

/// Asserts the verdict on each file; `a|b` allows either.
fn assert_verdicts<N: AsRef<str>>(cases: &[(N, Vec<u8>, &str)]) {
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|(name, bytes, expected)| {
            let (name, found) = (name.as_ref(), verdict(name.as_ref(), bytes));
            let right = expected.split('|').any(|expected| expected == found);
            (!right).then(|| format!("{name}: {found} instead of {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Bytes without any order, the same ones every time: Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
