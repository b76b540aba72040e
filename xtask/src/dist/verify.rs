//! `cargo xtask dist --verify`: does our LAME sound as LAME does? Both encode real recordings at many settings, and what is decoded is compared.
//!
//! Beside the library that releases have, LAME is built from the same source as it was: no patch, no `-ffast-math`, plain C. Every copy in
//! the library is run by its own name, whatever the loader would choose; and the one that it does choose must be one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::empty;
use super::lame::{self, Recipe};

/// So many decibels, and no more, may either signal-to-noise ratio of a sound be below the reference's.
const DECIBELS: f64 = 0.06;
/// The MP3's size may differ by this share: who takes more bits has an easy game, and who takes fewer has not asked for them.
const SIZE: f64 = 0.005;
/// Where each frame is free to take the bits that it needs, one that is rounded otherwise changes nothing behind it: at least so
/// many frames are decoded to the same samples, bit for bit.
const SAME: f64 = 0.6;

/// How LAME is set, and whether a frame's bits depend on the frames before it: then one other rounding changes all that follow.
const SETTINGS: &[Setting] = &[
    ("vbr", "0", true),
    ("vbr", "2", false),
    ("vbr", "4", false),
    ("vbr", "6", false),
    ("vbr", "9", false),
    ("cbr", "64", true),
    ("cbr", "128", true),
    ("cbr", "320", true),
    ("abr", "150", true),
];

/// A recording of `media/`, and what is made of it: rate, channels, and FFmpeg's filter.
const CLIPS: &[Clip] = &[
    ("bbb_480p_30s.mp4", 44_100, 2, "anull"),
    ("bbb_480p_30s.mp4", 48_000, 2, "volume=16dB,alimiter=limit=0.98:level=0"),
    ("bbb_480p_30s.mp4", 22_050, 1, "anull"),
    ("wav__sample.wav", 44_100, 2, "anull"),
    ("flac__bear_with_picture.flac", 32_000, 1, "anull"),
];

/// Fails where our LAME is not as good as LAME.
///
/// `folder` is `target/dist`, and `libraries` is where ours is.
pub fn run(folder: &Path, libraries: &Path, ffmpeg: &Path) -> Result<()> {
    let root = crate::root();
    let work = folder.join("verify");
    empty(&work)?;
    let as_it_was = lame::build_as_it_was(&Recipe::read(&root)?, &source(libraries)?, &work)?;
    let program = |name: &str, suffix: &str, library: &Path| compile(&root, &work, name, suffix, library);
    let ours = libraries.join("lib/libmp3lame.a");
    let mut copies = Vec::new();
    for variant in lame::variants() {
        if variant.runs_here() {
            copies.push((variant.suffix, program(variant.suffix, &variant.of_function(), &ours)?));
        } else {
            println!("this processor does not run the copy `{}`: it is not verified", variant.suffix);
        }
    }
    let (theirs, chosen) = (program("lame", "", &as_it_was)?, program("chosen", "", &ours)?);
    let bench = Bench { ffmpeg, work: &work, theirs, copies, chosen };
    println!("{:58} {:>9} {:>9} {:>9} {:>9}", "", "same", "SNR", "by frame", "size");
    let mut faults = Vec::new();
    for clip in CLIPS {
        let samples = bench.samples(&root.join("media").join(clip.0), clip)?;
        for setting in SETTINGS {
            faults.extend(bench.compare(clip, setting, &samples)?);
        }
    }
    ensure!(
        faults.is_empty(),
        "our LAME is not as good as LAME:\n  {}\nThe fault is in third_party/lame, or in how xtask/src/dist/lame.rs compiles it",
        faults.join("\n  ")
    );
    println!("our LAME sounds as LAME does: nowhere more than {DECIBELS} dB farther from the recording");
    Ok(())
}

/// LAME's tarball, which the library was built of.
fn source(libraries: &Path) -> Result<PathBuf> {
    let folder = libraries.join("sources");
    let entries = fs::read_dir(&folder).with_context(|| format!("{} could not be read", folder.display()))?;
    let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_lame = |file: &PathBuf| {
        file.to_string_lossy().contains("/lame_") && file.to_string_lossy().contains(".tar.")
    };
    files.find(is_lame).with_context(|| format!("{} has no source of LAME in it", folder.display()))
}

