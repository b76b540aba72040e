//! What the options ask for is in the MP3: bits, channels, track, piece and loudness, by FFmpeg's word.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use engine::{Cancel, Code, Input, Limits, Options, Quality, Summary};
use tempfile::TempDir;

use super::{assert_sound, convert, engine, ffmpeg, make, media};

/// Options from `name=value` and so on, parted by spaces.
pub(super) fn options(text: &str) -> Options {
    let mut options = Options::default();
    for (name, value) in text.split_whitespace().filter_map(|pair| pair.split_once('=')) {
        assert!(options.set(name, value).unwrap(), "{name}");
    }
    options
}

fn converted(path: &Path, wish: &str) -> (Summary, Vec<u8>) {
    let name = path.display();
    let (summary, mp3) = convert(path, &options(wish), &Limits::default())
        .unwrap_or_else(|error| panic!("{name} with {wish}: {error:?}"));
    assert_sound(&format!("{name} with {wish}"), &summary, &mp3);
    (summary, mp3)
}

fn kilobits(summary: &Summary) -> f64 {
    summary.bytes as f64 * 0.008 / summary.duration().as_secs_f64()
}

/// Without the Info frame, which FFmpeg leaves out of a copy.
fn kilobits_of_sound((summary, mp3): &(Summary, Vec<u8>)) -> f64 {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("it.mp3");
    std::fs::write(&path, mp3).unwrap();
    let copied = ffmpeg(&["-i", path.to_str().unwrap(), "-c", "copy", "-f", "data", "-map", "0:a", "-"]);
    copied.len() as f64 * 0.008 / summary.duration().as_secs_f64()
}

/// What FFmpeg decodes, one channel.
pub(super) fn pcm(arguments: &[&str]) -> Vec<f32> {
    let bytes = ffmpeg(&[arguments, &["-map", "0:a:0", "-ac", "1", "-f", "f32le", "-"]].concat());
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn decoded_mono(mp3: &[u8]) -> Vec<f32> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("it.mp3");
    std::fs::write(&path, mp3).unwrap();
    pcm(&["-i", path.to_str().unwrap()])
}

#[test]
fn presets_give_about_what_their_documentation_says() {
    let folder = TempDir::new().unwrap();
    // Pink noise with a slow tremolo, different left and right: as full as music is.
    let noise = "-f lavfi -i anoisesrc=d=30:c=pink:a=0.5:seed=1:r=44100 -f lavfi -i anoisesrc=d=30:c=pink:a=0.5:seed=2:r=44100 \
                 -filter_complex [0:a][1:a]amerge,tremolo=f=0.5:d=0.9";
    let path = make(&folder, "noise.wav", noise);
    let cases = [
        ("preset=music", 2, 150.0..260.0),
        ("preset=small", 2, 80.0..130.0),
        ("preset=voice", 1, 45.0..90.0),
        ("preset=original", 2, 127.0..130.0),
        ("preset=original mono=1", 1, 127.0..130.0),
        ("preset=small mono=1", 1, 35.0..75.0),
    ];
    for (wish, channels, expected) in cases {
        let (summary, _) = converted(&path, wish);
        let kilobits = kilobits(&summary);
        println!("{wish}: {kilobits:.0} kbit/s");
        assert_eq!((summary.channels, summary.sample_rate), (channels, 44_100), "{wish}");
        assert!(expected.contains(&kilobits), "{wish}: {kilobits}");
    }
}

#[test]
fn each_bit_rate_is_kept_at_each_sample_rate_and_channel_count() {
    let folder = TempDir::new().unwrap();
    for rate in [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000] {
        let path = make(&folder, "it.wav", &format!("-f lavfi -i anoisesrc=d=3:c=pink:a=0.3:r={rate} -ac 2"));
        let share = |kind: &str, kilobits: u16, mono: bool| {
            let converted = converted(&path, &format!("{kind}={kilobits} mono={mono}"));
            kilobits_of_sound(&converted) / f64::from(kilobits)
        };
        for (i, kilobits) in Quality::CBR.into_iter().enumerate() {
            let mono = (i + rate / 1_000).is_multiple_of(2);
            let share = share("cbr", kilobits, mono);
            // Rounded up to whole frames, and silence that the encoder adds.
            assert!((1.0..1.1).contains(&share), "{rate} {kilobits} {mono}: {share}");
        }
        for (kilobits, mono) in [(8, true), (24, true), (56, false), (100, false), (160, false)] {
            let share = share("abr", kilobits, mono);
            assert!((0.6..1.35).contains(&share), "{rate} {kilobits} {mono}: {share}");
        }
    }
}

