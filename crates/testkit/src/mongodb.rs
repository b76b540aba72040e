//! A private MongoDB on a free port and in a folder of its own: `mongod` where it is installed, or else SecantusDB, which speaks the same
//! protocol. A test that passes on the one is no proof for the other: [`Server::name`] says which it was.

use crate::process::{Process, free_port, listens};
use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Names a Python environment that has SecantusDB (`secantusd-py`).
const VENV: &str = "TAPEDECK_TEST_VENV";

/// The server, running unless it was killed. It ends, and its folder goes, when this is dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    port: u16,
    program: Program,
    process: Process,
}

#[derive(Debug)]
enum Program {
    Mongod(PathBuf),
    SecantusDb(PathBuf),
}

impl Program {
    fn found() -> Result<Program> {
        let folders = env::var_os("PATH").unwrap_or_default();
        let mongod =
            env::split_paths(&folders).map(|folder| folder.join("mongod")).find(|path| path.exists());
        if let Some(mongod) = mongod {
            return Ok(Program::Mongod(mongod));
        }
        let venv = env::var_os(VENV).with_context(|| {
            format!("there is no mongod on PATH, and {VENV} is not set: run the tests by `cargo xtask test`")
        })?;
        Ok(Program::SecantusDb(Path::new(&venv).join("bin/secantusd-py")))
    }

    fn name(&self) -> &'static str {
        match self {
            Program::Mongod(_) => "mongod",
            Program::SecantusDb(_) => "SecantusDB",
        }
    }

    fn command(&self, folder: &Path, port: u16) -> Command {
        let (data, port) = (folder.join("data"), port.to_string());
        match self {
            Program::Mongod(path) => {
                let mut command = Command::new(path);
                command.args(["--bind_ip", "127.0.0.1", "--port", &port, "--wiredTigerCacheSizeGB", "0.25"]);
                command.args(["--nounixsocket", "--dbpath"]).arg(data);
                command
            }
            Program::SecantusDb(path) => {
                let mut command = Command::new(path);
                // At 256M an insert was once seen never to return, and all others waited for it. Memory is taken as far as it is needed.
                command.args(["--host", "127.0.0.1", "--port", &port, "--cache-size", "1G"]);
                command.args(["--log-level", "WARNING", "--storage-path"]).arg(data);
                command
            }
        }
    }
}

impl Server {
    /// Starts one. Call it on a thread that lives as long as the server shall.
    pub fn start() -> Result<Server> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("data"))?;
        let (program, port) = (Program::found()?, free_port()?);
        let process = run(&program, folder.path(), port)?;
        Ok(Server { folder, port, program, process })
    }

    /// Which server it is: `mongod` or `SecantusDB`.
    pub fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Its URI, without a database.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
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
        self.process = run(&self.program, self.folder.path(), self.port)?;
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

fn run(program: &Program, folder: &Path, port: u16) -> Result<Process> {
    let log = folder.join("log");
    let mut process = Process::spawn(program.name(), program.command(folder, port), &log)?;
    process.wait_until(&log, || listens(port))?;
    Ok(process)
}
