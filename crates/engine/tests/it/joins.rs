//! MP3s that several encoders made together: silent in strict decoders, and no noisier where they are joined than elsewhere.

use std::path::Path;
use std::process::Command;

use engine::{Limits, Options, Quality};
use tempfile::TempDir;

use super::{assert_sound, convert, ffmpeg, make};

/// Where segments begin, in frames: the first ones, as `encode/segments.rs` cuts them.
const VBR: [usize; 10] = [147, 294, 441, 686, 931, 1176, 1421, 1666, 1911, 2156];
const CBR: [usize; 8] = [147, 294, 441, 588, 833, 1078, 1568, 2254];

/// A minute of chords that glide, with beats of noise over them.
fn music(folder: &TempDir) -> std::path::PathBuf {
    let tone = |one: u32, two: u32| {
        format!(
            "0.2*sin({one}*t+40*sin(t/3))+0.15*sin({two}*t+90*sin(t/7))*(0.6+0.4*sin(13*t))+0.3*(random({one})-0.5)*exp(-12*mod(t\\,0.5))"
        )
    };
    let source =
        format!("-f lavfi -i aevalsrc={}|{}:s=44100:d=62 -c:a pcm_f32le", tone(1382, 3688), tone(1740, 5529));
    make(folder, "music.wav", &source)
}

fn with(quality: Quality, threads: usize) -> (Options, Limits) {
    (Options { quality: Some(quality), ..Options::default() }, Limits { threads, ..Limits::default() })
}

#[test]
fn strict_decoders_have_nothing_to_say_and_threads_make_no_difference() {
    let folder = TempDir::new().unwrap();
    let music = music(&folder);
    for quality in [
        Quality::Vbr(0),
        Quality::Vbr(2),
        Quality::Vbr(9),
        Quality::Cbr(128),
        Quality::Cbr(320),
        Quality::Abr(150),
    ] {
        let name = format!("{quality:?}");
        let (options, limits) = with(quality, 2);
        let (summary, mp3) = convert(&music, &options, &limits).unwrap();
        assert_eq!(summary.samples, 62 * 44_100);
        assert_sound(&name, &summary, &mp3);
        assert!(convert(&music, &options, &with(quality, 3).1).unwrap().1 == mp3, "{name}: by three threads");
        let path = folder.path().join("it.mp3");
        std::fs::write(&path, &mp3).unwrap();
        for (decoder, arguments) in
            [("mpg123", &["-q", "--test"][..]), ("madplay", &["-Q", "-o", "null:"]), ("mp3val", &["-si"])]
        {
            let said = say(decoder, arguments, &path);
            // mp3val tells what it does, and would like to see a tag.
            let told = ["Analyzing", "Done", "INFO", "No supported tags"];
            let complaint =
                said.lines().find(|line| !line.is_empty() && !told.iter().any(|told| line.contains(told)));
            assert_eq!(complaint, None, "{decoder}, {name}");
        }
    }
}

/// All that a decoder prints, which must succeed.
fn say(decoder: &str, arguments: &[&str], path: &Path) -> String {
    let run = Command::new(decoder).args(arguments).arg(path).output();
    let run = run
        .unwrap_or_else(|error| panic!("{decoder}: {error}; it is installed by cargo xtask setup --tests"));
    assert!(run.status.success(), "{decoder}: {run:?}");
    String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned()
}

#[test]
fn noise_at_joins_is_that_of_any_other_place() {
    let folder = TempDir::new().unwrap();
    let music = music(&folder);
    let source = samples(&music);
    for (quality, joins) in [(Quality::Vbr(2), &VBR[..]), (Quality::Cbr(128), &CBR)] {
        let (options, limits) = with(quality, 2);
        let path = folder.path().join("it.mp3");
        std::fs::write(&path, convert(&music, &options, &limits).unwrap().1).unwrap();
        let decoded = samples(&path);
        assert_eq!(decoded.len(), source.len());
        // Frame by frame; the encoder is a frame late.
        let noise: Vec<f64> = source
            .chunks(2 * 1152)
            .zip(decoded.chunks(2 * 1152))
            .map(|(source, decoded)| {
                let (signal, noise) =
                    source.iter().zip(decoded).fold((1e-9, 1e-9), |(signal, noise), (a, b)| {
                        (signal + f64::from(a * a), noise + f64::from((a - b) * (a - b)))
                    });
                10.0 * (signal / noise).log10()
            })
            .collect();
        let near =
            |frame: usize| joins.iter().any(|join| (join.saturating_sub(4)..join + 3).contains(&frame));
        let mean = |wanted: bool| {
            let chosen: Vec<f64> =
                (0..noise.len() - 2).filter(|at| near(*at) == wanted).map(|at| noise[at]).collect();
            chosen.iter().sum::<f64>() / chosen.len() as f64
        };
        let (at_joins, elsewhere) = (mean(true), mean(false));
        println!("{quality:?}: {at_joins:.2} dB near joins, {elsewhere:.2} dB elsewhere");
        assert!(
            at_joins > elsewhere - 0.5,
            "{quality:?}: {at_joins:.2} dB near joins, {elsewhere:.2} dB elsewhere"
        );
    }
}

/// As FFmpeg decodes it: 32 bits, both channels in turn.
fn samples(path: &Path) -> Vec<f32> {
    let pcm = ffmpeg(&["-i", path.to_str().unwrap(), "-f", "f32le", "-"]);
    pcm.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