#[test]
fn each_vbr_level_is_smaller_than_the_one_before() {
    let noise = "-f lavfi -i anoisesrc=d=10:c=pink:a=0.5:seed=1:r=44100 -ac 2";
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "noise.wav", noise);
    let sizes: Vec<u64> = (0..10).map(|level| converted(&path, &format!("vbr={level}")).0.bytes).collect();
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

#[test]
fn mono_is_as_loud_as_its_channels_and_never_clips() {
    let folder = TempDir::new().unwrap();
    let cases = [
        ("same.wav", "-f lavfi -i aevalsrc=0.9*sin(2764*t)|0.9*sin(2764*t):s=44100:d=1", 0.9),
        ("left.wav", "-f lavfi -i aevalsrc=0.9*sin(2764*t)|0:s=44100:d=1", 0.45),
        (
            "six.wav",
            "-f lavfi -i aevalsrc=exprs=0.9*sin(2764*t)|0.9*sin(2764*t)|0.9*sin(2764*t)|0|0.9*sin(2764*t)|0.9*sin(2764*t):c=5.1:s=44100:d=1",
            0.9,
        ),
    ];
    for (name, arguments, expected) in cases {
        let (_, mp3) = converted(&make(&folder, name, arguments), "mono=1 cbr=320");
        let samples = decoded_mono(&mp3);
        let peak = samples[4_410..39_690].iter().fold(0_f32, |peak, sample| peak.max(sample.abs()));
        assert!((peak - expected).abs() < 0.04, "{name}: {peak}");
    }
}

const THREE_TRACKS: &str = "-f lavfi -i sine=r=48000:d=1 -f lavfi -i sine=r=48000:d=2 -f lavfi -i sine=r=48000:d=3 -map 0 -map 1 -map 2";

#[test]
fn a_track_is_taken_by_its_number() {
    let folder = TempDir::new().unwrap();
    for (name, codec) in [
        ("it.mkv", "flac"),
        ("it.mp4", "aac"),
        ("it.ts", "mp2"),
        ("it.mov", "pcm_s16le"),
        ("it.avi", "pcm_s16le"),
    ] {
        let path = make(&folder, name, &format!("{THREE_TRACKS} -c:a {codec} -disposition:a:1 default"));
        for track in 1..=3_u64 {
            let (summary, _) = converted(&path, &format!("track={track}"));
            let whole = track * 48_000;
            // Whole frames, and in a transport stream the encoder's delay.
            let near =
                if matches!(name, "it.ts" | "it.mp4") { whole..whole + 2_304 } else { whole..whole + 1 };
            assert!(near.contains(&summary.samples), "{name}, track {track}: {}", summary.samples);
        }
    }
}

#[test]
fn a_track_that_is_not_there_is_refused_with_those_that_are() {
    let folder = TempDir::new().unwrap();
    let described = "-c:a flac -metadata:s:a:0 language=eng -metadata:s:a:1 title=Talk -metadata:s:a:1 language=deu -ac:a:1 2";
    let path = make(&folder, "it.mkv", &format!("{THREE_TRACKS} {described}"));
    let refused = |path: &Path, wish| convert(path, &options(wish), &Limits::default()).unwrap_err();
    let error = refused(&path, "track=4");
    assert_eq!(error.code, Code::NoSuchTrack);
    assert_eq!(
        error.text,
        "The file has no sound track 4. Choose one that it has: 1 (eng, flac, mono), 2 (Talk, deu, flac, stereo), 3 (flac, mono)."
    );
    assert_eq!(
        refused(&media().join("ts__sample_h264_mpeg_audio.ts"), "track=4000000000").code,
        Code::NoSuchTrack
    );
    let mute = make(&folder, "mute.mp4", "-f lavfi -i testsrc=s=64x64:r=25:d=1");
    assert_eq!(refused(&mute, "track=1").code, Code::NoAudio);
    assert_eq!(refused(&path, "track=0").code, Code::BadOptions);
}

/// How many decibels the difference lies below `reference`, where `found` is moved by `lag` samples.
fn likeness(reference: &[f32], found: &[f32], lag: isize) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    for (i, sample) in reference.iter().enumerate() {
        let Some(other) = i.checked_add_signed(lag).and_then(|i| found.get(i)) else { continue };
        signal += f64::from(*sample).powi(2);
        noise += f64::from(sample - other).powi(2);
    }
    10.0 * (signal / noise).log10()
}

