//! `cargo xtask check`: everything about the tree that can be judged without running the program.

use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal, stderr};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{architecture, licences, secrets, setup};

pub const HELP: &str = "\
Checks formatting, architecture (ARCHITECTURE.md and the arrows between crates and modules), that no file holds a secret,
licences (deny.toml), clippy and rustdoc, the last two with warnings as errors. Runs all of them and then says which failed.

Usage: cargo xtask check
";

type Step = (&'static str, fn() -> Result<()>);

/// Cheap ones first.
const STEPS: &[Step] = &[
    ("tools", tools),
    ("format", format),
    ("architecture", architecture::check),
    ("secrets", secrets::check),
    ("licences", licences::check),
    ("clippy", clippy),
    ("rustdoc", rustdoc),
];

/// `cargo xtask check`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    crate::only(arguments, &[], "check")?;
    let failed = run(STEPS);
    if failed.is_empty() {
        return Ok(());
    }
    bail!("check failed: {}", failed.join(", "))
}

fn run(steps: &[Step]) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for (name, step) in steps {
        let start = Instant::now();
        let result = step();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("ok      {seconds:6.1} s  {name}"),
            Err(error) => {
                println!("FAILED  {seconds:6.1} s  {name}\n{error:#}");
                failed.push(*name);
            }
        }
    }
    failed
}

fn tools() -> Result<()> {
    setup::build()?;
    setup::lints()
}

fn format() -> Result<()> {
    crate::finish(crate::cargo().args(["fmt", "--all", "--check"]), "`cargo fmt --all` mends it")?;
    // A workspace of its own.
    let mut fuzz = crate::cargo();
    fuzz.args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]);
    crate::finish(&mut fuzz, "`cargo fmt --manifest-path fuzz/Cargo.toml` mends it")
}

fn clippy() -> Result<()> {
    let mut clippy = crate::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--all-features", "--locked"]);
    crate::finish(brief(&mut clippy).args(["--", "-D", "warnings"]), "mend what stands above")
}

fn rustdoc() -> Result<()> {
    let mut rustdoc = crate::cargo();
    let flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    rustdoc.env("RUSTDOCFLAGS", format!("{flags} -D warnings"));
    rustdoc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--all-features",
        "--locked",
    ]);
    crate::finish(brief(&mut rustdoc), "mend what stands above")
}

/// Without a line per crate where nobody watches.
fn brief(cargo: &mut Command) -> &mut Command {
    if !stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_runs_and_the_failed_ones_are_named() {
        let steps: &[Step] =
            &[("first", || bail!("it is broken")), ("second", || Ok(())), ("third", || bail!("too"))];
        assert_eq!(run(steps), ["first", "third"]);
    }
}
