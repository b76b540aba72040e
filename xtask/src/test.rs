//! `cargo xtask test`: every test of the workspace, with every tool they need in place.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal, Read, Write, stderr, stdout};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::servers::Servers;
use crate::setup::{self, Tools};

pub const HELP: &str = "\
Runs every test of the workspace, the end-to-end and browser tests among them, by cargo-nextest where it is installed,
else by cargo test. What they lack is installed first, as by `cargo xtask setup --tests`; nothing is skipped.
RabbitMQ, MariaDB and MongoDB (mongod, or SecantusDB where there is none) run for the tests, on free ports in a temporary
folder, and end with them.

Usage: cargo xtask test [FILTER...]

Arguments go to the test runner: a part of a test's name, or its options (nextest: -E 'package(engine)').
The tests are told by FFMPEG, CHROMIUM and NODE where these programs are; by TAPEDECK_TEST_VENV and TAPEDECK_TEST_PYTHON
where the Python environment is; by TAPEDECK_TEST_AMQP, TAPEDECK_TEST_AMQP_API, TAPEDECK_TEST_MYSQL and
TAPEDECK_TEST_MONGODB (or MONGODB_URI) where the servers are. Those that you set are used instead of starting one.
";

/// Beside the default ones.
pub const FEATURES: &str = "tapedeck/failpoints";

/// What the tests find on this machine.
struct Place {
    tools: Tools,
    servers: Servers,
}

/// `cargo xtask test [filter...]`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    let start = Instant::now();
    let tools = setup::tests()?;
    let servers = Servers::start(FEATURES, |program| tell_of_tools(program, &tools))?;
    let place = Place { tools, servers };
    let nextest =
        crate::cargo().args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    let (mut count, mut passed) =
        if nextest { run_nextest(&place, arguments)? } else { run_cargo_test(&place, arguments)? };
    // cargo test has run them already; nextest cannot.
    if nextest && arguments.is_empty() && has_doc_tests(&crate::root())? {
        let (more, fine) = run_doc_tests(&place)?;
        count += more;
        passed &= fine;
    }
    let seconds = start.elapsed().as_secs_f64();
    if count == 0 {
        bail!("no test ran: the build failed (its message stands above), or nothing matches {arguments:?}");
    }
    if !passed {
        bail!("tests failed ({count} run in {seconds:.1} s); the failures stand above");
    }
    println!("test: {count} tests passed in {seconds:.1} s");
    Ok(())
}

fn run_nextest(place: &Place, arguments: &[OsString]) -> Result<(u64, bool)> {
    let mut nextest = in_place(crate::cargo(), place);
    nextest.args(["nextest", "run", "--workspace", "--features", FEATURES]);
    if !arguments.iter().any(|argument| argument.to_string_lossy().contains("-fail")) {
        nextest.arg("--no-fail-fast");
    }
    let child = nextest.args(arguments).stderr(Stdio::piped()).spawn();
    let mut child = child.context("cargo nextest could not be started")?;
    let output = child.stderr.take().context("nextest's messages are not ours to read")?;
    let said = pass_on(output, &mut stderr())?;
    Ok((nextest_count(&said), child.wait()?.success()))
}

fn run_cargo_test(place: &Place, arguments: &[OsString]) -> Result<(u64, bool)> {
    let mut test = in_place(crate::cargo(), place);
    test.args(["test", "--workspace", "--features", FEATURES, "--no-fail-fast"]).args(arguments);
    let (status, said) = run_libtest(test)?;
    Ok((libtest_count(&said), status.success()))
}

fn run_doc_tests(place: &Place) -> Result<(u64, bool)> {
    let mut test = in_place(crate::cargo(), place);
    test.args(["test", "--doc", "--workspace", "--features", FEATURES]);
    let (status, said) = run_libtest(test)?;
    Ok((libtest_count(&said), status.success()))
}

/// Runs a `cargo test`, and keeps what it says.
pub fn run_libtest(mut command: Command) -> Result<(ExitStatus, String)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test could not be started")?;
    let output = child.stdout.take().context("cargo test's results are not ours to read")?;
    let said = pass_on(output, &mut stdout())?;
    Ok((child.wait()?, said))
}

