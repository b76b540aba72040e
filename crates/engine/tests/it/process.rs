//! The engine process: confined, ended in time, never left behind, and not believed when it lies.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::{Cancel, Code, Engine, Error, Input, Kind, Limits, Options, Progress, Sink, Summary};
use tempfile::TempDir;

use super::{engine, long_wav, media};

fn run(
    engine: &Engine,
    path: &Path,
    sink: &mut dyn Sink,
    limits: &Limits,
    cancel: &Cancel,
    watch: &mut dyn FnMut(Progress),
) -> Result<Summary, Error> {
    engine.convert(Input::File(File::open(path).unwrap()), sink, &Options::default(), limits, cancel, watch)
}

/// Processes that were started with this argument.
pub(super) fn marked(mark: &str) -> Vec<i32> {
    let of = |entry: io::Result<std::fs::DirEntry>| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes()).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(of).collect()
}

/// Converts an hour of sound, does `act` to the process at its first progress, and asserts that none is left behind.
fn meddle(mark: &str, limits: &Limits, act: impl Fn(i32, &Cancel)) -> (Code, Duration) {
    let folder = TempDir::new().unwrap();
    let cancel = Cancel::new();
    let mut acted = None;
    let result = run(&engine(mark), &long_wav(&folder, 3600), &mut Vec::new(), limits, &cancel, &mut |_| {
        if acted.is_none() {
            let found = marked(mark);
            assert_eq!(found.len(), 1);
            act(found[0], &cancel);
            acted = Some(Instant::now());
        }
    });
    assert!(marked(mark).is_empty(), "a process is left");
    (result.unwrap_err().code, acted.expect("there was progress").elapsed())
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: plain numbers; the process is ours.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn a_cancelled_process_is_gone_within_half_a_second() {
    let (code, took) = meddle("mark-cancel", &Limits::default(), |_, cancel| cancel.cancel());
    assert_eq!(code, Code::Cancelled);
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_process_that_is_silent_is_cancelled_as_soon() {
    const LATER: Duration = Duration::from_millis(300);
    let (code, took) = meddle("mark-cancel-silent", &Limits::default(), |pid, cancel| {
        signal(pid, libc::SIGSTOP);
        let cancel = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(LATER);
            cancel.cancel();
        });
    });
    assert_eq!(code, Code::Cancelled);
    assert!((LATER..LATER + Duration::from_millis(500)).contains(&took), "{took:?}");
}

#[test]
fn a_killed_process_has_crashed() {
    let (code, _) = meddle("mark-kill", &Limits::default(), |pid, _| signal(pid, libc::SIGKILL));
    assert_eq!((code, code.kind()), (Code::EngineCrashed, Kind::Suspect));
}

