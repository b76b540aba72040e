//! The project's own commands: `cargo xtask setup | run | test | check | manifests | bench | dist | fuzz`.
//!
//! There is no argument parser and no system library in here, so that a fresh machine compiles it in seconds.

mod architecture;
mod bench;
mod check;
mod dist;
mod files;
mod fuzz;
mod licences;
mod manifests;
mod run;
mod secrets;
mod servers;
mod setup;
mod test;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
The project's own commands.

Usage: cargo xtask <COMMAND> [ARGUMENTS]

Commands:
  setup [--tests]     install what the build needs (--tests: what the tests need too)
  run [-- ARGUMENTS]  build the server and start it: tapedeck serve --data ./data ARGUMENTS
  test [FILTER...]    run every test of the workspace, or those that match
  check               formatting, architecture, secrets, licences, clippy, rustdoc
  manifests           Kubernetes manifests, Prometheus rules, dashboards
  bench [OPTIONS]     measure `tapedeck convert` beside FFmpeg; writes docs/performance.md
  dist                the release binary with its own libav and LAME, in target/dist
  fuzz [TARGET...]    the engine's fuzz targets, half an hour each

`cargo xtask <COMMAND> --help` says more about one command.
";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    match dispatch(&command.to_string_lossy(), arguments.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &str, arguments: Vec<OsString>) -> Result<()> {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    if own.into_iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", help(command));
        return Ok(());
    }
    match command {
        "setup" => setup::command(&arguments),
        "run" => run::command(&arguments),
        "test" => test::command(&arguments),
        "check" => check::command(&arguments),
        "manifests" => manifests::command(&arguments),
        "bench" => bench::command(&arguments),
        "dist" => dist::command(&arguments),
        "fuzz" => fuzz::command(&arguments),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => bail!("there is no command `{unknown}`; `cargo xtask --help` lists the commands"),
    }
}

fn help(command: &str) -> &'static str {
    match command {
        "setup" => setup::HELP,
        "run" => run::HELP,
        "test" => test::HELP,
        "check" => check::HELP,
        "manifests" => manifests::HELP,
        "bench" => bench::HELP,
        "dist" => dist::HELP,
        "fuzz" => fuzz::HELP,
        _ => HELP,
    }
}

/// The repository's root folder. Cargo names xtask's own folder when it runs us; the compiled-in one is for a binary
/// that was started by hand.
fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(own);
    root.pop();
    root
}

/// Cargo, started in the root folder, without what `cargo run` told xtask about itself.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|own| text.starts_with(own)) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// What `cargo metadata` says, with more arguments to it.
fn metadata(arguments: &[&str]) -> Result<serde_json::Value> {
    let output = cargo().args(["metadata", "--format-version", "1"]).args(arguments).output();
    let output = output.context("cargo metadata could not be started; is cargo on the PATH?")?;
    if !output.status.success() {
        bail!(
            "cargo metadata {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata did not print JSON")
}

/// Runs a command to its end on our terminal; `mend` says what to do when it fails.
fn finish(command: &mut Command, mend: &str) -> Result<()> {
    let status = command.status();
    let status = status.with_context(|| format!("{} could not be started; {mend}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}; {mend}", line(command));
    }
    Ok(())
}

/// A command as one would type it.
fn line(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Refuses arguments for a command that takes none but `known`.
fn only(arguments: &[OsString], known: &[&str], command: &str) -> Result<()> {
    match arguments.iter().find(|argument| !known.iter().any(|known| argument == known)) {
        None => Ok(()),
        Some(unknown) => bail!(
            "`cargo xtask {command}` does not know `{}`; see `cargo xtask {command} --help`",
            unknown.to_string_lossy()
        ),
    }
}
