//! A sound that is MP3 already is copied, frame by frame, whatever it lies in; and sounds exactly as the source does.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::{Code, Error, Limits, Options, Progress, Summary, mp3};
use id3::TagLike;
use tempfile::TempDir;

use super::{assert_sound, convert, convert_in_child, ffmpeg, make, media};

/// Five seconds with quiet and loud places, so that bit rates and the reservoir move.
const STEREO: &str = "-f lavfi -i aevalsrc=sin(2764*t)*abs(sin(t))/2+(random(0)-0.5)*exp(-9*mod(t\\,0.7))|sin(1382*t)/3+random(1)*abs(sin(3*t))/9:s=44100:d=5.123";
const MONO: &str =
    "-f lavfi -i aevalsrc=sin(2764*t)*abs(sin(t))/2+(random(0)-0.5)*exp(-9*mod(t\\,0.7)):s=44100:d=5.123";

fn with_video() -> String {
    format!("-f lavfi -i testsrc=s=64x64:r=25:d=5.2 {STEREO}")
}

/// Converts with the options that leave an MP3 as it is.
fn plainly(path: &Path) -> (Summary, Vec<u8>) {
    convert(path, &Options::default(), &Limits::default())
        .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()))
}

/// Asserts that the MP3 is a copy, whole, and sounds exactly as FFmpeg decodes the source: bit for bit.
fn assert_copied(path: &Path) -> (Summary, Vec<u8>) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let (summary, mp3) = plainly(path);
    assert!(summary.copied, "{name} was encoded");
    assert_sound(name, &summary, &mp3);
    assert_sounds_the_same(name, path, &mp3);
    (summary, mp3)
}

fn assert_sounds_the_same(name: &str, path: &Path, mp3: &[u8]) {
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("copy.mp3");
    fs::write(&copy, mp3).unwrap();
    let (source, copy) = (samples(path), samples(&copy));
    assert_eq!(source.len(), copy.len(), "{name}: samples");
    let differing = source.iter().zip(&copy).position(|(source, copy)| source != copy);
    assert_eq!(differing, None, "{name}: the first sample that differs of {}", source.len());
    assert!(source.iter().any(|sample| *sample != 0), "{name}: there is sound");
}

