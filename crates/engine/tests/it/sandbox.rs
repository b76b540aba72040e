//! The sandbox: each layer denies its part by itself, all of them together deny everything, and an honest conversion notices none.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Cancel, Code, Engine, Error, Input, Kind, Layer, Limits, Options, Sandbox, Summary};
use tempfile::TempDir;

use super::media;
use super::process::marked;

const NONE: &[Layer] = &[];
const RLIMITS: &[Layer] = &[Layer::Rlimits];
const LANDLOCK: &[Layer] = &[Layer::Landlock];
const SECCOMP: &[Layer] = &[Layer::Seccomp];

fn child(arguments: &[&str]) -> Engine {
    Engine::program(env!("CARGO_BIN_EXE_engine-child"), arguments)
}

fn convert(engine: &Engine) -> Result<Summary, Error> {
    let limits = Limits { memory: 64 << 20, cpu: Duration::from_secs(1), ..Limits::default() };
    let input = Input::File(File::open(media().join("wav__sample.wav")).unwrap());
    engine.convert(input, &mut Vec::new(), &Options::default(), &limits, &Cancel::new(), &mut |_| ())
}

/// What becomes of a probe in this engine: its own answer, or the end that it brought upon its process.
fn answer(engine: &Engine) -> String {
    let error = convert(engine).unwrap_err();
    let said = error.source.map(|source| source.to_string()).unwrap_or_default();
    match error.code {
        Code::Corrupt => error.text,
        Code::EngineCrashed if said.contains("exit status: 42") => "done".to_owned(),
        Code::EngineCrashed if said.contains("(SIGSYS)") => {
            assert!(error.text.contains("attack"), "{}", error.text);
            "SIGSYS".to_owned()
        }
        Code::EngineCrashed => said,
        code => code.to_string(),
    }
}

fn by(layers: &[Layer], what: &str, with: &str) -> String {
    answer(&child(&["probe", what, with]).with_layers(layers))
}

/// In a whole sandbox, as it is by default.
fn by_all(what: &str, with: &str) -> String {
    answer(&child(&["probe", what, with]))
}

/// Asserts what no layer, limits, Landlock and seccomp make of a probe, and that all together deny it.
fn assert_denied(what: &str, with: &str, expected: [&str; 4]) {
    let seen = [NONE, RLIMITS, LANDLOCK, SECCOMP].map(|layers| by(layers, what, with));
    assert_eq!(seen, expected, "{what} by no layer, limits, Landlock, seccomp");
    let together = by_all(what, with);
    let denied: Vec<&str> = expected.into_iter().filter(|answer| *answer != expected[0]).collect();
    assert!(denied.contains(&together.as_str()), "{what} in the whole sandbox: {together}");
}

/// The version of this kernel's Landlock.
fn landlock() -> i64 {
    const VERSION: u32 = 1;
    // SAFETY: asks for the version alone, and takes no attributes.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) }
}

/// What Landlock answers when it knows the matter since `version`, else what comes without it.
fn since<'a>(version: i64, denied: &'a str, without: &'a str) -> &'a str {
    if landlock() >= version { denied } else { without }
}

#[test]
fn files_are_out_of_reach_by_landlock_and_by_seccomp() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("made");
    let made = path.to_str().unwrap();
    assert_denied("read-file", "/etc/passwd", ["done", "done", "EACCES", "ENOSYS"]);
    assert_denied("stat", "/etc/passwd", ["done", "done", "done", "ENOSYS"]);
    let make = |layers| {
        let answer = by(layers, "make-file", made);
        (answer, std::fs::remove_file(&path).is_ok())
    };
    assert_eq!(make(NONE), ("done".to_owned(), true));
    assert_eq!(make(LANDLOCK), ("EACCES".to_owned(), false));
    assert_eq!(make(SECCOMP), ("ENOSYS".to_owned(), false));
}

#[test]
fn the_network_is_out_of_reach_by_landlock_and_by_seccomp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    assert_denied("socket", "", ["done", "done", "done", "SIGSYS"]);
    assert_denied("connect", &port, ["done", "done", since(4, "EACCES", "done"), "SIGSYS"]);
    assert_denied("bind", "", ["done", "done", since(4, "EACCES", "done"), "SIGSYS"]);
    let name = format!("tapedeck-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_denied("abstract-socket", &name, ["done", "done", since(6, "EPERM", "done"), "SIGSYS"]);
}

#[test]
fn no_other_program_and_no_other_process_is_started() {
    assert_denied("exec", "", ["done", "done", "EACCES", "SIGSYS"]);
    assert_denied("fork", "", ["done", "done", "done", "SIGSYS"]);
    assert_denied("spawn", "", ["done", "done", "EACCES", "SIGSYS"]);
}

/// A process outside, ended with this.
struct Victim(Child);

