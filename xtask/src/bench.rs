//! `cargo xtask bench`: `tapedeck convert` beside what its users could pick instead, on one machine, in one run.

mod machine;
mod measure;
mod videos;

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::BenchTools;
use crate::{dist, run, setup};
use measure::{Cost, Program, measure_in_turn};
use videos::{Kind, MP4, OTHERS, Studio, WAV};

pub const HELP: &str = "\
Measures `tapedeck convert` beside FFmpeg's and LAME's command lines and MoviePy 1.0.3 on generated videos: medians of time, CPU
time and peak memory, as ratios. Prints the tables and writes docs/performance.md. Nothing is asserted.

Usage: cargo xtask bench [--minutes N] [--rounds N] [--long] [--only TEXT] [--system]

  --minutes N   length of the long videos (20)
  --rounds N    measured runs of each program, in turn, after one that does not count (3)
  --long        three hours, too
  --only TEXT   only what has TEXT in its name; docs/performance.md is left as it is
  --system      the binary that `cargo build --release` makes, with the system's libraries, instead of `cargo xtask dist`'s;
                docs/performance.md is left as it is
";

struct Options {
    minutes: u32,
    rounds: u32,
    only: Option<String>,
    system: bool,
    long: bool,
}

/// `cargo xtask bench`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    let options = Options::read(arguments)?;
    let tools = setup::bench()?;
    let tapedeck = if options.system { run::binary()? } else { dist::binary()? };
    let folder = env::temp_dir().join("tapedeck-bench");
    fs::create_dir_all(&folder).with_context(|| format!("{} could not be made", folder.display()))?;
    let bench = Bench { tools: &tools, tapedeck: &tapedeck, folder: &folder };
    let mut rows = Vec::new();
    for case in bench.cases(&options)? {
        println!("{}", case.name);
        rows.push(case.measure(&tools.ffmpeg, options.rounds)?);
    }
    let table = table(&rows);
    print!("\n{table}");
    if options.only.is_some() || options.system {
        return Ok(());
    }
    let path = crate::root().join("docs/performance.md");
    fs::write(&path, page(&options, &table, &tools.ffmpeg))
        .with_context(|| format!("{} could not be written", path.display()))?;
    println!("\nwritten: {}", path.display());
    Ok(())
}

impl Options {
    fn read(arguments: &[OsString]) -> Result<Options> {
        let mut options = Options { minutes: 20, rounds: 3, only: None, system: false, long: false };
        let mut words = arguments.iter().map(|word| word.to_string_lossy());
        while let Some(name) = words.next() {
            if name == "--only" {
                options.only = Some(words.next().context("--only wants a text")?.into_owned());
                continue;
            }
            let switch = match &*name {
                "--system" => Some(&mut options.system),
                "--long" => Some(&mut options.long),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = true;
                continue;
            }
            let slot = match &*name {
                "--minutes" => &mut options.minutes,
                "--rounds" => &mut options.rounds,
                _ => bail!("`cargo xtask bench` does not know `{name}`; see `cargo xtask bench --help`"),
            };
            let number = words.next().and_then(|word| word.parse().ok()).filter(|number| *number > 0);
            *slot = number.with_context(|| format!("{name} wants a number above 0"))?;
        }
        Ok(options)
    }
}

// What is measured

/// Two programs that do the same; the second is ours.
struct Case {
    name: String,
    programs: [Program; 2],
}

/// Settings, in the words of each command line.
struct Setting {
    name: &'static str,
    ffmpeg: &'static [&'static str],
    tapedeck: &'static [&'static str],
}

const V2: Setting = Setting { name: "V2", ffmpeg: &["-q:a", "2"], tapedeck: &[] };
const CBR: Setting =
    Setting { name: "CBR 128k", ffmpeg: &["-b:a", "128k"], tapedeck: &["--preset", "original"] };

struct Bench<'a> {
    tools: &'a BenchTools,
    tapedeck: &'a Path,
    folder: &'a Path,
}

