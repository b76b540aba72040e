//! The servers of one test run, kept by testkit's program `test-servers`.
//!
//! They are not started from here, so that xtask stays without the libraries that testkit needs: `cargo xtask run` on a
//! fresh machine would compile those first.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;

/// RabbitMQ, MariaDB and MongoDB's stand-in; they end when this is dropped, or when this process ends in whatever way.
pub struct Servers {
    keeper: Child,
    variables: Vec<(String, String)>,
}

impl Servers {
    /// Builds the program with these features of the workspace, as the tests are built, and starts it with the environment
    /// that `tell` adds. Ready when this returns; the program has named each server on our terminal by then.
    pub fn start(features: &str, tell: impl Fn(&mut Command)) -> Result<Servers> {
        let mut build = crate::cargo();
        build.args(["build", "--workspace", "--bin", PROGRAM, "--features", features]);
        let program = run::executable_of(&mut build, PROGRAM)?;
        println!("starting: RabbitMQ, MariaDB and MongoDB, on free ports in a temporary folder");
        let mut keeper = Command::new(&program);
        tell(&mut keeper);
        // In a group of its own: Ctrl-C ends us, and our end ends the servers.
        let child = keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let keeper = child.with_context(|| format!("{} could not be started", program.display()))?;
        Servers { keeper, variables: Vec::new() }.wait_until_ready()
    }

    /// What the tests are told: where the servers are.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    fn wait_until_ready(mut self) -> Result<Servers> {
        let said = self.keeper.stdout.take().context("test-servers' output is not ours to read")?;
        for line in BufReader::new(said).lines() {
            let line = line.context("test-servers' output could not be read")?;
            match line.split_once('=') {
                Some((name, value)) => self.variables.push((name.into(), value.into())),
                None if line == "ready" => return Ok(self),
                None => println!("{line}"),
            }
        }
        bail!("the servers of the tests did not start; the reason stands above");
    }
}

const PROGRAM: &str = "test-servers";

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