#[test]
fn a_stopped_process_has_stalled() {
    let limits = Limits { stall: Duration::from_secs(1), ..Limits::default() };
    let (code, took) = meddle("mark-stop", &limits, |pid, _| signal(pid, libc::SIGSTOP));
    assert_eq!(code, Code::EngineStalled);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn processor_time_is_limited() {
    let limits = Limits { cpu: Duration::from_secs(1), ..Limits::default() };
    assert_eq!(meddle("mark-cpu", &limits, |_, _| ()).0, Code::CpuLimit);
}

#[test]
fn memory_and_output_are_limited() {
    let bbb = media().join("bbb_480p_30s.mp4");
    let with = |limits: Limits| {
        run(&engine("mark-limits"), &bbb, &mut Vec::new(), &limits, &Cancel::new(), &mut |_| ())
    };
    assert_eq!(with(Limits { memory: 1 << 20, ..Limits::default() }).unwrap_err().code, Code::OutOfMemory);
    assert!(with(Limits { memory: 64 << 20, ..Limits::default() }).is_ok());
    assert_eq!(with(Limits { output: 100_000, ..Limits::default() }).unwrap_err().code, Code::OutputTooLarge);
}

#[test]
fn a_process_is_confined() {
    // What others of its user cannot read (`fd`, `environ`) the probes of the sandbox tell.
    let (pid, _) = {
        let seen = std::cell::RefCell::default();
        let limits = Limits { threads: 2, ..Limits::default() };
        let result = meddle("mark-confined", &limits, |pid, cancel| {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            seen.replace((read("limits"), read("status")));
            cancel.cancel();
        });
        let (limits, status): (String, String) = seen.into_inner();
        // Two threads encode, one decodes.
        for said in ["NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t3"] {
            assert!(status.lines().any(|line| line == said), "{status}");
        }
        for (limit, soft, hard) in [
            ("Max file size", "0", "0"),
            ("Max core file size", "0", "0"),
            ("Max open files", "4", "4"),
            ("Max cpu time", "21600", "21605"),
        ] {
            let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
            assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{limit}");
        }
        result
    };
    assert_eq!(pid, Code::Cancelled);
}

#[test]
fn a_descriptor_that_others_left_open_does_not_reach_the_process() {
    let file = File::open(media().join("wav__sample.wav")).unwrap();
    // SAFETY: a copy without close-on-exec, owned right away.
    let _inheritable = unsafe { OwnedFd::from_raw_fd(libc::dup(std::os::fd::AsRawFd::as_raw_fd(&file))) };
    let error = fake("exec /bin/ls -l /proc/self/fd >&2").unwrap_err();
    let said = error.source.unwrap().to_string();
    let links = said.lines().filter(|line| line.contains(" -> ") && !line.contains("/proc/")).count();
    assert_eq!(links, 4, "{said}");
    assert_eq!(said.matches("wav__sample.wav").count(), 1, "only as its input: {said}");
}

/// A shell that plays an engine.
fn fake(script: &str) -> Result<Summary, Error> {
    let engine = Engine::program("/bin/sh", ["-c", script]);
    let limits = Limits { stall: Duration::from_secs(1), ..Limits::default() };
    run(&engine, &media().join("wav__sample.wav"), &mut Vec::new(), &limits, &Cancel::new(), &mut |_| ())
}

#[test]
fn a_process_that_lies_or_dies_is_not_believed() {
    let ready = r#"echo '"ready"' >&3;"#;
    let done_with = |bytes, peaks: &str| {
        format!(
            r#"echo '{{"head":{{"offset":0,"bytes":[1]}}}}' >&3; echo '{{"done":{{"samples":1,"sample_rate":8000,"channels":1,"bytes":{bytes},"container":"","codec":"","bytes_read":0,"peaks":{peaks}}}}}' >&3;"#
        )
    };
    let done = |bytes| done_with(bytes, "null");
    let peaks = |pairs| {
        let peaks = format!(r#"{{"sample_rate":8000,"samples_per_peak":2,"peaks":[{pairs}]}}"#);
        format!("{ready} printf abc; {} exit 0", done_with(3, &peaks))
    };
    let cases = [
        ("exit 1".to_owned(), Err(Code::EngineNotStarted)),
        (format!("{ready} exit 101"), Err(Code::EngineCrashed)),
        (format!("{ready} exit 0"), Err(Code::EngineCrashed)),
        (format!("{ready} kill -ABRT $$"), Err(Code::EngineCrashed)),
        (format!("{ready} echo nonsense >&3; exit 0"), Err(Code::EngineCrashed)),
        (format!("{ready} printf abc; {} exit 0", done(3)), Ok(())),
        (format!("{ready} printf abc; {} exit 0", done(4)), Err(Code::EngineCrashed)),
        (format!("{ready} printf abc; {} exit 1", done(3)), Err(Code::EngineCrashed)),
        (peaks("[-3,7]"), Ok(())),
        (peaks("[7,-3]"), Err(Code::EngineCrashed)),
        (peaks("[-3,700]"), Err(Code::EngineCrashed)),
        (peaks("[-3,7],[-3,7]"), Err(Code::EngineCrashed)),
        (format!("{ready} exec 1>&- 3>&-; while :; do :; done"), Err(Code::EngineCrashed)),
        (format!("{ready} while :; do :; done"), Err(Code::EngineStalled)),
        (
            format!("{ready} echo memory allocation of 9 bytes failed >&2; kill -ABRT $$"),
            Err(Code::OutOfMemory),
        ),
    ];
    for (script, expected) in cases {
        assert_eq!(fake(&script).map(drop).map_err(|error| error.code), expected, "{script}");
    }
}

#[test]
fn a_program_that_is_not_there_is_not_started() {
    let engine = Engine::program("/nowhere/engine", ["engine"]);
    let wav = media().join("wav__sample.wav");
    let result = run(&engine, &wav, &mut Vec::new(), &Limits::default(), &Cancel::new(), &mut |_| ());
    let error = result.unwrap_err();
    assert_eq!((error.code, error.kind()), (Code::EngineNotStarted, Kind::Transient));
}

/// Slow, or broken.
struct Trouble {
    delay: Duration,
    broken: bool,
}

impl Sink for Trouble {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        std::thread::sleep(std::mem::take(&mut self.delay));
        if self.broken { Err(io::Error::other("the store is down")) } else { Ok(()) }
    }

    fn rewrite_head(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_sink_is_no_stall_and_a_broken_one_is_said() {
    let bbb: PathBuf = media().join("bbb_480p_30s.mp4");
    let limits = Limits { stall: Duration::from_secs(1), ..Limits::default() };
    let with =
        |mut sink: Trouble| run(&engine("mark-sink"), &bbb, &mut sink, &limits, &Cancel::new(), &mut |_| ());
    assert!(with(Trouble { delay: Duration::from_secs(3), broken: false }).is_ok());
    let error = with(Trouble { delay: Duration::ZERO, broken: true }).unwrap_err();
    assert_eq!((error.code, error.kind()), (Code::WriteFailed, Kind::Transient));
}