impl Bench<'_> {
    /// What is wanted of all that can be measured; the videos are made for these alone.
    fn cases(&self, options: &Options) -> Result<Vec<Case>> {
        let studio = Studio { ffmpeg: &self.tools.ffmpeg, folder: self.folder };
        let long = options.minutes * 60;
        let mut cases = Vec::new();
        let mut add = |kind: &Kind, seconds: u32, what: &str, programs: &dyn Fn(&Path) -> [Program; 2]| {
            let length = if seconds < 60 { format!("{seconds} s") } else { format!("{} min", seconds / 60) };
            let name = format!("{}, {length}, {what}", kind.name);
            if options.only.as_ref().is_none_or(|only| name.contains(only)) {
                cases.push(Case { name, programs: programs(&studio.video(kind, seconds)?) });
            }
            anyhow::Ok(())
        };
        let v2 = |video: &Path| [self.ffmpeg(video, &V2), self.ours(video, &V2, &[])];
        let alone = |video: &Path| self.ours(video, &V2, &["--threads", "1"]);
        add(&MP4, long, V2.name, &v2)?;
        add(&MP4, long, CBR.name, &|video| [self.ffmpeg(video, &CBR), self.ours(video, &CBR, &[])])?;
        add(&MP4, long, "V2, one encoder", &|video| [self.ffmpeg(video, &V2), alone(video)])?;
        add(&MP4, long, "V2, two at once", &|video| {
            [self.twice(self.ffmpeg(video, &V2)), self.twice(alone(video))]
        })?;
        for seconds in [15, 60] {
            add(&MP4, seconds, V2.name, &v2)?;
        }
        for kind in &OTHERS {
            add(kind, 300, V2.name, &v2)?;
        }
        if options.long {
            add(&MP4, 3 * 60 * 60, V2.name, &v2)?;
        }
        add(&WAV, 300, V2.name, &|wav| [self.lame(wav), self.ours(wav, &V2, &[])])?;
        add(&MP4, 300, CBR.name, &|video| [self.moviepy(video), self.ours(video, &CBR, &[])])?;
        Ok(cases)
    }

    fn ffmpeg(&self, video: &Path, setting: &Setting) -> Program {
        let mp3 = self.folder.join("ffmpeg.mp3");
        let mut arguments: Vec<OsString> = ["-hide_banner", "-v", "error", "-y", "-i"].map(Into::into).into();
        arguments.push(video.into());
        arguments.extend(["-vn", "-map", "0:a:0", "-c:a", "libmp3lame"].map(OsString::from));
        arguments.extend(setting.ffmpeg.iter().map(OsString::from));
        arguments.push(mp3.clone().into());
        Program { name: "FFmpeg", path: self.tools.ffmpeg.clone(), arguments, mp3 }
    }

    fn ours(&self, video: &Path, setting: &Setting, more: &[&str]) -> Program {
        let mp3 = self.folder.join("tapedeck.mp3");
        let mut arguments: Vec<OsString> = vec!["convert".into(), "--force".into(), "--quiet".into()];
        arguments.extend(setting.tapedeck.iter().chain(more).map(OsString::from));
        arguments.extend([video.into(), "-o".into(), mp3.clone().into()]);
        Program { name: "Tapedeck", path: self.tapedeck.into(), arguments, mp3 }
    }

    fn lame(&self, wav: &Path) -> Program {
        let mp3 = self.folder.join("lame.mp3");
        let mut arguments: Vec<OsString> = ["--quiet", "-V2", "-q3"].map(Into::into).into();
        arguments.extend([wav.into(), mp3.clone().into()]);
        Program { name: "LAME", path: self.tools.lame.clone(), arguments, mp3 }
    }

    /// As the original services do it.
    fn moviepy(&self, video: &Path) -> Program {
        const SCRIPT: &str = "import sys, moviepy.editor; \
            moviepy.editor.VideoFileClip(sys.argv[1]).audio.write_audiofile(sys.argv[2], logger=None)";
        let mp3 = self.folder.join("moviepy.mp3");
        let mut arguments: Vec<OsString> = vec!["-c".into(), SCRIPT.into()];
        arguments.extend([video.into(), mp3.clone().into()]);
        Program { name: "MoviePy 1.0.3", path: self.tools.moviepy.clone(), arguments, mp3 }
    }

    /// The same twice at the same time, into two files.
    fn twice(&self, program: Program) -> Program {
        let other = program.mp3.with_extension("other.mp3");
        let line = |mp3: &Path| {
            let words = std::iter::once(program.path.as_os_str())
                .chain(program.arguments.iter().map(OsString::as_os_str));
            let words = words.map(|word| if word == program.mp3 { mp3.as_os_str() } else { word });
            words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
        };
        let both = format!("{} & one=$!; {} && wait $one", line(&other), line(&program.mp3));
        Program { path: "sh".into(), arguments: vec!["-c".into(), both.into()], ..program }
    }
}

