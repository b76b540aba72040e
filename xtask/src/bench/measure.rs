//! What a run of a program takes: time, processor time, memory and bytes read, of all its processes.
//!
//! It is read from /proc, so it works on Linux alone: CPU time from the children's ticks that the kernel books to us when we wait for
//! them (their own waited-for children included), bytes read from the same account of the process that has ended and is not
//! waited for yet, memory from each process's own high-water mark.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A program that makes an MP3, or several.
pub struct Program {
    pub name: &'static str,
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    pub mp3: PathBuf,
}

impl Program {
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// What one run took: seconds, memory as the sum over its processes of each one's peak, in KiB, and bytes got by `read` and its like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
    pub memory: f64,
    pub read: f64,
}

impl Cost {
    pub fn medians(costs: &[Cost]) -> Cost {
        let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
        Cost {
            wall: of(|cost| cost.wall),
            cpu: of(|cost| cost.cpu),
            memory: of(|cost| cost.memory),
            read: of(|cost| cost.read),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// One run of each program that does not count, and then round by round, so that a slow minute hits all alike.
pub fn measure_in_turn(programs: &[Program], rounds: u32) -> Result<Vec<Vec<Cost>>> {
    let mut costs = vec![Vec::new(); programs.len()];
    for round in 0..=rounds {
        for (program, costs) in programs.iter().zip(&mut costs) {
            let cost = measure(program)?;
            let label = if round == 0 { "warm-up".to_string() } else { format!("round {round}") };
            println!(
                "{label:8} {:9} {:7.2} s, CPU {:7.2} s, {:6.1} MiB, {:7.1} MiB read",
                program.name,
                cost.wall,
                cost.cpu,
                cost.memory / 1024.0,
                cost.read / (1024.0 * 1024.0)
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
    let mut child = child.with_context(|| format!("{} could not be started", program.path.display()))?;
    let mut stderr = child.stderr.take().context("its errors are not piped")?;
    let (pid, ended, mut said) = (child.id(), AtomicBool::new(false), Vec::new());
    let (status, read, peaks, wall) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peaks = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                watch_memory(pid, &mut peaks);
                thread::sleep(Duration::from_millis(10));
            }
            peaks
        });
        let listened = stderr.read_to_end(&mut said);
        while !is_over(pid) {
            thread::sleep(Duration::from_micros(200));
        }
        let wall = start.elapsed().as_secs_f64();
        let read = bytes_read(&fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default());
        let status = listened.and_then(|_| child.wait());
        ended.store(true, Ordering::Relaxed);
        (status, read, watcher.join().unwrap_or_default(), wall)
    });
    let status = status.with_context(|| format!("{} could not be waited for", program.name))?;
    let said = String::from_utf8_lossy(&said);
    if !status.success() {
        bail!("{} ended with {status}: {}", crate::line(&program.command()), said.trim());
    }
    if !program.mp3.is_file() {
        bail!("{} ended well but wrote no {}", crate::line(&program.command()), program.mp3.display());
    }
    let read = read.context("/proc/PID/io is not as proc(5) describes it")?;
    Ok(Cost { wall, cpu: children_seconds()? - before, memory: peaks.values().sum(), read })
}

/// Has this child ended, and only waits for us to notice?
fn is_over(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything.
    stat.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with(['Z', 'X']))
}

/// What a process and the children that it has waited for got from files and pipes.
fn bytes_read(io: &str) -> Option<f64> {
    io.lines().find_map(|line| line.strip_prefix("rchar:"))?.trim().parse().ok()
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

#[cfg(test)]
mod tests {
    use std::env;

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
    fn the_bytes_read_are_those_that_were_asked_for() {
        assert_eq!(bytes_read("rchar: 4096\nwchar: 7\nread_bytes: 512\n"), Some(4096.0));
        assert_eq!(bytes_read(""), None);
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
        let script =
            format!("sh -c '{work}'; head -c 5000000 /dev/zero; sleep 0.1; echo x > {}", mp3.display());
        let arguments = vec!["-c".into(), script.into()];
        let program = Program { name: "sh", path: "sh".into(), arguments, mp3: mp3.clone() };
        let cost = measure(&program).unwrap();
        fs::remove_file(&mp3).unwrap();
        assert!(cost.wall >= 0.1 && cost.cpu >= 0.02 && cost.memory > 500.0, "{cost:?}");
        assert!((5e6..6e6).contains(&cost.read), "{cost:?}");
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
}
