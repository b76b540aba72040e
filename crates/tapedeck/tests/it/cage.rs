//! The cage from outside: what the kernel says about the engine process of the program that goes out. What it denies inside, the engine's
//! own tests try.

use crate::convert::{children_of, long_video};
use crate::deck::{media, program, tapedeck};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A program at work, ended with this.
struct Working(Child);

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the kernel says in this file about a process, once it is confined.
fn told(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// The engine process, once it is confined: the filter of system calls is its last layer.
fn confined_engine_of(working: &Working) -> u32 {
    let begun = Instant::now();
    loop {
        let engines = children_of(working.0.id());
        if let [engine] = engines[..]
            && told(engine, "status").contains("Seccomp:\t2")
        {
            return engine;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no engine process is confined: {engines:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_conversion_by_this_program_is_in_its_cage() {
    let dir = tempfile::tempdir().unwrap();
    let video = long_video(dir.path(), 1200);
    let mut command = tapedeck(dir.path(), &["convert"]);
    let working = Working(command.arg(&video).stderr(Stdio::null()).spawn().unwrap());
    let engine = confined_engine_of(&working);
    assert!(told(engine, "status").contains("NoNewPrivs:\t1"));
    let limits = told(engine, "limits");
    for (limit, soft, hard) in [
        ("Max file size", "0", "0"),
        ("Max core file size", "0", "0"),
        ("Max open files", "4", "4"),
        ("Max cpu time", "21600", "21605"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{limit}");
    }
    let data = limits.lines().find_map(|line| line.strip_prefix("Max data size")).unwrap();
    let data: u64 = data.split_whitespace().next().unwrap().parse().expect("memory is limited");
    assert!(data < 4 << 30, "{data} bytes");
    // The same program: no other file of it is looked for, and Landlock lacking, `doctor` would say so.
    let file = fs::canonicalize(program()).unwrap();
    assert_eq!(fs::read_link(format!("/proc/{}/exe", working.0.id())).unwrap(), file);
    let doctor = tapedeck(dir.path(), &["doctor"]).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.lines().any(|line| line.contains("ok") && line.contains("converter.sandbox")), "{said}");
}

/// The same on a machine whose kernel, or container runtime, has no Landlock.
fn without_landlock(mut command: Command) -> Command {
    let rules = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let denied = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).unwrap();
    let filter = BpfProgram::try_from(filter).unwrap();
    // SAFETY: between fork and exec there are system calls only.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&filter).map_err(|_| io::ErrorKind::Unsupported.into())
        })
    };
    command
}

#[test]
fn a_missing_layer_is_refused_or_else_said_by_every_command_that_converts() {
    const SAID: &str = "Landlock is missing: ";
    let dir = tempfile::tempdir().unwrap();
    let best_effort = ("TAPEDECK_CONVERTER_SANDBOX", "best-effort");
    let said = |arguments: &[&str], environment: &[(&str, &str)]| {
        let command = without_landlock(tapedeck(dir.path(), arguments));
        let output = { command }.envs(environment.iter().copied()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        (output.status.success(), said)
    };
    let (well, text) = said(&["doctor"], &[]);
    assert!(!well && text.contains("Landlock is needed"), "{text}");
    let (well, text) = said(&["doctor"], &[best_effort]);
    assert!(well && text.contains(SAID) && text.contains("less confined"), "{text}");

    let (video, mp3) = (media("wav__sample.wav"), dir.path().join("out.mp3"));
    let convert = ["convert", video.to_str().unwrap(), "-o", mp3.to_str().unwrap()];
    let (well, text) = said(&convert, &[]);
    assert!(!well && text.contains("sandbox-unavailable") && !mp3.exists(), "{text}");
    let (well, text) = said(&[&convert[..], &["--sandbox", "best-effort"]].concat(), &[]);
    assert!(well && text.matches(SAID).count() == 1 && mp3.exists(), "{text}");

    let (well, text) = said(&["serve", "--listen", "127.0.0.1:0"], &[]);
    assert!(!well && text.contains("Landlock is needed"), "{text}");
    let command = without_landlock(tapedeck(dir.path(), &["serve", "--listen", "127.0.0.1:0"]));
    let serving =
        { command }.envs([best_effort]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut serving = Working(serving);
    let mut log = BufReader::new(serving.0.stderr.take().unwrap()).lines();
    let warning = log.find(|line| line.as_ref().unwrap().contains(SAID)).expect("it warns").unwrap();
    assert!(warning.contains("WARN") && warning.contains("without a layer of the sandbox"), "{warning}");
}
