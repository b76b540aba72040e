//! `test-servers` starts every server, and none outlives it, however it ends.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const SERVERS: [&str; 4] =
    ["TAPEDECK_TEST_AMQP", "TAPEDECK_TEST_AMQP_API", "TAPEDECK_TEST_MYSQL", "TAPEDECK_TEST_MONGODB"];

/// The program with a temporary folder of its own, by which its servers are known, and with none given to it.
fn program(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_test-servers"));
    command.env("TMPDIR", folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in SERVERS.iter().chain(&["MONGODB_URI"]) {
        command.env_remove(name);
    }
    command
}

/// Starts it; the variables that it names.
fn start(folder: &TempDir) -> (Child, Vec<String>) {
    let mut child = program(folder).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
    (child, lines)
}

/// The command lines of the processes that were started with this temporary folder.
fn processes(folder: &TempDir) -> Vec<String> {
    let marker = format!("TMPDIR={}\0", folder.path().display());
    let all = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let own = all.filter(|process| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&marker) && !is_zombie(process)
    });
    own.map(|process| fs::read_to_string(process.join("cmdline")).unwrap_or_default()).collect()
}

fn is_zombie(process: &Path) -> bool {
    fs::read_to_string(process.join("stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

fn nothing_is_left_soon(folder: &TempDir) {
    let end = Instant::now() + Duration::from_secs(20);
    while !processes(folder).is_empty() {
        assert!(Instant::now() < end, "left: {:?}", processes(folder));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn faults_every_server_is_named_and_ends_with_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, lines) = start(&folder);
    for name in SERVERS {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{name}="))), "{name} in {lines:?}");
    }
    let running = processes(&folder);
    for name in ["beam.smp", "epmd", "mariadbd"] {
        assert!(running.iter().any(|line| line.contains(name)), "{name} in {running:?}");
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(processes(&folder), Vec::<String>::new());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "its folders are gone");
}

#[test]
fn faults_the_servers_die_with_a_program_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = start(&folder);
    assert!(processes(&folder).len() > 3);
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left_soon(&folder);
}

#[test]
fn faults_a_server_that_cannot_start_fails_all_with_its_words_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    // An environment that is a file holds no SecantusDB.
    let broken = folder.path().join("file");
    fs::write(&broken, "").unwrap();
    let mut child =
        program(&folder).env("TAPEDECK_TEST_VENV", &broken).env("PATH", "/usr/bin:/bin").spawn().unwrap();
    let mut said = String::new();
    child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(said.contains("secantusd-py") && said.contains("cargo xtask setup --tests"), "{said}");
    nothing_is_left_soon(&folder);
}