impl Victim {
    fn start() -> Victim {
        let mut victim = Command::new(env!("CARGO_BIN_EXE_engine-child"))
            .arg("victim")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(victim.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        Victim(victim)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn other_processes_are_out_of_reach_by_landlock_and_by_seccomp() {
    let victim = Victim::start();
    assert_denied("ptrace", &victim.0.id().to_string(), ["done", "done", "EPERM", "SIGSYS"]);
    let kill = |layers| {
        let mut victim = Victim::start();
        let answer = by(layers, "kill", &victim.0.id().to_string());
        // A signal that was sent has arrived by now: the process that sent it has ended.
        (answer, victim.0.try_wait().unwrap().is_some())
    };
    assert_eq!(kill(NONE).0, "done");
    assert_eq!(kill(SECCOMP), ("SIGSYS".to_owned(), false));
    assert_eq!(kill(&Layer::ALL), ("SIGSYS".to_owned(), false));
    if landlock() >= 6 {
        assert_eq!(kill(LANDLOCK), ("EPERM".to_owned(), false));
    }
}

#[test]
fn memory_time_and_descriptors_are_limited_by_rlimits_alone() {
    let others = &[Layer::Landlock, Layer::Seccomp];
    for (what, much, denied) in [("memory", "", "out-of-memory"), ("cpu", "2", "cpu-limit")] {
        assert_eq!(by(others, what, much), "done", "{what}");
        assert_eq!(by(RLIMITS, what, much), denied, "{what}");
        assert_eq!(by_all(what, much), denied, "{what}");
    }
    // What that limit does not count cannot be had at all.
    for what in ["shared-memory", "stack-memory"] {
        assert_denied(what, "", ["done", "done", "done", "ENOSYS"]);
    }
    assert_denied("descriptor", "", ["done", "EMFILE", "done", "ENOSYS"]);
}

#[test]
fn the_kernels_rarer_doors_are_shut_by_seccomp() {
    assert_denied("code", "", ["done", "done", "done", "ENOSYS"]);
    for what in ["clone3", "odd-clone"] {
        assert_eq!([by(SECCOMP, what, ""), by_all(what, "")], ["ENOSYS", "ENOSYS"]);
        assert_ne!(by(NONE, what, ""), "ENOSYS");
    }
    for what in ["io-uring", "user-namespace"] {
        assert_eq!([by(SECCOMP, what, ""), by_all(what, "")], ["SIGSYS", "SIGSYS"]);
        assert_ne!(by(NONE, what, ""), "SIGSYS");
    }
}

#[test]
fn threads_locks_channels_and_an_abort_work_inside() {
    assert_eq!(by_all("threads", ""), "done");
    let ended = by_all("abort", "");
    assert!(ended.contains("(SIGABRT)"), "{ended}");
}

#[test]
fn a_sleep_outlasts_a_stop_inside() {
    const MARK: &str = "mark-stopped-sleep";
    let sleeper = std::thread::spawn(|| answer(&child(&["probe", "sleep", "", MARK])));
    let pid = wait(|| marked(MARK).first().copied());
    std::thread::sleep(Duration::from_millis(300));
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        // SAFETY: plain numbers; the process is ours.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(sleeper.join().unwrap(), "done");
}

#[test]
fn a_process_has_four_descriptors_no_environment_and_no_one_looking_in() {
    assert_eq!(by_all("inherited", ""), "descriptors 0 1 2 3; 0 variables");
    assert_eq!(by(RLIMITS, "privileges", ""), "no new 1, dumpable 0");
}

#[test]
fn a_machine_that_lacks_a_layer_converts_nothing_unless_that_is_allowed() {
    for (what, names) in
        [("landlock", "Landlock"), ("landlock-by-profile", "Landlock"), ("seccomp", "seccomp filters")]
    {
        let engine = child(&["lacks", what]);
        for error in [convert(&engine).unwrap_err(), engine.check().unwrap_err()] {
            assert_eq!((error.code, error.kind()), (Code::SandboxUnavailable, Kind::Transient), "{what}");
            assert!(error.text.contains(names) && error.text.contains("best-effort"), "{}", error.text);
        }
        let engine = engine.with_sandbox(Sandbox::BestEffort);
        assert!(convert(&engine).unwrap().samples > 0 && engine.check().is_ok(), "{what}");
        let lacking = engine.lacking().unwrap();
        let [lack] = &lacking[..] else { panic!("{what}: {lacking:?}") };
        assert_eq!(lack.layer == Layer::Seccomp, what == "seccomp");
        let said = lack.to_string();
        assert!(
            said.contains("is missing: ") && said.contains(names) && !said.contains("converts nothing"),
            "{said}"
        );
    }
    let whole = child(&["plain"]);
    assert!(whole.check().is_ok() && whole.lacking().unwrap().is_empty());
}

#[test]
fn what_is_left_of_a_sandbox_still_confines() {
    let try_without = |layer, what, with| {
        answer(&child(&["lacks", layer, "probe", what, with]).with_sandbox(Sandbox::BestEffort))
    };
    assert_eq!(try_without("landlock", "read-file", "/etc/passwd"), "ENOSYS");
    assert_eq!(try_without("seccomp", "read-file", "/etc/passwd"), "EACCES");
    assert_eq!(try_without("seccomp", "memory", ""), "out-of-memory");
}

/// Waits, not for ever, until there is something.
fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing has come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a process has used of the processor, in ticks of the clock.
fn processor_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    behind_name.split_whitespace().nth(11).map_or(0, |ticks| ticks.parse().unwrap())
}

#[test]
fn a_process_dies_with_its_parent_even_when_it_does_not_look_up() {
    let program = env!("CARGO_BIN_EXE_engine-child");
    let mut parent = Command::new(program).args(["parent", "orphan"]).spawn().unwrap();
    // Before it is at work it would notice.
    wait(|| marked("mark-orphan").into_iter().find(|pid| processor_time(*pid) > 10));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait(|| marked("mark-orphan").is_empty().then_some(()));
}
