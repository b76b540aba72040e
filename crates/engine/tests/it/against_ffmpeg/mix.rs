//! How many channels become two or one, by the rule of docs/api.md, worked out here and not by libav: it is libav that is judged.

use std::f32::consts::FRAC_1_SQRT_2;

use engine::Limits;
use tempfile::TempDir;

use super::cases::Case;
use super::signal::{Planes, signal};
use super::{all, assert_same, made};
use crate::convert;
use crate::options::options;

const RATE: u32 = 48_000;

/// Layouts, and the speakers in the order of their samples.
const LAYOUTS: [(&str, &str); 12] = [
    ("mono", "FC"),
    ("stereo", "FL FR"),
    ("2.1", "FL FR LFE"),
    ("3.0", "FL FR FC"),
    ("4.0", "FL FR FC BC"),
    ("quad", "FL FR BL BR"),
    ("5.0", "FL FR FC BL BR"),
    ("5.1", "FL FR FC LFE BL BR"),
    ("5.1(side)", "FL FR FC LFE SL SR"),
    ("6.1", "FL FR FC LFE BC SL SR"),
    ("7.1", "FL FR FC LFE BL BR SL SR"),
    ("7.1(wide)", "FL FR FC LFE BL BR FLC FRC"),
];

/// What a speaker gives to the left and to the right.
fn in_stereo(speaker: &str) -> [f32; 2] {
    match speaker {
        "FL" | "FLC" => [1.0, 0.0],
        "FR" | "FRC" => [0.0, 1.0],
        "FC" => [FRAC_1_SQRT_2; 2],
        "BL" | "SL" => [FRAC_1_SQRT_2, 0.0],
        "BR" | "SR" => [0.0, FRAC_1_SQRT_2],
        "BC" => [0.5; 2],
        "LFE" => [0.0; 2],
        _ => panic!("{speaker}"),
    }
}

/// What a speaker gives to a mix of one channel, before that is turned down until it cannot clip.
fn in_mono(speaker: &str) -> f32 {
    match speaker {
        "FC" => 1.0,
        "FL" | "FR" | "FLC" | "FRC" => FRAC_1_SQRT_2,
        "BL" | "BR" | "SL" | "SR" | "BC" => 0.5,
        "LFE" => 0.0,
        _ => panic!("{speaker}"),
    }
}

fn mixed(planes: &Planes, speakers: &str, mono: bool) -> Planes {
    let speakers: Vec<_> = speakers.split(' ').collect();
    let weights: Vec<Vec<f32>> = if speakers.len() == 1 {
        vec![vec![1.0]]
    } else if mono {
        let weights: Vec<_> = speakers.iter().map(|speaker| in_mono(speaker)).collect();
        let sum: f32 = weights.iter().sum();
        vec![weights.iter().map(|weight| weight / sum).collect()]
    } else {
        [0, 1].map(|side| speakers.iter().map(|speaker| in_stereo(speaker)[side]).collect()).into()
    };
    let mix = |weights: &Vec<f32>| {
        let sample = |i: usize| planes.iter().zip(weights).map(|(plane, weight)| plane[i] * weight).sum();
        (0..planes[0].len()).map(sample).collect()
    };
    weights.iter().map(mix).collect()
}

#[test]
fn channels_are_mixed_as_the_documentation_says() {
    let folder = TempDir::new().unwrap();
    all(&LAYOUTS, |(layout, speakers)| {
        let name: &str = layout;
        let case = Case { name: &format!("{name}.wav"), layout, rate: RATE, arguments: "-c:a pcm_f32le" };
        let path = made(&folder, &case);
        let planes = signal(RATE, speakers.split(' ').count());
        let rows = [false, true].map(|mono| {
            let wish = format!("cbr=320 mono={mono}");
            let (summary, mp3) = convert(&path, &options(&wish), &Limits::default()).unwrap();
            assert_same(name, RATE, &mixed(&planes, speakers, mono), &summary, &mp3)
        });
        rows.join("\n")
    });
}

#[test]
fn ambisonic_sound_comes_from_where_it_was() {
    let folder = TempDir::new().unwrap();
    // A source on the left: the same in W and Y. One ahead: in W and X. One all around: in W alone.
    for (place, channels, expected) in [
        ("left", "s|s|0|0", [1.0, 0.0]),
        ("right", "s|-s|0|0", [0.0, 1.0]),
        ("ahead", "s|0|0|s", [0.5, 0.5]),
        ("around", "s|0|0|0", [0.5, 0.5]),
    ] {
        let sound = channels.replace('s', "0.3*sin(2770*t)");
        let arguments = format!(
            "-f lavfi -i aevalsrc={sound}:d=2:s=48000:c=4.0 -c:a libopus -mapping_family 2 -b:a 256k"
        );
        let path = crate::make(&folder, &format!("{place}.mkv"), &arguments);
        let (summary, mp3) = convert(&path, &options("cbr=320"), &Limits::default()).unwrap();
        let planes = super::decoded_mp3(&summary, &mp3);
        assert_eq!(planes.len(), 2);
        for (plane, expected) in planes.iter().zip(expected) {
            let power: f32 = plane.iter().map(|sample| sample * sample).sum();
            let level = (2.0 * power / plane.len() as f32).sqrt() / 0.3;
            assert!((level - expected).abs() < 0.02, "{place}: {level} for {expected}");
        }
    }
}

#[test]
fn speakers_that_no_rule_mixes_stay_on_their_sides() {
    let folder = TempDir::new().unwrap();
    let arguments = "-f lavfi -i aevalsrc=0.3*sin(2770*t)|0.1*sin(2770*t):d=2:s=48000";
    let path = crate::make(&folder, "rear.wav", arguments);
    let mut wav = std::fs::read(&path).unwrap();
    // As WAVE_FORMAT_EXTENSIBLE, whose mask says: two speakers in the rear.
    let data = wav.windows(4).position(|name| name == b"data").unwrap();
    let format = wav.windows(4).position(|name| name == b"fmt ").unwrap();
    let mut head = wav[..format].to_vec();
    head.extend(b"fmt \x28\0\0\0\xfe\xff");
    head.extend(&wav[format + 10..format + 24]);
    head.extend(b"\x16\0\x10\0\x30\0\0\0\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    head.extend(&wav.split_off(data));
    std::fs::write(&path, head).unwrap();
    let (summary, mp3) = convert(&path, &options("cbr=320"), &Limits::default()).unwrap();
    let levels = super::decoded_mp3(&summary, &mp3).into_iter().map(|plane| {
        let power: f32 = plane.iter().map(|sample| sample * sample).sum();
        (2.0 * power / plane.len() as f32).sqrt()
    });
    let levels: Vec<f32> = levels.collect();
    assert!((levels[0] - 0.3).abs() < 0.01 && (levels[1] - 0.1).abs() < 0.01, "{levels:?}");
}