/// The program that encodes with the copy of a library whose functions have this suffix.
fn compile(root: &Path, work: &Path, name: &str, suffix: &str, library: &Path) -> Result<PathBuf> {
    let program = work.join(format!("encode-{name}"));
    let mut compile = Command::new("cc");
    compile.args(["-std=gnu11", "-O2", "-Wall", "-Werror"]).arg(format!("-DSUFFIX={suffix}"));
    compile.arg("-I").arg(work.join("include")).arg(root.join("third_party/lame/verify.c"));
    compile.arg(library).arg("-lm").arg("-o").arg(&program);
    crate::finish(&mut compile, "see above for the compiler's error")?;
    Ok(program)
}

/// The programs that are compared.
struct Bench<'a> {
    ffmpeg: &'a Path,
    work: &'a Path,
    /// With LAME as it was.
    theirs: PathBuf,
    /// With each of our copies that run here, and their names; the best one last.
    copies: Vec<(&'static str, PathBuf)>,
    /// With the copy that the loader chooses.
    chosen: PathBuf,
}

type Clip = (&'static str, u32, u16, &'static str);
type Setting = (&'static str, &'static str, bool);

/// What an encoder made, and what is decoded from it.
struct Made {
    mp3: Vec<u8>,
    decoded: Vec<f32>,
    source: Vec<f32>,
    /// Samples of all channels in a frame.
    frame: usize,
}

impl Bench<'_> {
    /// Encodes one clip at one setting with all of them, and tells what is wrong.
    fn compare(&self, clip: &Clip, setting: &Setting, samples: &Path) -> Result<Vec<String>> {
        let theirs = self.encode(&self.theirs, clip, setting, samples)?;
        let what = format!("{} {} Hz {} ch {}{}", clip.0, clip.1, clip.2, setting.0, setting.1);
        let (mut faults, mut best) = (Vec::new(), Vec::new());
        for (name, copy) in &self.copies {
            let ours = self.encode(copy, clip, setting, samples)?;
            let verdict = Verdict::of(&ours, &theirs);
            println!("{:58} {verdict}", format!("{what} {name}"));
            faults
                .extend(verdict.faults(setting.2).into_iter().map(|fault| format!("{what} {name}: {fault}")));
            best = ours.mp3;
        }
        if self.encode(&self.chosen, clip, setting, samples)?.mp3 != best {
            faults.push(format!("{what}: the loader did not choose the best copy that this processor runs"));
        }
        Ok(faults)
    }

    /// The recording as samples, in a file.
    fn samples(&self, recording: &Path, (_, rate, channels, filter): &Clip) -> Result<PathBuf> {
        let samples = self.work.join("samples.f32");
        let mut decode = self.ffmpeg();
        decode.arg("-i").arg(recording).args(["-vn", "-af", filter, "-f", "f32le"]);
        decode.args(["-ar", &rate.to_string(), "-ac", &channels.to_string()]).arg(&samples);
        crate::finish(&mut decode, "see above for FFmpeg's error")?;
        Ok(samples)
    }

    fn encode(
        &self,
        program: &Path,
        (_, rate, channels, _): &Clip,
        (kind, number, _): &Setting,
        samples: &Path,
    ) -> Result<Made> {
        let (mp3, pcm) = (self.work.join("it.mp3"), self.work.join("decoded.f32"));
        let mut encode = Command::new(program);
        encode.arg(rate.to_string()).arg(channels.to_string()).args([*kind, *number]).arg(samples).arg(&mp3);
        crate::finish(&mut encode, "the encoder that was built does not work")?;
        let mut decode = self.ffmpeg();
        decode.arg("-i").arg(&mp3).args(["-f", "f32le"]).arg(&pcm);
        crate::finish(&mut decode, "FFmpeg must be able to decode what was made")?;
        let (source, decoded) = (floats(samples)?, floats(&pcm)?);
        ensure!(
            source.len() == decoded.len() && !source.is_empty(),
            "{} samples were encoded and {} decoded",
            source.len(),
            decoded.len()
        );
        let mp3 = fs::read(&mp3).with_context(|| format!("{} could not be read", mp3.display()))?;
        let frame = usize::from(*channels) * if *rate < 32_000 { 576 } else { 1152 };
        Ok(Made { mp3, decoded, source, frame })
    }

    fn ffmpeg(&self) -> Command {
        let mut ffmpeg = Command::new(self.ffmpeg);
        ffmpeg.args(["-nostdin", "-hide_banner", "-v", "error", "-y"]);
        ffmpeg
    }
}