/// As FFmpeg decodes it: the bits of floating point samples. What FFmpeg says of a damaged source is not looked at.
fn samples(path: &Path) -> Vec<u32> {
    let path = path.to_str().unwrap();
    let arguments =
        ["-nostdin", "-v", "quiet", "-i", path, "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "f32le", "-"];
    let pcm = crate::ffmpeg_program().args(arguments).output().unwrap().stdout;
    pcm.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

/// The frames' bytes behind tag and Info frame; every bit that no decoder reads is left as it is.
fn frames(mp3: &[u8]) -> Vec<&[u8]> {
    let tag = match mp3 {
        [b'I', b'D', b'3', _, _, _, a, b, c, d, ..] => {
            [a, b, c, d].iter().fold(0, |size, byte| size << 7 | usize::from(**byte)) + 10
        }
        _ => 0,
    };
    let (mut rest, mut frames) = (&mp3[tag..], Vec::new());
    while let [0xff, kind, rates, ..] = *rest {
        let kilobits =
            [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320][usize::from(rates >> 4)];
        assert_eq!((kind & 0xfe, rates & 0x0c), (0xfa, 0), "MPEG-1 at 44.1 kHz");
        let size = 144 * kilobits * 1000 / 44_100 + usize::from(rates >> 1 & 1);
        let (frame, behind) = rest.split_at(size.min(rest.len()));
        frames.push(frame);
        rest = behind;
    }
    frames
}

#[test]
fn an_mp3_track_is_copied_out_of_every_container() {
    let folder = TempDir::new().unwrap();
    let with_video = with_video();
    let cases = [
        ("it.avi", "-c:v mpeg4 -c:a libmp3lame -b:a 160k"),
        ("vbr.avi", "-c:v mpeg4 -c:a libmp3lame -q:a 3"),
        ("it.mkv", "-c:v mpeg4 -c:a libmp3lame -q:a 2"),
        ("it.mp4", "-c:v mpeg4 -c:a libmp3lame -b:a 128k"),
        ("faststart.mp4", "-c:v mpeg4 -c:a libmp3lame -q:a 5 -movflags +faststart"),
        ("fragmented.mp4", "-c:v mpeg4 -c:a libmp3lame -movflags frag_keyframe+empty_moov -g 25"),
        ("it.mov", "-c:v mpeg4 -c:a libmp3lame"),
        ("it.flv", "-c:v flv -c:a libmp3lame"),
        ("it.ts", "-c:v mpeg2video -c:a libmp3lame"),
        ("it.wmv", "-c:v wmv2 -c:a libmp3lame"),
        ("it.nut", "-c:v mpeg4 -c:a libmp3lame"),
    ];
    for (name, output) in cases {
        let path = make(&folder, name, &format!("{with_video} {output}"));
        let (summary, mp3) = assert_copied(&path);
        assert_eq!(
            (summary.sample_rate, summary.channels, summary.codec.as_str()),
            (44_100, 2, "mp3"),
            "{name}"
        );
        let in_child = convert_in_child(&path, &Limits::default()).unwrap();
        assert!(in_child == (summary, mp3), "{name}: a child makes another MP3");
    }
}

#[test]
fn plain_mp3_files_of_every_kind_are_copied() {
    let folder = TempDir::new().unwrap();
    let cases = [
        ("cbr.mp3", STEREO, "-b:a 128k"),
        ("vbr.mp3", STEREO, "-q:a 2"),
        ("abr.mp3", STEREO, "-abr 1 -b:a 140k"),
        ("320.mp3", STEREO, "-b:a 320k"),
        ("no_reservoir.mp3", STEREO, "-b:a 192k -reservoir 0"),
        ("no_xing.mp3", STEREO, "-b:a 96k -write_xing 0"),
        ("id3v1.mp3", STEREO, "-q:a 4 -write_id3v1 1 -metadata title=T"),
        (
            "no_xing_id3v1.mp3",
            STEREO,
            "-b:a 128k -write_xing 0 -write_id3v1 1 -id3v2_version 0 -metadata title=T",
        ),
        ("mono.mp3", MONO, "-q:a 3"),
        ("mono48.mp3", MONO, "-ar 48000 -b:a 64k"),
        ("32.mp3", STEREO, "-ar 32000 -b:a 320k"),
        ("22.mp3", STEREO, "-ar 22050 -q:a 4"),
        ("24.mp3", MONO, "-ar 24000 -b:a 8k"),
        ("22_no_xing.mp3", MONO, "-ar 22050 -b:a 32k -write_xing 0"),
        ("16.mp3", STEREO, "-ar 16000 -b:a 160k"),
        ("11.mp3", STEREO, "-ar 11025 -b:a 48k"),
        ("8.mp3", MONO, "-ar 8000 -b:a 16k"),
    ];
    for (name, input, output) in cases {
        let path = make(&folder, name, &format!("{input} -c:a libmp3lame {output}"));
        let (summary, _) = assert_copied(&path);
        assert_eq!(summary.channels == 1, input == MONO, "{name}");
    }
    // An APE tag before the ID3v1 tag: no frame, and no sound.
    let bare = fs::read(folder.path().join("no_xing_id3v1.mp3")).unwrap();
    let (sound, id3v1) = bare.split_at(bare.len() - 128);
    let ape = b"APETAGEX\xd0\x07\0\0\x20\0\0\0\0\0\0\0\0\0\0\xa0\0\0\0\0\0\0\0\0";
    let path = folder.path().join("ape.mp3");
    fs::write(&path, [sound, ape, id3v1].concat()).unwrap();
    assert_copied(&path);
}

#[test]
fn frames_with_checksums_are_copied_without_them() {
    let folder = TempDir::new().unwrap();
    let wav = make(&folder, "it.wav", STEREO);
    for (name, settings) in
        [("cbr.mp3", &["-b", "128"][..]), ("vbr.mp3", &["-V", "3"]), ("mono.mp3", &["-m", "m", "-b", "64"])]
    {
        let path = folder.path().join(name);
        let run = Command::new("lame").args(["--quiet", "-p"]).args(settings).arg(&wav).arg(&path).status();
        assert!(run.unwrap().success());
        assert!(
            fs::read(&path).unwrap().windows(2).any(|bytes| bytes == [0xff, 0xfa]),
            "there are checksums"
        );
        let (_, mp3) = assert_copied(&path);
        assert!(frames(&mp3).iter().all(|frame| frame[1] == 0xfb));
    }
}

#[test]
fn frames_stay_where_and_what_they_are() {
    let folder = TempDir::new().unwrap();
    for (name, quality) in [("cbr.mp3", "-b:a 128k"), ("vbr.mp3", "-q:a 2")] {
        let path = make(&folder, name, &format!("{STEREO} -c:a libmp3lame {quality}"));
        let (_, copy) = assert_copied(&path);
        let source = fs::read(&path).unwrap();
        let (source, copy) = (frames(&source), frames(&copy));
        assert_eq!(source.len(), copy.len(), "{name}");
        // The first of each is its Info frame; behind the last sound there is padding, of which a copy has zeros.
        let (mut same, mut all) = (0, 0);
        for number in 1..source.len() - 4 {
            let ((head, main), (copied_head, copied)) =
                (source[number].split_at(36), copy[number].split_at(36));
            assert_eq!(head, copied_head, "{name}: header and side information of frame {number}");
            same += main.iter().zip(copied).filter(|(source, copy)| source == copy).count();
            all += main.len();
        }
        // Here and there a byte ends in bits of padding.
        println!("{name}: {same} of {all} bytes of main data");
        assert!(same * 100 > all * 99, "{name}: {same} of {all} bytes of main data");
    }
}

#[test]
fn strict_decoders_have_nothing_to_say_of_a_copy() {
    let folder = TempDir::new().unwrap();
    let with_video = with_video();
    let sources = [
        make(&folder, "it.mkv", &format!("{with_video} -c:v mpeg4 -c:a libmp3lame -q:a 1")),
        make(&folder, "it.flv", &format!("{with_video} -c:v flv -c:a libmp3lame -b:a 128k")),
        make(&folder, "no_xing.mp3", &format!("{STEREO} -c:a libmp3lame -b:a 320k -write_xing 0")),
        begun_midway(&folder, "midway.mp3", "-b:a 128k"),
    ];
    for source in sources {
        let path = folder.path().join("copy.mp3");
        fs::write(&path, assert_copied(&source).1).unwrap();
        let name = source.display();
        for (decoder, arguments) in
            [("mpg123", &["-q", "--test"][..]), ("madplay", &["-Q", "-o", "null:"]), ("mp3val", &["-si"])]
        {
            let run = Command::new(decoder).args(arguments).arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
            let told = ["Analyzing", "Done", "INFO", "No supported tags"];
            let complaint =
                said.lines().find(|line| !line.is_empty() && !told.iter().any(|told| line.contains(told)));
            assert!(run.status.success() && complaint.is_none(), "{decoder}, {name}: {said}");
        }
    }
}

/// A sound that begins in the middle of another: its first frames ask for main data that is not there.
fn begun_midway(folder: &TempDir, name: &str, quality: &str) -> PathBuf {
    let whole = make(
        folder,
        "whole.mp3",
        &format!("{STEREO} -c:a libmp3lame {quality} -write_xing 0 -id3v2_version 0"),
    );
    let whole = fs::read(whole).unwrap();
    let path = folder.path().join(name);
    let begin: usize = frames(&whole).iter().take(60).map(|frame| frame.len()).sum();
    fs::write(&path, &whole[begin..]).unwrap();
    path
}

#[test]
fn a_sound_that_begins_midway_sounds_as_ffmpeg_decodes_it() {
    let folder = TempDir::new().unwrap();
    for quality in ["-b:a 32k", "-b:a 64k", "-b:a 128k", "-b:a 192k", "-q:a 0", "-q:a 6"] {
        let whole = make(
            &folder,
            "whole.mp3",
            &format!("{STEREO} -c:a libmp3lame {quality} -write_xing 0 -id3v2_version 0"),
        );
        let whole = fs::read(whole).unwrap();
        let frames = frames(&whole);
        let mut dangling = 0;
        for begin in (40..60).step_by(3) {
            // A recording of a broadcast; in MPEG-TS nothing is said of delay.
            let path = folder.path().join("midway.mp3");
            fs::write(&path, frames[begin..].concat()).unwrap();
            dangling += u32::from(frames[begin][4] > 0);
            assert_copied(&path);
        }
        assert!(dangling > 1, "{quality}: {dangling} begin in a frame before");
    }
    for (rate, kilobits) in [(22_050, 24), (24_000, 8), (16_000, 64)] {
        let path = make(&folder, "whole.ts", &format!("{MONO} -ar {rate} -c:a libmp3lame -b:a {kilobits}k"));
        for start in ["1.0", "1.37", "2.2"] {
            let cut = folder.path().join("cut.mp3");
            ffmpeg(&[
                "-ss",
                start,
                "-i",
                path.to_str().unwrap(),
                "-c",
                "copy",
                "-write_xing",
                "0",
                cut.to_str().unwrap(),
            ]);
            assert_copied(&cut);
        }
    }
}

#[test]
fn what_an_edit_list_leaves_out_is_not_heard() {
    let folder = TempDir::new().unwrap();
    for (number, quality) in ["-b:a 128k", "-q:a 2", "-b:a 32k", "-ar 22050 -b:a 16k"].into_iter().enumerate()
    {
        let whole = make(
            &folder,
            &format!("{number}.mp4"),
            &format!("{} -c:v mpeg4 -g 50 -c:a libmp3lame {quality}", with_video()),
        );
        for (start, length) in [("0.5", "3"), ("1.9", "1.234"), ("2.01", "2")] {
            for name in ["cut.mp4", "cut.mov"] {
                let cut = folder.path().join(format!("{number}-{start}-{name}"));
                let whole = whole.to_str().unwrap();
                ffmpeg(&["-ss", start, "-i", whole, "-t", length, "-c", "copy", cut.to_str().unwrap()]);
                assert_copied(&cut);
            }
        }
    }
}

#[test]
fn any_wish_for_the_sound_encodes_and_a_wish_for_words_does_not() {
    let folder = TempDir::new().unwrap();
    let two = format!("{STEREO} {MONO} -map 0 -map 1 -c:a libmp3lame");
    let path = make(&folder, "two.mkv", &two);
    let with = |name: &str, value: &str| {
        let mut options = Options::default();
        assert!(options.set(name, value).unwrap());
        let (summary, mp3) = convert(&path, &options, &Limits::default()).unwrap();
        assert_sound(name, &summary, &mp3);
        (summary, mp3)
    };
    for (name, value) in [
        ("preset", "voice"),
        ("preset", "small"),
        ("preset", "original"),
        ("vbr", "2"),
        ("cbr", "128"),
        ("abr", "128"),
        ("mono", "true"),
        ("trim", "1-2"),
        ("loudness", "-16"),
    ] {
        assert!(!with(name, value).0.copied, "{name}={value}");
    }
    let (second, _) = with("track", "2");
    assert_eq!((second.copied, second.channels), (true, 1));
    let mut options = Options { title: Some("Name".to_owned()), ..Options::default() };
    options.tags.insert("artist".to_owned(), "A".to_owned());
    let (summary, mp3) = convert(&path, &options, &Limits::default()).unwrap();
    let tag = id3::Tag::read_from2(std::io::Cursor::new(&mp3)).unwrap();
    assert_eq!((summary.copied, tag.title(), tag.artist()), (true, Some("Name"), Some("A")));
}

#[test]
fn tags_chapters_and_cover_stand_before_a_copy() {
    let folder = TempDir::new().unwrap();
    let chapters = folder.path().join("chapters.txt");
    fs::write(&chapters, ";FFMETADATA1\ntitle=T\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=2\ntitle=One\n[CHAPTER]\nTIMEBASE=1/1\nSTART=2\nEND=5\ntitle=Two\n").unwrap();
    let cover = make(&folder, "cover.jpg", "-f lavfi -i testsrc=s=64x64 -frames:v 1");
    let inputs = format!("{STEREO} -i {} -i {}", chapters.display(), cover.display());
    let path =
        make(&folder, "it.mp3", &format!("{inputs} -map 0 -map 2 -map_metadata 1 -c:a libmp3lame -c:v copy"));
    let (_, mp3) = assert_copied(&path);
    let tag = id3::Tag::read_from2(std::io::Cursor::new(&mp3)).unwrap();
    assert_eq!((tag.title(), tag.chapters().count(), tag.pictures().count()), (Some("T"), 2, 1));
}

#[test]
fn what_is_not_whole_is_encoded_and_sounds_right() {
    let folder = TempDir::new().unwrap();
    let whole = make(&folder, "whole.mp3", &format!("{STEREO} -c:a libmp3lame -b:a 128k -id3v2_version 0"));
    let whole = fs::read(whole).unwrap();
    let sizes: Vec<usize> = frames(&whole).iter().map(|frame| frame.len()).collect();
    let middle: usize = sizes[..100].iter().sum();
    let slower = make(
        &folder,
        "slower.mp3",
        &format!("{MONO} -ar 22050 -c:a libmp3lame -write_xing 0 -id3v2_version 0"),
    );
    let other_rate = make(
        &folder,
        "other.mp3",
        &format!("{STEREO} -ar 48000 -c:a libmp3lame -write_xing 0 -id3v2_version 0"),
    );
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    let cases = [
        ("big_values.mp3", with(&|bytes| bytes[middle + 4..middle + 36].fill(0xff))),
        ("bad_header.mp3", with(&|bytes| bytes[middle] = 0)),
        ("hole.mp3", with(&|bytes| drop(bytes.drain(middle + 50..middle + 350)))),
        ("missing.mp3", with(&|bytes| drop(bytes.drain(middle..middle + sizes[100])))),
        ("junk.mp3", with(&|bytes| drop(bytes.splice(middle..middle, [7; 333])))),
        ("cut.mp3", with(&|bytes| bytes.truncate(bytes.len() - 100))),
        ("half_rate.mp3", [&whole[..middle], &fs::read(slower).unwrap()].concat()),
        ("other_rate.mp3", [&whole[..middle], &fs::read(other_rate).unwrap()].concat()),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (summary, mp3) = plainly(&path);
        assert!(!summary.copied, "{name} was copied");
        assert_sound(name, &summary, &mp3);
        let resampled = name.ends_with("_rate.mp3");
        let expected = samples_at_44100(&path);
        let tolerance = if resampled { 2000 } else { 0 };
        assert!(summary.samples.abs_diff(expected) <= tolerance, "{name}: {} of {expected}", summary.samples);
    }
}

fn samples_at_44100(path: &Path) -> u64 {
    let arguments = [
        "-nostdin",
        "-v",
        "quiet",
        "-i",
        path.to_str().unwrap(),
        "-ac",
        "1",
        "-ar",
        "44100",
        "-f",
        "s16le",
        "-",
    ];
    crate::ffmpeg_program().args(arguments).output().unwrap().stdout.len() as u64 / 2
}

#[test]
fn real_recordings_of_mp3_are_copied() {
    for name in ["mp3__bear-id3.mp3", "mp3__bear-vbr-xing-header.mp3"] {
        let (summary, mp3) = assert_copied(&media().join(name));
        assert_eq!(mp3::check(&mp3[..]).unwrap().samples, summary.samples);
    }
}

/// Converts and says what the watcher saw, until it has seen enough.
fn watched(path: &Path, enough: impl Fn(&[Progress]) -> bool) -> (Result<Summary, Error>, Vec<Progress>) {
    let (source, mut seen) = (fs::File::open(path).unwrap(), Vec::new());
    let result =
        engine::convert(&source, &mut Vec::new(), &Options::default(), &Limits::default(), &mut |now| {
            seen.push(now);
            if enough(&seen) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    (result, seen)
}

#[test]
fn limits_hold_for_a_copy_and_progress_ends_at_one() {
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "it.mkv", &format!("{STEREO} -c:a libmp3lame -b:a 128k"));
    let (result, seen) = watched(&path, |_| false);
    let summary = result.unwrap();
    assert!(summary.copied && seen.last().unwrap().fraction == 1.0);
    let size = fs::metadata(&path).unwrap().len();
    assert!(
        (2 * size..2 * size + 100_000).contains(&summary.bytes_read),
        "read twice: {} of {size}",
        summary.bytes_read
    );
    let small = Limits { output: 50_000, ..Limits::default() };
    assert_eq!(convert(&path, &Options::default(), &small).unwrap_err().code, Code::OutputTooLarge);
    let short = Limits { duration: std::time::Duration::from_secs(3), ..Limits::default() };
    assert_eq!(convert(&path, &Options::default(), &short).unwrap_err().code, Code::TooLong);
}
