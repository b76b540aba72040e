//! `cargo xtask bench`: `tapedeck convert` beside FFmpeg's command line, on one video, on this machine.
//!
//! What a run costs is read from /proc, so it works on Linux alone: CPU time from the children's ticks that the kernel books to
//! us when we wait for them (their own waited-for children included), memory from each process's own high-water mark.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{run, setup};

pub const HELP: &str = "\
Measures `tapedeck convert` beside FFmpeg's command line on a generated video: medians of time, CPU time and peak memory.
Prints the table and writes docs/performance.md. Nothing is asserted.

Usage: cargo xtask bench [--minutes N] [--rounds N]

  --minutes N   length of the video (10)
  --rounds N    measured runs of each program, in turn, after one that does not count (5)
";

struct Options {
    minutes: u32,
    rounds: u32,
}

/// `cargo xtask bench`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    let options = Options::read(arguments)?;
    let peer = setup::bench()?;
    let tapedeck = run::binary()?;
    let folder = env::temp_dir().join("tapedeck-bench");
    fs::create_dir_all(&folder).with_context(|| format!("{} could not be made", folder.display()))?;
    let video = video(&peer, &folder, options.minutes)?;
    let programs = [ffmpeg(&peer, &video, &folder), ours(&tapedeck, &video, &folder)];
    let costs = measure_in_turn(&programs, options.rounds)?;
    let mut results = Vec::new();
    for (program, costs) in programs.iter().zip(&costs) {
        results.push(Outcome {
            cost: Cost::medians(costs),
            bytes: fs::metadata(&program.mp3)?.len(),
            seconds: decoded_seconds(&peer, &program.mp3)?,
        });
    }
    let table = table(&results[0], &results[1]);
    print!("\n{table}");
    let page = page(&options, &video, &programs, &table, &peer)?;
    let path = crate::root().join("docs/performance.md");
    fs::write(&path, page).with_context(|| format!("{} could not be written", path.display()))?;
    println!("\nwritten: {}", path.display());
    Ok(())
}

