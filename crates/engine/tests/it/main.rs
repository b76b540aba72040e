//! The engine's tests: real and generated media in, MP3 out, checked by our own walker and by FFmpeg's program.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod against_ffmpeg;
mod checker;
mod copy;
mod damaged;
mod generated;
mod golden;
mod hostile;
mod joins;
mod options;
mod peaks;
mod process;
mod ranges;
mod sandbox;
mod streaming;
mod tags;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::{Cancel, Engine, Error, FileSink, Input, Limits, Options, Summary, mp3};
use tempfile::TempDir;

/// The folder of real media.
fn media() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../media")
}

/// The real media, without what is written about them.
fn real_files() -> Vec<PathBuf> {
    let about = |name: &str| name.ends_with(".md") || name.ends_with(".toml") || name.starts_with("LICENSE");
    let files = std::fs::read_dir(media()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| !about(path.file_name().unwrap().to_str().unwrap())).collect()
}

/// The engine as a process; `mark` names it among the processes of this machine.
fn engine(mark: &str) -> Engine {
    Engine::program(env!("CARGO_BIN_EXE_engine-child"), [mark])
}

/// Converts in this process.
fn convert(path: &Path, options: &Options, limits: &Limits) -> Result<(Summary, Vec<u8>), Error> {
    let mut mp3 = Vec::new();
    let source = File::open(path).unwrap();
    let summary = engine::convert(&source, &mut mp3, options, limits, &mut |_| ControlFlow::Continue(()))?;
    Ok((summary, mp3))
}

/// Converts in an engine process.
fn convert_in_child(path: &Path, limits: &Limits) -> Result<(Summary, Vec<u8>), Error> {
    let input = Input::File(File::open(path).unwrap());
    let mut sink = FileSink::new(tempfile::tempfile().unwrap());
    let summary = engine("plain").convert(
        input,
        &mut sink,
        &Options::default(),
        limits,
        &Cancel::new(),
        &mut |_| (),
    )?;
    let mut mp3 = Vec::new();
    let mut file = sink.into_file();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut mp3).unwrap();
    Ok((summary, mp3))
}

/// Asserts that an MP3 is what its summary says, by our own walk and by FFmpeg's decoder at its strictest.
fn assert_sound(name: &str, summary: &Summary, mp3: &[u8]) {
    let facts = mp3::check(mp3).unwrap_or_else(|defect| panic!("{name}: {defect}"));
    let said = (summary.samples, summary.sample_rate, summary.channels, summary.bytes);
    assert_eq!((facts.samples, facts.sample_rate, facts.channels, facts.bytes), said, "{name}");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("it.mp3");
    std::fs::write(&path, mp3).unwrap();
    assert_eq!(decoded(&path) / u64::from(summary.channels), summary.samples, "{name}, by FFmpeg");
}

/// FFmpeg's program: the one that FFMPEG names, or that is on PATH.
fn ffmpeg_program() -> Command {
    Command::new(std::env::var_os("FFMPEG").unwrap_or_else(|| "ffmpeg".into()))
}

/// Runs FFmpeg's program, which must not complain.
fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let run = ffmpeg_program().args(["-nostdin", "-v", "error", "-y"]).args(arguments).output();
    let run = run.expect("ffmpeg is installed: cargo xtask setup");
    assert!(
        run.status.success() && run.stderr.is_empty(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    run.stdout
}

/// How many samples, of all channels, FFmpeg's program decodes from the first sound track without any complaint.
fn decoded(path: &Path) -> u64 {
    let path = path.to_str().unwrap();
    let pcm = ffmpeg(&["-xerror", "-err_detect", "explode", "-i", path, "-map", "0:a:0", "-f", "s16le", "-"]);
    pcm.len() as u64 / 2
}

/// Makes a media file from FFmpeg's arguments, the output left out; spaces separate them.
fn make(folder: &TempDir, name: &str, arguments: &str) -> PathBuf {
    let path = folder.path().join(name);
    let mut all: Vec<&str> = arguments.split(' ').collect();
    all.push(path.to_str().unwrap());
    ffmpeg(&all);
    path
}

/// A WAV file of `seconds` of a quiet saw tooth: 8 bits, mono, 44.1 kHz.
fn long_wav(folder: &TempDir, seconds: u32) -> PathBuf {
    let length = seconds * 44_100;
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((length + 36).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(44_100_u32.to_le_bytes());
    wav.extend(44_100_u32.to_le_bytes());
    wav.extend(b"\x01\0\x08\0data");
    wav.extend(length.to_le_bytes());
    wav.extend((0..length).map(|i| 96 + (i % 61) as u8 + (i / 1000 % 7) as u8));
    let path = folder.path().join("long.wav");
    std::fs::write(&path, wav).unwrap();
    path
}