#[test]
fn a_piece_is_the_sound_from_its_first_sample_to_its_last() {
    let folder = TempDir::new().unwrap();
    let noise = "-f lavfi -i anoisesrc=d=20:c=pink:a=0.5:seed=7:r=44100";
    let cases = [
        ("it.wav", "-c:a pcm_s16le"),
        ("it.flac", "-c:a flac"),
        ("it.m4a", "-c:a aac -b:a 192k"),
        ("it.mkv", "-c:a libopus -b:a 192k -ar 48000"),
        ("it.ogg", "-c:a libvorbis -q 8"),
        ("it.mp3", "-c:a libmp3lame -b:a 320k"),
        ("it.mka", "-c:a aac -b:a 192k"),
    ];
    for (name, codec) in cases {
        let path = make(&folder, name, &format!("{noise} {codec}"));
        let whole = pcm(&["-i", path.to_str().unwrap()]);
        for piece in ["5.0001-7.5", "0-3.3", "17-", "12.34567-12.6"] {
            let (summary, mp3) = converted(&path, &format!("trim={piece} cbr=320"));
            let found = decoded_mono(&mp3);
            let rate = f64::from(summary.sample_rate);
            let at = |text: &str| text.parse().map(|seconds: f64| (seconds * rate).round() as usize).unwrap();
            let (start, end) = piece.split_once('-').unwrap();
            let end = if end.is_empty() { whole.len() } else { at(end) };
            let expected = &whole[at(start)..end];
            assert_eq!(
                (summary.samples, found.len()),
                (expected.len() as u64, expected.len()),
                "{name} {piece}"
            );
            let likeness = [-1, 0, 1].map(|lag| likeness(expected, &found, lag));
            assert!(likeness[1] > 15.0, "{name} {piece}: {likeness:?}");
            assert!(
                likeness[1] > likeness[0] + 3.0 && likeness[1] > likeness[2] + 3.0,
                "{name} {piece}: {likeness:?}"
            );
        }
    }
}

#[test]
fn a_piece_behind_the_end_is_refused() {
    let sample = media().join("bbb_480p_30s.mp4");
    let refused = |wish: &str| convert(&sample, &options(wish), &Limits::default()).unwrap_err();
    for (wish, word) in
        [("trim=31-40", "earlier start"), ("trim=1:00-", "earlier start"), ("trim=10-45", "leave it open")]
    {
        let error = refused(wish);
        assert_eq!(error.code, Code::TrimBeyondEnd, "{wish}");
        assert!(error.text.contains("ends at 0:30") && error.text.contains(word), "{error}");
    }
    assert_eq!(refused("trim=10-5").code, Code::BadOptions);
    let (summary, _) = converted(&sample, "trim=29-30.9");
    assert!(
        summary.duration() < Duration::from_millis(1_100),
        "an end within a second of the sound's is its end"
    );
}

#[test]
fn what_lies_behind_a_piece_counts_for_no_limit_and_may_be_missing() {
    let folder = TempDir::new().unwrap();
    let silence =
        "-f lavfi -i anullsrc=r=8000:cl=mono:n=65535 -c:a flac -frame_size 65535 -compression_level 0";
    let path = make(&folder, "silence.flac", &format!("{silence} -t 108000"));
    let (summary, _) = converted(&path, "trim=5-6.5");
    assert_eq!(summary.samples, 12_000);
    let error = convert(&path, &options("trim=25:00:00-26:00:00"), &Limits::default()).unwrap_err();
    assert_eq!(error.code, Code::TooLong, "what lies before it does count");

    let whole = make(&folder, "whole.flv", "-f lavfi -i sine=r=44100:d=20 -c:a mp3");
    let bytes = std::fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.flv");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let with = |wish| convert(&cut, &options(wish), &Limits::default()).map(|(summary, _)| summary.samples);
    assert_eq!(with("trim=1-5").unwrap(), 4 * 44_100);
    assert_eq!(with("").unwrap_err().code, Code::Truncated);
    assert_eq!(with("trim=1-15").unwrap_err().code, Code::Truncated);
}