impl Options {
    fn read(arguments: &[OsString]) -> Result<Options> {
        let mut options = Options { minutes: 10, rounds: 5 };
        let mut words = arguments.iter().map(|word| word.to_string_lossy());
        while let Some(name) = words.next() {
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

struct Program {
    name: &'static str,
    path: PathBuf,
    arguments: Vec<OsString>,
    mp3: PathBuf,
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

fn ffmpeg(path: &Path, video: &Path, folder: &Path) -> Program {
    let mp3 = folder.join("ffmpeg.mp3");
    let mut arguments: Vec<OsString> = ["-hide_banner", "-v", "error", "-y", "-i"].map(Into::into).into();
    arguments.push(video.into());
    arguments.extend(["-vn", "-map", "0:a:0", "-c:a", "libmp3lame", "-q:a", "2"].map(OsString::from));
    arguments.push(mp3.clone().into());
    Program { name: "ffmpeg", path: path.into(), arguments, mp3 }
}

/// With the default options, which are the same: VBR V2.
fn ours(path: &Path, video: &Path, folder: &Path) -> Program {
    let mp3 = folder.join("tapedeck.mp3");
    Program {
        name: "tapedeck",
        path: path.into(),
        arguments: vec!["convert".into(), "--force".into(), video.into(), "-o".into(), mp3.clone().into()],
        mp3,
    }
}

/// A test pattern with a sweeping chord over pink noise, made once and kept in the temporary folder.
fn video(ffmpeg: &Path, folder: &Path, minutes: u32) -> Result<PathBuf> {
    let video = folder.join(format!("pattern-{minutes}-minutes.mp4"));
    if video.is_file() {
        return Ok(video);
    }
    println!("making {}", video.display());
    let chord = |one: u32, two: u32| {
        format!(
            "0.2*sin(2*PI*{one}*t+40*sin(t/3))+0.15*sin(2*PI*{two}*t+90*sin(t/7))*(0.6+0.4*sin(2*PI*2*t))"
        )
    };
    let tones =
        format!("aevalsrc={}|{}:sample_rate=44100:channel_layout=stereo", chord(220, 587), chord(277, 880));
    // Under another name until it is whole.
    let part = folder.join("pattern.part.mp4");
    let mut make = Command::new(ffmpeg);
    make.args(["-hide_banner", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25"]);
    make.args(["-f", "lavfi", "-i", &tones]);
    make.args(["-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.1:seed=1:sample_rate=44100"]);
    make.args(["-filter_complex", "[2:a]pan=stereo|c0=c0|c1=c0[noise];[1:a][noise]amix=inputs=2[sound]"]);
    make.args(["-map", "0:v", "-map", "[sound]", "-t", &(minutes * 60).to_string()]);
    make.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
        "-b:a",
        "160k",
    ]);
    crate::finish(
        make.arg(&part),
        "ffmpeg needs libx264 and its own AAC encoder, which the Debian package has",
    )?;
    fs::rename(&part, &video).with_context(|| format!("{} could not be renamed", part.display()))?;
    Ok(video)
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

// Measuring

/// What one run took; memory is the sum over its processes of each one's peak, in KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    wall: f64,
    cpu: f64,
    memory: f64,
}

impl Cost {
    fn medians(costs: &[Cost]) -> Cost {
        let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
        Cost { wall: of(|cost| cost.wall), cpu: of(|cost| cost.cpu), memory: of(|cost| cost.memory) }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// One run of each program that does not count, and then round by round, so that a slow minute hits all alike.
fn measure_in_turn(programs: &[Program], rounds: u32) -> Result<Vec<Vec<Cost>>> {
    let mut costs = vec![Vec::new(); programs.len()];
    for round in 0..=rounds {
        for (program, costs) in programs.iter().zip(&mut costs) {
            let cost = measure(program)?;
            let label = if round == 0 { "warm-up".to_string() } else { format!("round {round}") };
            println!(
                "{label:8} {:9} {:7.2} s, CPU {:7.2} s, {:6.1} MiB",
                program.name,
                cost.wall,
                cost.cpu,
                cost.memory / 1024.0
            );
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    Ok(costs)
}

fn measure(program: &Program) -> Result<Cost> {
    if program.mp3.exists() {
        fs::remove_file(&program.mp3).with_context(|| format!("{} is in the way", program.mp3.display()))?;
    }
    let before = children_seconds()?;
    let start = Instant::now();
    let child = program.command().spawn();
    let child = child.with_context(|| format!("{} could not be started", program.path.display()))?;
    let (pid, ended) = (child.id(), AtomicBool::new(false));
    let (output, peaks, wall) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peaks = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                watch_memory(pid, &mut peaks);
                thread::sleep(Duration::from_millis(10));
            }
            peaks
        });
        let output = child.wait_with_output();
        let wall = start.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (output, watcher.join().unwrap_or_default(), wall)
    });
    let output = output.with_context(|| format!("{} could not be waited for", program.name))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{} ended with {}: {}", crate::line(&program.command()), output.status, said.trim());
    }
    if !program.mp3.is_file() {
        bail!("{} ended well but wrote no {}", crate::line(&program.command()), program.mp3.display());
    }
    Ok(Cost { wall, cpu: children_seconds()? - before, memory: peaks.values().sum() })
}

/// User and system time of the children that this process has waited for, their children included.
fn children_seconds() -> Result<f64> {
    // Linux shows these in hundredths of a second whatever its own tick.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")
        .context("/proc/self/stat could not be read; this needs Linux")?;
    children_ticks(&stat).map(|ticks| ticks / TICKS).context("/proc/self/stat is not as proc(5) describes it")
}

/// Fields 16 and 17, cutime and cstime, counted behind the name, which may hold anything.
fn children_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(13);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Notes the high-water mark of a process and of its descendants, in KiB, as long as each lives.
fn watch_memory(pid: u32, peaks: &mut BTreeMap<u32, f64>) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    if let Some(peak) = high_water_mark(&status) {
        peaks.insert(pid, peak);
    }
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            watch_memory(child, peaks);
        }
    }
}

fn high_water_mark(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

// Telling

struct Outcome {
    cost: Cost,
    bytes: u64,
    seconds: f64,
}

fn table(ffmpeg: &Outcome, ours: &Outcome) -> String {
    let mebi = 1024.0 * 1024.0;
    let rows = [
        ("time, s", ffmpeg.cost.wall, ours.cost.wall),
        ("CPU time, s", ffmpeg.cost.cpu, ours.cost.cpu),
        ("peak memory, MiB", ffmpeg.cost.memory / 1024.0, ours.cost.memory / 1024.0),
        ("size of the MP3, MiB", ffmpeg.bytes as f64 / mebi, ours.bytes as f64 / mebi),
        ("length of the MP3, s", ffmpeg.seconds, ours.seconds),
    ];
    let mut table =
        String::from("| median | FFmpeg | Tapedeck | Tapedeck / FFmpeg |\n|---|---:|---:|---:|\n");
    for (name, theirs, ours) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {name} | {theirs:.2} | {ours:.2} | {:.3} |", ours / theirs);
    }
    table
}

