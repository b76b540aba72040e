//! The machine that was measured on, as docs/performance.md describes it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// A table of what it is.
pub fn describe(ffmpeg: &Path) -> String {
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
