//! Files that are empty, cut, foreign or hostile end in an error that says so.

use std::path::Path;
use std::time::Duration;

use engine::{Code, Kind, Limits, Options};
use tempfile::TempDir;

use super::{convert, convert_in_child, decoded, make, media, real_files};

fn code(path: &Path) -> Result<u64, Code> {
    let result = convert(path, &Options::default(), &Limits::default());
    result.map(|(summary, _)| summary.samples).map_err(|error| {
        println!("{}: {} {error}", path.display(), error.code);
        error.code
    })
}

#[test]
fn what_is_no_media_is_refused() {
    let folder = TempDir::new().unwrap();
    let secret = media().join("wav__sample.wav");
    let secret = secret.to_str().unwrap();
    let cases = [
        (String::new(), Code::EmptyFile),
        ("This is no video.\n".repeat(1000), Code::NotMedia),
        ("\0".repeat(100_000), Code::NotMedia),
        (format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"), Code::NotMedia),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n".to_owned(), Code::NotMedia),
        (format!("ffconcat version 1.0\nfile '{secret}'\n"), Code::NotMedia),
        ("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n".to_owned(), Code::NotMedia),
        ("<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"urn:mpeg:dash:profile:isoff-live:2011\"></MPD>".to_owned(), Code::NotMedia),
    ];
    for (content, expected) in cases {
        let path = folder.path().join("video.mp4");
        std::fs::write(&path, &content).unwrap();
        assert_eq!(code(&path), Err(expected), "{content:.40}");
    }
}

#[test]
fn a_cut_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let input = "-f lavfi -i testsrc=s=320x240:r=25:d=20 -f lavfi -i anoisesrc=r=44100:d=20:a=0.3";
    let cases = [
        ("last.mp4", "-c:a aac"),
        ("first.mp4", "-c:a aac -movflags +faststart"),
        ("fragments.mp4", "-c:a aac -g 25 -movflags frag_keyframe+empty_moov"),
        ("cut.mkv", "-c:a aac"),
        ("cut.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libvorbis"),
        ("cut.avi", "-c:a libmp3lame"),
        ("cut.flv", "-c:v flv -c:a libmp3lame"),
        ("cut.wmv", "-c:v wmv2 -c:a wmav2"),
        ("cut.wav", "-vn"),
        ("cut.flac", "-vn"),
        ("cut.mp3", "-vn -b:a 128k"),
    ];
    for (name, output) in cases {
        let path = make(&folder, name, &format!("{input} {output}"));
        assert!(code(&path).is_ok(), "{name}, whole");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() * 6 / 10).unwrap();
        assert_eq!(code(&path), Err(Code::Truncated), "{name}, cut");
    }
}

#[test]
fn a_short_track_and_a_cut_broadcast_are_no_cut_files() {
    let folder = TempDir::new().unwrap();
    let input = "-f lavfi -i testsrc=s=320x240:r=25:d=20 -f lavfi -i sine=r=44100:d=4";
    for (name, output) in
        [("short.mkv", "-c:a aac"), ("short.avi", "-c:a libmp3lame"), ("short.mp4", "-c:a aac")]
    {
        let path = make(&folder, name, &format!("{input} {output}"));
        let samples = code(&path).unwrap();
        assert!(samples.abs_diff(4 * 44_100) < 4096, "{name}: {samples}");
    }
    let path = make(&folder, "cut.ts", "-f lavfi -i sine=r=44100:d=20 -c:a mp2");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    assert!(code(&path).is_ok());
}