fn tell_of_tools(command: &mut Command, tools: &Tools) {
    command.env("FFMPEG", &tools.ffmpeg).env("CHROMIUM", &tools.chromium).env("NODE", &tools.node);
    command.env("TAPEDECK_TEST_VENV", tools.venv.folder());
    command.env("TAPEDECK_TEST_PYTHON", tools.venv.program("python3"));
}

fn in_place(mut cargo: Command, place: &Place) -> Command {
    tell_of_tools(&mut cargo, &place.tools);
    cargo.envs(place.servers.variables().iter().cloned());
    // Our pipe hides the terminal from them.
    if stderr().is_terminal()
        && env::var_os("NO_COLOR").is_none()
        && env::var_os("CARGO_TERM_COLOR").is_none()
    {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    cargo
}

/// Shows what a command prints as it comes, and keeps it.
fn pass_on(mut from: impl Read, to: &mut impl Write) -> Result<String> {
    let mut kept = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let read = from.read(&mut buffer).context("the test runner's output could not be read")?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        to.write_all(&buffer[..read])
            .and_then(|()| to.flush())
            .context("the terminal could not be written to")?;
        kept.extend_from_slice(&buffer[..read]);
    }
}

/// From `Summary [0.010s] 12 tests run: 12 passed, 0 skipped`, where a run that was cut short says `7/12 tests run`.
fn nextest_count(said: &str) -> u64 {
    let plain = without_colours(said);
    let summary = plain.lines().rev().find(|line| line.contains("Summary [")).unwrap_or_default();
    let words: Vec<&str> = summary.split_whitespace().collect();
    let place = words.windows(2).position(|pair| pair[0].starts_with("test") && pair[1].starts_with("run"));
    let count = place.and_then(|place| words.get(place.checked_sub(1)?));
    count.and_then(|count| count.split('/').next()?.parse().ok()).unwrap_or(0)
}

/// From every `test result: ok. 3 passed; 0 failed; …`.
pub fn libtest_count(said: &str) -> u64 {
    let plain = without_colours(said);
    let results = plain.lines().filter_map(|line| line.trim().strip_prefix("test result: "));
    let parts = results.flat_map(|line| line.split([';', '.']));
    parts
        .filter_map(|part| part.trim().strip_suffix(" passed").or(part.trim().strip_suffix(" failed")))
        .filter_map(|count| count.parse::<u64>().ok())
        .sum()
}

fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |letter| letter + 1);
        rest = &after[end..];
    }
    plain + rest
}

/// Whether any library's documentation holds a code block.
fn has_doc_tests(root: &Path) -> Result<bool> {
    let crates = root.join("crates");
    let folders =
        fs::read_dir(&crates).with_context(|| format!("{} could not be listed", crates.display()))?;
    for folder in folders {
        let source = folder?.path().join("src");
        if source.join("lib.rs").is_file() && has_code_block(&source)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_code_block(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            has_code_block(&path)?
        } else {
            path.extension().is_some_and(|extension| extension == "rs")
                && fs::read_to_string(&path)?.lines().any(opens_code_block)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn opens_code_block(line: &str) -> bool {
    let line = line.trim_start();
    line.strip_prefix("///")
        .or(line.strip_prefix("//!"))
        .is_some_and(|text| text.trim_start().starts_with("```"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextests_summary_is_counted_in_colour_and_without() {
        let plain = "PASS [0.1s] a\n Summary [   0.010s] 12 tests run: 12 passed, 0 skipped\n";
        assert_eq!(nextest_count(plain), 12);
        let coloured =
            "\u{1b}[32;1m     Summary\u{1b}[0m [   0.010s] \u{1b}[1m1\u{1b}[0m test run: 1 passed\n";
        assert_eq!(nextest_count(coloured), 1);
        let cut = " Summary [   0.010s] 7/12 tests run: 6 passed, 1 failed, 0 skipped\n";
        assert_eq!(nextest_count(cut), 7);
        assert_eq!(nextest_count("error: could not compile"), 0);
    }

    #[test]
    fn libtests_results_are_added_up() {
        let said = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        assert_eq!(libtest_count(said), 6);
    }

    #[test]
    fn only_documentation_opens_a_doc_test() {
        assert!(opens_code_block("    /// ```"));
        assert!(opens_code_block("//! ```no_run"));
        assert!(!opens_code_block("// ```"));
        assert!(!opens_code_block("let fence = \"```\";"));
    }
}