/// A peer, ours, and how long each one's MP3 is.
struct Row {
    name: String,
    peer: &'static str,
    theirs: Cost,
    ours: Cost,
    seconds: [f64; 2],
}

impl Case {
    fn measure(&self, ffmpeg: &Path, rounds: u32) -> Result<Row> {
        let costs = measure_in_turn(&self.programs, rounds)?;
        let [theirs, ours] = &costs[..] else { bail!("{} is no pair", self.name) };
        let seconds = [
            decoded_seconds(ffmpeg, &self.programs[0].mp3)?,
            decoded_seconds(ffmpeg, &self.programs[1].mp3)?,
        ];
        Ok(Row {
            name: self.name.clone(),
            peer: self.programs[0].name,
            theirs: Cost::medians(theirs),
            ours: Cost::medians(ours),
            seconds,
        })
    }
}

/// How long an MP3 plays, by decoding it: speed is worth nothing when the sound is cut.
fn decoded_seconds(ffmpeg: &Path, mp3: &Path) -> Result<f64> {
    const RATE: f64 = 8000.0;
    let mut decode = Command::new(ffmpeg);
    decode
        .args(["-v", "error", "-xerror", "-i"])
        .arg(mp3)
        .args(["-f", "s16le", "-ac", "1", "-ar", "8000", "-"]);
    let output = decode.output().context("ffmpeg could not be started")?;
    if !output.status.success() {
        bail!("ffmpeg cannot decode {}: {}", mp3.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout.len() as f64 / 2.0 / RATE)
}

// Telling

const MEBIBYTE: f64 = 1024.0 * 1024.0;

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| | beside | its time, s | ours, s | time | CPU time | memory | ours, MiB | read by both, MiB | length of both, s |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for Row { name, peer, theirs, ours, seconds } in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {name} | {peer} | {:.2} | {:.2} | **{:.3}** | {:.3} | {:.2} | {:.0} | {:.1}, {:.1} | {:.2}, {:.2} |",
            theirs.wall,
            ours.wall,
            ours.wall / theirs.wall,
            ours.cpu / theirs.cpu,
            ours.memory / theirs.memory,
            ours.memory / 1024.0,
            theirs.read / MEBIBYTE,
            ours.read / MEBIBYTE,
            seconds[0],
            seconds[1],
        );
    }
    table
}

fn page(options: &Options, table: &str, ffmpeg: &Path) -> String {
    format!(
        "# Performance\n\n\
         Written by `cargo xtask bench`, which anyone can repeat; do not edit it by hand.\n\n\
         Time, CPU time and memory are ratios, ours to the other's in the same run: below 1 is better.\n\n\
         {table}\n\
         Medians of {rounds} runs each, in turn, after one of each that does not count. CPU time is user and system of all \
         processes.\nMemory is the sum of every process's own peak, so pages that two share count twice. What is \
         read is all that\nthe processes got by system calls, their own files and pipes among it. The length is what FFmpeg decodes from the results.\n\n\
         Tapedeck is the binary of `cargo xtask dist`. All encode with LAME at its quality 3: V2, or CBR 128 kbit/s. The videos: H.264 test pattern of 320x180 with stereo sound, \
         a sweeping\nchord and beats over pink noise.\n\n\
         ## The machine\n\n{machine}",
        rounds = options.rounds,
        machine = machine::describe(ffmpeg),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let read = |words: &[&str]| Options::read(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(read(&["--rounds", "3"]).unwrap().rounds, 3);
        assert!(read(&["--rounds", "0"]).is_err());
        assert!(read(&["--minutes"]).is_err());
        assert!(read(&["--speed"]).is_err());
    }
}