/// In a video, sound begins late, ends early and has holes; a WAV header's byte rate is often wrong.
#[test]
fn sound_that_is_shorter_than_its_file_is_whole() {
    let folder = TempDir::new().unwrap();
    let black = "-f lavfi -i color=black:s=320x240:r=25:d=30";
    let late = format!("{black} -itsoffset 15 -f lavfi -i sine=d=15");
    let early = format!("{black} -f lavfi -i anoisesrc=d=15");
    let test = "-f lavfi -i testsrc=s=320x240:r=25:d=30 -f lavfi -i sine=r=48000:d=30";
    let noise = "-f lavfi -i anoisesrc=d=20:r=44100 -c:a";
    let cases = [
        ("late.mkv", format!("{late} -c:v libx264 -c:a aac")),
        ("late.wmv", late.clone()),
        ("late.flv", late.clone()),
        ("early.mkv", format!("{early} -c:v libx264 -c:a aac")),
        ("early.flv", format!("{early} -c:v libx264 -c:a aac")),
        ("early.avi", format!("{early} -c:a libmp3lame")),
        (
            "gap.webm",
            format!(
                "{test} -af aselect='not(between(t,8,20))' -c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus"
            ),
        ),
        ("ima.wav", format!("{noise} adpcm_ima_wav")),
        ("ms.wav", format!("{noise} adpcm_ms")),
        ("yamaha.wav", format!("{noise} adpcm_yamaha")),
    ];
    for (name, arguments) in cases {
        let path = make(&folder, name, &arguments);
        let (summary, _) = convert(&path, &Options::default(), &Limits::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = decoded(&path) / u64::from(summary.channels);
        // Codecs pad the end of what they hold.
        assert!(summary.samples.abs_diff(expected) < 4096, "{name}: {} of {expected}", summary.samples);
    }
}

#[test]
fn a_garbled_middle_is_skipped_and_garbage_alone_is_corrupt() {
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "garbled.m4a", "-f lavfi -i anoisesrc=r=44100:d=20:a=0.3 -c:a aac");
    let whole = std::fs::read(&path).unwrap();
    let garble = |from: usize, to: usize| {
        let mut bytes = whole.clone();
        for (i, byte) in bytes[from..to].iter_mut().enumerate() {
            *byte = ((i * 7919) >> 3) as u8;
        }
        std::fs::write(&path, bytes).unwrap();
    };
    garble(whole.len() / 3, whole.len() / 3 + 5000);
    assert!(code(&path).unwrap() > 15 * 44_100);
    garble(100, whole.len() * 9 / 10);
    assert_eq!(code(&path), Err(Code::Corrupt));
}

/// Flips bytes of every real file, in the head most of all, by a fixed sequence: whatever comes out, the process neither dies nor hangs.
#[test]
fn a_file_with_a_large_hole_is_corrupt() {
    let folder = TempDir::new().unwrap();
    let input = "-f lavfi -i testsrc=s=320x240:r=25:d=20 -f lavfi -i anoisesrc=r=44100:d=20:a=0.3";
    for (name, output) in [
        ("hole.mkv", "-c:a aac"),
        ("hole.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libvorbis"),
        ("hole.flv", "-c:v flv -c:a libmp3lame"),
        ("hole.wmv", "-c:v wmv2 -c:a wmav2"),
    ] {
        let path = make(&folder, name, &format!("{input} {output}"));
        assert!(code(&path).is_ok(), "{name}, whole");
        let whole = std::fs::read(&path).unwrap();
        for (from, to) in [(2, 7), (3, 10)] {
            let mut holed = whole.clone();
            holed[whole.len() * from / 10..whole.len() * to / 10].fill(0);
            std::fs::write(&path, holed).unwrap();
            let refused = code(&path);
            assert!(matches!(refused, Err(Code::Corrupt | Code::Truncated)), "{name}: {refused:?}");
        }
    }
}

#[test]
fn a_garbled_real_file_never_ends_the_process() {
    const ROUNDS: u64 = 3;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("garbled");
    for real in real_files() {
        let whole = std::fs::read(&real).unwrap();
        for round in 1..=ROUNDS {
            let mut bytes = whole.clone();
            let mut state = round;
            for _ in 0..round * 8 {
                // Knuth's MMIX generator.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let reach = if state & 1 == 0 { bytes.len() } else { bytes.len().min(2000) };
                let at = (state >> 16) as usize % reach;
                bytes[at] = (state >> 8) as u8;
            }
            std::fs::write(&path, &bytes).unwrap();
            let limits = Limits { stall: Duration::from_secs(10), ..Limits::default() };
            if let Err(error) = convert_in_child(&path, &limits) {
                let of_the_file = error.kind() == Kind::Permanent || error.code == Code::OutOfMemory;
                assert!(of_the_file, "{}, round {round}: {error:?}", real.display());
            }
        }
    }
}

#[test]
fn an_error_names_the_codec() {
    let error =
        convert(&media().join("mp4__sample_ac4.mp4"), &Options::default(), &Limits::default()).unwrap_err();
    assert!(error.text.contains("AC-4"), "{error}");
}
