//! A private MariaDB, of Debian's package mariadb-server, on a free port and in a folder of its own.

use crate::process::{Process, free_port};
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

/// The server, running unless it was killed. It ends, and its folder goes, when this is dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    process: Process,
}

impl Server {
    /// Starts one; takes a few seconds. Call it on a thread that lives as long as the server shall.
    pub fn start() -> Result<Server> {
        Server::start_with(&[])
    }

    /// Starts one with these options of mariadbd, too.
    pub fn start_with(options: &[&str]) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("tmp"))?;
        install(&folder)?;
        let user = "CREATE USER IF NOT EXISTS 't'@'%' IDENTIFIED BY 'tt';\nGRANT ALL ON *.* TO 't'@'%' WITH GRANT OPTION;\n";
        fs::write(folder.path().join("init.sql"), user)?;
        let port = free_port()?;
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = run(&folder, port, &options)?;
        Ok(Server { folder, port, options, process })
    }

    /// `mysql://user:password@host:port`, without a database. The user may do everything.
    pub fn url(&self) -> String {
        format!("mysql://t:tt@127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again on what it left, after killing it if need be.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill9();
        self.process = run(&self.folder, self.port, &self.options)?;
        Ok(())
    }

    /// Stops it where it stands; connections stay open, and nothing answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.resume();
    }
}

/// Where Debian has the program; /usr/sbin is not on everybody's PATH.
fn program(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(|place| PathBuf::from(place).join(name));
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name))
}

fn as_root() -> Option<&'static str> {
    // SAFETY: geteuid cannot fail.
    (unsafe { libc::geteuid() } == 0).then_some("--user=root")
}

fn install(folder: &TempDir) -> Result<()> {
    let mut command = Command::new(program("mariadb-install-db"));
    command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    command.args(["--innodb-log-file-size=8M"]).args(as_root());
    command.arg(format!("--datadir={}", folder.path().join("data").display()));
    command.arg(format!("--tmpdir={}", folder.path().join("tmp").display()));
    let done = command.output().context(
        "mariadb-install-db cannot be started: run `cargo xtask setup --tests`, which installs it",
    )?;
    ensure!(done.status.success(), "mariadb-install-db fails: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn run(folder: &TempDir, port: u16, options: &[String]) -> Result<Process> {
    let (path, log) = (folder.path(), folder.path().join("log"));
    let mut command = Command::new(program("mariadbd"));
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]).args(as_root());
    command.arg(format!("--port={port}"));
    for (option, name) in [
        ("datadir", "data"),
        ("tmpdir", "tmp"),
        ("socket", "socket"),
        ("pid-file", "pid"),
        ("init-file", "init.sql"),
    ] {
        command.arg(format!("--{option}={}", path.join(name).display()));
    }
    command.args(["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M", "--performance-schema=OFF"]);
    command.args(["--aria-pagecache-buffer-size=8M", "--key-buffer-size=1M"]).args(options);
    let _ = fs::remove_file(path.join("pid"));
    let mut process = Process::spawn("MariaDB", command, &log)?;
    // It writes this file when it is ready for connections.
    process.wait_until(&log, || path.join("pid").exists())?;
    Ok(process)
}