fn floats(file: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(file).with_context(|| format!("{} could not be read", file.display()))?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

impl Made {
    /// Signal to noise in decibels: of all, and the mean of all frames', in which quiet passages weigh as much as loud ones.
    fn ratios(&self) -> (f64, f64) {
        let frames = self.source.chunks(self.frame).zip(self.decoded.chunks(self.frame));
        let frames: Vec<(f64, f64)> = frames.map(|(source, decoded)| powers(source, decoded)).collect();
        let all = frames.iter().fold((0.0, 0.0), |sum, frame| (sum.0 + frame.0, sum.1 + frame.1));
        // What is as quiet as this is not heard, and its ratio says nothing.
        let heard: Vec<f64> = frames
            .iter()
            .filter(|frame| frame.0 > 1e-7 * self.frame as f64)
            .map(|frame| decibels(*frame))
            .collect();
        (decibels(all), heard.iter().sum::<f64>() / heard.len().max(1) as f64)
    }
}

fn powers(source: &[f32], decoded: &[f32]) -> (f64, f64) {
    source.iter().zip(decoded).fold((0.0, 0.0), |(signal, noise), (a, b)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        (signal + a * a, noise + (a - b) * (a - b))
    })
}

fn decibels((signal, noise): (f64, f64)) -> f64 {
    10.0 * ((signal + 1e-12) / (noise + 1e-12)).log10()
}

/// Ours beside LAME's.
#[derive(Debug)]
struct Verdict {
    /// The share of frames that are decoded to the very same samples.
    same: f64,
    /// What our ratios have more, in decibels.
    better: (f64, f64),
    /// What our MP3 is larger, as a share.
    larger: f64,
}

impl Verdict {
    fn of(ours: &Made, theirs: &Made) -> Verdict {
        let frames = || ours.decoded.chunks(ours.frame).zip(theirs.decoded.chunks(ours.frame));
        let same =
            frames().filter(|(ours, theirs)| ours == theirs).count() as f64 / frames().count().max(1) as f64;
        let (ours_is, theirs_is) = (ours.ratios(), theirs.ratios());
        let better = (ours_is.0 - theirs_is.0, ours_is.1 - theirs_is.1);
        Verdict { same, better, larger: ours.mp3.len() as f64 / theirs.mp3.len() as f64 - 1.0 }
    }

    fn faults(&self, depends: bool) -> Vec<String> {
        let mut faults = Vec::new();
        for (what, better) in [("", self.better.0), (", frame by frame,", self.better.1)] {
            if better.is_nan() || better < -DECIBELS {
                faults.push(format!(
                    "the signal-to-noise ratio{what} is {:.3} dB below LAME's, more than {DECIBELS}",
                    -better
                ));
            }
        }
        if self.larger.abs() > SIZE {
            faults.push(format!(
                "the size differs by {:+.2} %, more than {}",
                self.larger * 100.0,
                SIZE * 100.0
            ));
        }
        if !depends && self.same < SAME {
            faults.push(format!(
                "{:.1} % of frames are the same, fewer than {}",
                self.same * 100.0,
                SAME * 100.0
            ));
        }
        faults
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict { same, better, larger } = self;
        let (same, larger) = (same * 100.0, larger * 100.0);
        write!(f, "{same:8.2}% {:+9.4} {:+9.4} {larger:+8.3}%", better.0, better.1)
    }
}
