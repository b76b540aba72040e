//! `cargo xtask run`: builds the server and becomes it.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup;

pub const HELP: &str = "\
Builds the server in release mode and starts it, all roles in one process, with its files in ./data of the repository.

Usage: cargo xtask run [-- ARGUMENTS]

ARGUMENTS go to `tapedeck serve`; `--data FOLDER` among them takes the place of ./data. `cargo xtask run -- --help`
lists them. What the build lacks is installed first, as by `cargo xtask setup`.
";

/// `cargo xtask run [-- arguments]`; returns only when it fails.
pub fn command(arguments: &[OsString]) -> Result<()> {
    let arguments = match arguments.split_first() {
        None => &[],
        Some((separator, rest)) if separator == "--" => rest,
        Some((first, _)) => {
            bail!("the server's arguments stand after `--`: cargo xtask run -- {}", first.to_string_lossy())
        }
    };
    setup::build()?;
    let server = binary()?;
    let mut command = Command::new(&server);
    command.arg("serve");
    if !names_data(arguments) {
        command.arg("--data").arg(data_folder());
    }
    command.args(arguments);
    println!("starting: {}", crate::line(&command));
    // Takes this process's place, so that Ctrl-C and SIGTERM reach the server itself.
    let error = command.exec();
    Err(error).with_context(|| format!("{} could not be started", server.display()))
}

/// Builds `tapedeck` in release mode and says where Cargo put it.
pub fn binary() -> Result<PathBuf> {
    let mut build = crate::cargo();
    build.args(["build", "--release", "-p", "tapedeck"]);
    executable_of(&mut build, "tapedeck")
}

/// Runs a `cargo build` and says where Cargo put the program of that name.
pub fn executable_of(build: &mut Command, name: &str) -> Result<PathBuf> {
    build.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut child = build.spawn().context("cargo build could not be started; is cargo on the PATH?")?;
    let messages = child.stdout.take().context("cargo's standard output is not ours to read")?;
    let mut binary = None;
    for message in BufReader::new(messages).lines() {
        let message = message.context("cargo's messages could not be read")?;
        binary = executable(&message, name).or(binary);
    }
    let status = child.wait().context("cargo build could not be waited for")?;
    if !status.success() {
        bail!("{} ended with {status}; the compiler's message stands above", crate::line(build));
    }
    binary.with_context(|| {
        format!("cargo build named no executable `{name}`; is there still a binary of that name?")
    })
}

fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let wanted = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
    message["executable"].as_str().filter(|_| wanted).map(PathBuf::from)
}

fn names_data(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "--data" || argument.to_string_lossy().starts_with("--data="))
}

fn data_folder() -> PathBuf {
    let root = crate::root();
    match env::current_dir() {
        Ok(here) if here == root => "./data".into(),
        _ => root.join("data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let ours = r#"{"reason":"compiler-artifact","target":{"name":"tapedeck"},"executable":"/t/release/tapedeck"}"#;
        assert_eq!(executable(ours, "tapedeck"), Some("/t/release/tapedeck".into()));
        assert_eq!(executable(ours, "another"), None);
        let library = r#"{"reason":"compiler-artifact","target":{"name":"services"},"executable":null}"#;
        assert_eq!(executable(library, "services"), None);
        assert_eq!(executable("not JSON", "tapedeck"), None);
    }

    #[test]
    fn a_data_folder_of_the_users_own_is_seen() {
        assert!(names_data(&["--data".into(), "/srv".into()]));
        assert!(names_data(&["--data=/srv".into()]));
        assert!(!names_data(&["--database".into()]));
    }
}