fn page(options: &Options, video: &Path, programs: &[Program], table: &str, ffmpeg: &Path) -> Result<String> {
    let size = fs::metadata(video)?.len() as f64 / 1024.0 / 1024.0;
    let commands: Vec<String> = programs.iter().map(|program| crate::line(&program.command())).collect();
    Ok(format!(
        "# Performance\n\n\
         Written by `cargo xtask bench`, which anyone can repeat; do not edit it by hand.\n\n\
         {table}\n\
         Medians of {rounds} runs each, in turn, after one of each that does not count. CPU time is user and system of all \
         processes.\nPeak memory is the sum of every process's own peak, so pages that two share count twice. The length is \
         what FFmpeg decodes\nfrom the result.\n\n\
         The video: {minutes} min, {size:.0} MiB, H.264 test pattern of 320x180, AAC stereo 44.1 kHz, a sweeping chord over \
         pink noise.\nBoth encode with LAME at VBR V2:\n\n```\n{commands}\n```\n\n\
         ## The machine\n\n{machine}",
        rounds = options.rounds,
        minutes = options.minutes,
        commands = commands.join("\n"),
        machine = machine(ffmpeg),
    ))
}

fn machine(ffmpeg: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once([':', '=']).map_or("unknown", |(_, value)| value).trim().trim_matches('"').to_string()
    };
    let first_line = |command: &mut Command| {
        let output = command.output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").to_string()
    };
    let cores = thread::available_parallelism().map_or("unknown".into(), |cores| cores.to_string());
    let facts = [
        ("processor", format!("{}, {cores} threads for us", value(&read("/proc/cpuinfo"), "model name"))),
        ("memory", gibibytes(&value(&read("/proc/meminfo"), "MemTotal"))),
        (
            "system",
            format!(
                "{}, Linux {}",
                value(&read("/etc/os-release"), "PRETTY_NAME"),
                read("/proc/sys/kernel/osrelease").trim()
            ),
        ),
        ("FFmpeg", first_line(Command::new(ffmpeg).arg("-version"))),
        ("Rust", first_line(Command::new("rustc").arg("--version"))),
        ("date", first_line(Command::new("date").args(["-u", "+%Y-%m-%d"]))),
    ];
    facts
        .iter()
        .fold("| | |\n|---|---|\n".to_string(), |page, (name, fact)| page + &format!("| {name} | {fact} |\n"))
}

fn gibibytes(kibibytes: &str) -> String {
    let count = kibibytes.trim_end_matches("kB").trim().parse::<f64>();
    count.map_or("unknown".into(), |count| format!("{:.1} GiB", count / 1024.0 / 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(vec![3.0, 1.0, 9.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 9.0, 2.0]), 3.0);
    }

    #[test]
    fn the_childrens_ticks_are_read_behind_any_name() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 70 30 20 0 1 0 9";
        assert_eq!(children_ticks(stat), Some(100.0));
        assert_eq!(children_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn the_high_water_mark_is_read_in_kib() {
        assert_eq!(high_water_mark("Name:\tx\nVmHWM:\t    5120 kB\nVmRSS:\t 4 kB\n"), Some(5120.0));
        assert_eq!(high_water_mark("Name:\tzombie\n"), None);
    }

    /// A shell that holds a child: both are seen, and the child's time is ours after the wait.
    #[test]
    fn a_run_is_measured_with_its_children() {
        let mp3 = env::temp_dir().join(format!("tapedeck-bench-test-{}.mp3", std::process::id()));
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let script = format!("sh -c '{work}'; sleep 0.1; echo x > {}", mp3.display());
        let arguments = vec!["-c".into(), script.into()];
        let program = Program { name: "sh", path: "sh".into(), arguments, mp3: mp3.clone() };
        let cost = measure(&program).unwrap();
        fs::remove_file(&mp3).unwrap();
        assert!(cost.wall >= 0.1 && cost.cpu >= 0.02 && cost.memory > 500.0, "{cost:?}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_words() {
        let arguments = vec!["-c".into(), "echo no sound >&2; exit 3".into()];
        let program = Program { name: "sh", path: "sh".into(), arguments, mp3: "/nonexistent/x.mp3".into() };
        let error = measure(&program).unwrap_err().to_string();
        assert!(error.contains("exit status: 3: no sound"), "{error}");
    }

    #[test]
    fn a_program_that_writes_no_mp3_is_an_error() {
        let program = Program {
            name: "true",
            path: "true".into(),
            arguments: vec![],
            mp3: "/nonexistent/x.mp3".into(),
        };
        assert!(measure(&program).unwrap_err().to_string().contains("wrote no /nonexistent/x.mp3"));
    }

    #[test]
    fn options_are_read_or_refused() {
        let read = |words: &[&str]| Options::read(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(read(&["--rounds", "3"]).unwrap().rounds, 3);
        assert!(read(&["--rounds", "0"]).is_err());
        assert!(read(&["--minutes"]).is_err());
        assert!(read(&["--speed"]).is_err());
    }
}