/// Integrated loudness and true peak of an MP3 by FFmpeg's meter.
fn loudness(mp3: &[u8]) -> (f64, f64) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("it.mp3");
    std::fs::write(&path, mp3).unwrap();
    let run = crate::ffmpeg_program()
        .args([
            "-nostdin",
            "-hide_banner",
            "-i",
            path.to_str().unwrap(),
            "-af",
            "ebur128=peak=true",
            "-f",
            "null",
            "-",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    let summary = said.split("Summary:").nth(1).unwrap();
    let after = |label: &str| {
        let value = summary.split(label).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        value.parse::<f64>().unwrap()
    };
    (after("I:"), after("Peak:"))
}

#[test]
fn a_loudness_is_reached_as_ffmpegs_meter_hears_it() {
    let folder = TempDir::new().unwrap();
    // Tones that every bit rate carries whole.
    let tones = "-f lavfi -i aevalsrc=0.01*(sin(1257*t)+sin(6283*t)+sin(15708*t)):s=48000:d=20";
    let quiet = make(&folder, "quiet.wav", &format!("{tones} -ac 2"));
    let changing =
        make(&folder, "changing.wav", &format!("{tones} -af volume=volume='if(lt(t,10),0.2,1)':eval=frame"));
    let loud = make(&folder, "loud.wav", &format!("{tones} -af volume=50dB -c:a pcm_f32le"));
    let cases = [
        (&quiet, "loudness=-23", -23.0),
        (&quiet, "loudness=-16.5 preset=original", -16.5),
        (&quiet, "loudness=-20 mono=1", -20.0),
        (&changing, "loudness=-20 preset=original", -20.0),
        (&changing, "loudness=-20 trim=0-9", -20.0),
        (&loud, "loudness=-30", -30.0),
    ];
    for (path, wish, expected) in cases {
        let before = std::fs::metadata(path).unwrap().len();
        let (summary, mp3) = converted(path, wish);
        let (found, peak) = loudness(&mp3);
        println!("{wish}: {found} LUFS, {peak} dBTP");
        assert!((found - expected).abs() <= 0.2, "{wish}: {found}");
        if !wish.contains("trim") {
            assert!(summary.bytes_read >= 2 * before, "read twice: {}", summary.bytes_read);
        }
    }
}

#[test]
fn a_true_peak_keeps_the_sound_quieter_than_asked() {
    let folder = TempDir::new().unwrap();
    // Quiet sound with a few loud clicks of tone: the peak allows little gain.
    let path = make(
        &folder,
        "peaky.wav",
        "-f lavfi -i aevalsrc=sin(2764*t)*if(lt(mod(t\\,5)\\,0.02)\\,0.8\\,0.02):s=44100:d=20",
    );
    let (_, mp3) = converted(&path, "loudness=-12 cbr=320");
    let (found, peak) = loudness(&mp3);
    assert!(found < -25.0, "{found}");
    assert!((-1.3..=-0.7).contains(&peak), "{peak}");
    // Silence has no loudness, and stays silent.
    let silent = make(&folder, "silent.wav", "-f lavfi -i anullsrc=r=44100:d=2");
    assert!(decoded_mono(&converted(&silent, "loudness=-16").1).iter().all(|sample| sample.abs() < 1e-6));
}

#[test]
fn progress_over_two_passes_never_goes_back_and_shows_both() {
    let folder = TempDir::new().unwrap();
    let source = File::open(super::long_wav(&folder, 600)).unwrap();
    let mut seen = Vec::new();
    let wish = options("loudness=-16");
    engine::convert(&source, &mut Vec::new(), &wish, &Limits::default(), &mut |progress| {
        seen.push((progress.fraction, progress.converted));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert!(seen.is_sorted() && seen.last().unwrap().0 == 1.0, "{seen:?}");
    assert!(
        seen.iter().any(|(fraction, converted)| *fraction > 0.0 && converted.is_zero()),
        "the first pass: {seen:?}"
    );
    let measured = seen.iter().take_while(|(_, converted)| converted.is_zero()).last();
    assert!(measured.is_some_and(|(fraction, _)| *fraction < 0.5), "the first pass is not all: {seen:?}");
}

#[test]
fn an_engine_process_keeps_to_the_options_too() {
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "it.mkv", &format!("{THREE_TRACKS} -c:a flac"));
    let wish = options("track=3 trim=0.5-2.25 loudness=-20 abr=64 mono=1 tag.artist=A tag.title=T");
    let (_, here) = convert(&path, &wish, &Limits::default()).unwrap();
    let input = Input::File(File::open(&path).unwrap());
    let mut there = Vec::new();
    let summary = engine("mark-options")
        .convert(input, &mut there, &wish, &Limits::default(), &Cancel::new(), &mut |_| ())
        .unwrap();
    assert_eq!(summary.samples, 84_000);
    assert!(here == there, "the same bytes");
}
