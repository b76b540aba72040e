//! No sound track, two hundred of them, and sounds that are longer than their bytes suggest.

use std::fs::File;
use std::time::Duration;

use engine::{Code, Limits, Options};
use tempfile::TempDir;

use super::super::options::options;
use super::super::{long_wav, make};
use super::{assert_verdicts, convert, tight, verdict, verdict_with};

const NONE: &str = "no-audio";

#[test]
fn a_container_without_a_sound_track_has_no_audio() {
    let folder = TempDir::new().unwrap();
    let film = "-f lavfi -i testsrc=s=64x64:r=25:d=1 -an";
    let names = [
        ("it.mp4", "-c:v mpeg4"),
        ("fragments.mp4", "-c:v mpeg4 -movflags frag_keyframe+empty_moov"),
        ("it.mov", "-c:v mpeg4"),
        ("it.mkv", "-c:v mpeg4"),
        ("it.webm", "-c:v libvpx"),
        ("it.avi", "-c:v mpeg4"),
        ("it.flv", "-c:v flv"),
        ("it.ts", "-c:v mpeg2video"),
        ("it.mpg", "-c:v mpeg2video"),
        ("it.wmv", "-c:v wmv2"),
        ("it.ogv", "-c:v libtheora"),
        ("it.nut", "-c:v mpeg4"),
        ("it.mxf", "-c:v mpeg2video"),
    ];
    let films = names.map(|(name, output)| {
        let path = make(&folder, name, &format!("{film} {output}"));
        (name, std::fs::read(path).unwrap(), NONE)
    });
    assert_verdicts(&films);

    let words = folder.path().join("words.srt");
    std::fs::write(&words, "1\n00:00:00,000 --> 00:00:02,000\nHello\n").unwrap();
    let subtitles = make(&folder, "words.mkv", &format!("-i {} -c:s srt", words.display()));
    assert_eq!(verdict("subtitles", &std::fs::read(subtitles).unwrap()), NONE);
}

/// Two hundred tracks of a fifth of a second; the one with this number, counted from 1, is marked as default and twice as long.
fn two_hundred(folder: &TempDir, name: &str, default: usize, output: &str) -> Vec<u8> {
    let mut arguments = "-f lavfi -i sine=r=8000:d=0.2 -f lavfi -i sine=r=8000:d=0.4".to_owned();
    for track in 1..=200 {
        arguments += if track == default { " -map 1" } else { " -map 0" };
    }
    for track in 1..=200 {
        let mark = if track == default { "default" } else { "0" };
        arguments += &format!(" -disposition:a:{} {mark}", track - 1);
    }
    std::fs::read(make(folder, name, &format!("{arguments} {output}"))).unwrap()
}

#[test]
fn of_two_hundred_tracks_the_default_is_taken_or_the_one_that_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let (short, long) = ("mp3 8000 1 1600", "mp3 8000 1 3200");
    // FFmpeg's writers of NUT and of transport streams stop before.
    for (name, output) in [("it.mkv", "-c:a pcm_s16le"), ("it.mka", "-c:a flac")] {
        let bytes = two_hundred(&folder, name, 150, output);
        let of = |wish: &str| verdict_with(&format!("{name} {wish}"), &bytes, &options(wish), &tight());
        assert_eq!((of("").as_str(), of("track=150").as_str()), (long, long), "{name}");
        assert_eq!((of("track=1").as_str(), of("track=200").as_str()), (short, short), "{name}");
        assert_eq!(of("track=201"), "no-such-track", "{name}");
    }
}

#[test]
fn hours_of_silence_in_few_bytes_are_held_to_the_limits() {
    let folder = TempDir::new().unwrap();
    let day = "-f lavfi -i anullsrc=r=8000:cl=mono:n=65535 -t 86400";
    let flac = make(&folder, "day.flac", &format!("{day} -c:a flac -frame_size 65535 -compression_level 0"));
    let flac = std::fs::read(flac).unwrap();
    assert!(flac.len() < 1 << 20, "{}", flac.len());
    let hour = Limits { duration: Duration::from_secs(3600), ..tight() };
    assert_eq!(verdict_with("a day of flac", &flac, &Options::default(), &hour), "too-long");
    let small = Limits { output: 1 << 20, ..tight() };
    assert_eq!(verdict_with("a day of flac", &flac, &options("cbr=320"), &small), "output-too-large");
    let brief = Limits { cpu: Duration::from_secs(1), ..tight() };
    assert_eq!(verdict_with("a day of flac", &flac, &options("vbr=0"), &brief), "cpu-limit");

    let hours = "-f lavfi -i anullsrc=r=8000:cl=mono:n=65535 -t 7200";
    for (name, output) in [
        ("hours.wv", "-c:a wavpack"),
        ("hours.mkv", "-c:a flac -frame_size 65535"),
        ("hours.tta", "-c:a tta"),
    ] {
        let bytes = std::fs::read(make(&folder, name, &format!("{hours} {output}"))).unwrap();
        assert_eq!(verdict_with(name, &bytes, &Options::default(), &hour), "too-long", "{name}");
    }
}

#[test]
fn what_says_that_it_is_too_long_is_refused_before_any_of_it_is_converted() {
    let folder = TempDir::new().unwrap();
    let silence = "-f lavfi -i anullsrc=r=8000:cl=mono:n=65535 -t 7200 -c:a flac -frame_size 65535";
    // So few bytes for hours are not believed, and counted; the others are.
    for (path, seconds) in [(make(&folder, "hours.mkv", silence), 3600), (long_wav(&folder, 1200), 600)] {
        let limits = Limits { duration: Duration::from_secs(seconds), ..tight() };
        let (file, mut mp3) = (File::open(&path).unwrap(), Vec::new());
        let error = convert("too long", file, &mut mp3, &Options::default(), &limits).unwrap_err();
        assert_eq!((error.code, mp3.len()), (Code::TooLong, 0), "{}", path.display());
    }
}

#[test]
fn what_says_that_it_is_short_is_held_to_the_limits_all_the_same() {
    let folder = TempDir::new().unwrap();
    let hours = "-f lavfi -i anullsrc=r=8000:cl=mono:n=65535 -t 7200 -c:a flac -frame_size 65535";
    let mut flac = std::fs::read(make(&folder, "hours.flac", hours)).unwrap();
    // STREAMINFO's total of samples, 36 bits: a minute.
    flac[21] &= 0xf0;
    flac[22..26].copy_from_slice(&(60_u32 * 8000).to_be_bytes());
    let hour = Limits { duration: Duration::from_secs(3600), ..tight() };
    assert_eq!(verdict_with("hours that say a minute", &flac, &Options::default(), &hour), "too-long");
    // In this process there is no parent to count as well.
    let path = folder.path().join("hours.flac");
    let small = Limits { output: 1 << 20, ..tight() };
    let error = super::super::convert(&path, &options("cbr=320"), &small).map(drop).unwrap_err();
    assert_eq!(error.code, Code::OutputTooLarge);
}
