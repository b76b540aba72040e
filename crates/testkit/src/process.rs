//! A server as a child process that cannot outlive the test.

use anyhow::{Context, Result, bail};
use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher, Hasher},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. It is killed when this is dropped, and when the thread that started it ends, however that ends.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts it, with all its output in the file `log`.
    pub fn spawn(name: &'static str, mut command: Command, log: &Path) -> Result<Process> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: prctl and setsid are async-signal-safe, and nothing else happens between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| {
            format!(
                "{} cannot be started: run `cargo xtask setup --tests`, which installs it",
                program.display()
            )
        })?;
        Ok(Process { name, child })
    }

    /// Waits until `ready` says so. An error where the process ends before that, with the end of its log.
    pub fn wait_until(&mut self, log: &Path, ready: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !ready() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let text = fs::read_to_string(log).unwrap_or_default();
                bail!("{} does not come up ({ended:?}):\n{}", self.name, what_it_said(&text));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it at once, as a power cut would end the program (not the machine).
    pub fn kill9(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }

    /// Stops it where it stands; connections stay open, and nothing answers.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        // SAFETY: kill has no memory to violate. The child leads a group of its own, and is not reaped before this.
        unsafe {
            libc::kill(-pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill9();
        }
    }
}

/// What matters of a log: its last lines or, of a RabbitMQ that did not start, the first ones of the reason. Lines of
/// thousands of characters are cut.
pub(crate) fn what_it_said(log: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<&str> = log.lines().collect();
    let from = match lines.iter().position(|line| line.contains("BOOT FAILED")) {
        Some(failure) => failure,
        None => lines.len().saturating_sub(LINES),
    };
    let cut = |line: &&str| line.chars().take(200).collect::<String>();
    lines[from..].iter().take(LINES).map(cut).collect::<Vec<_>>().join("\n")
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let [port] = free_ports()?;
    Ok(port)
}

/// Ports that were free a moment ago, no two alike. They are below those that the kernel hands out to connections, of which one
/// could take ours before the server does.
pub(crate) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    const LOWEST: u16 = 15_000;
    const HOW_MANY: u64 = 15_000;
    // Held until all are known.
    let mut listeners = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let any =
            || LOWEST + u16::try_from(RandomState::new().build_hasher().finish() % HOW_MANY).unwrap_or(0);
        let listener = (0..100).find_map(|_| TcpListener::bind(("127.0.0.1", any())).ok());
        let listener = listener.context("there is no free port from 15000 to 29999")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Does anything listen there?
pub(crate) fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_shown_by_its_end_or_by_the_reason() {
        let log: String = (0..40).map(|line| format!("{line}\n")).collect();
        assert_eq!(what_it_said(&log).lines().next(), Some("25"));
        let failed = log.replacen("\n7\n", "\nBOOT FAILED\n", 1);
        assert_eq!(what_it_said(&failed).lines().next(), Some("BOOT FAILED"));
        assert_eq!(what_it_said(&"x".repeat(1000)).len(), 200);
        assert_eq!(what_it_said(""), "");
    }

    #[test]
    fn free_ports_are_not_of_those_that_connections_get() {
        let ports: [u16; 20] = free_ports().unwrap();
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        assert!(ports.iter().all(|port| *port < first), "{ports:?}, {range}");
        let different: std::collections::BTreeSet<u16> = ports.into();
        assert_eq!(different.len(), ports.len());
    }
}
