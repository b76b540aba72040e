//! `cargo xtask dist --test`: that the binary which goes out does what the tests saw, with the libraries that are in it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::setup;
use crate::test::{self, libtest_count, run_libtest};

/// The tests of the binary: its command line, every file of `media/` by that and by the page, and its cage from outside.
const OF_BINARY: &[&str] = &["cage::", "convert::", "media::"];

/// Those of the engine that libraries or optimisation could break: the probes of the sandbox from inside, golden lengths and loudness
/// against FFmpeg, files that mean harm; and beside this LAME alone, that frames are those of one encoder on any number of threads.
const OF_ENGINE: &[&str] =
    &["sandbox::", "process::", "golden::", "against_ffmpeg::", "hostile::", "joins::", "encode::parallel::"];

/// Thousands of files, which `cargo xtask test` has tried already: no minute of CI is theirs twice.
const TOO_MANY: &str = "hostile::garbled";

/// Fails where a test does, or where none ran.
pub fn prove(binary: &Path, libraries: &Path) -> Result<()> {
    let ffmpeg = setup::dist_tests()?;
    // The same programs as `cargo xtask test` builds: in CI they are there.
    let mut cli =
        cargo_test(&["--workspace", "--features", test::FEATURES, "--test", "it"], OF_BINARY, &ffmpeg);
    cli.env("TAPEDECK_TEST_BINARY", binary);
    let mut engine =
        cargo_test(&["--release", "--locked", "-p", "engine", "--lib", "--test", "it"], OF_ENGINE, &ffmpeg);
    engine.env("ENGINE_LIBRARIES", libraries);
    let count = run(cli, OF_BINARY)? + run(engine, OF_ENGINE)?;
    println!("dist: {count} tests passed with {}", binary.display());
    Ok(())
}

fn cargo_test(build: &[&str], filters: &[&str], ffmpeg: impl AsRef<OsStr>) -> Command {
    let mut test = crate::cargo();
    test.arg("test").args(build).args(["--no-fail-fast", "--", "--skip", TOO_MANY]).args(filters);
    test.env("FFMPEG", ffmpeg);
    test
}

fn run(test: Command, filters: &[&str]) -> Result<u64> {
    let (status, said) = run_libtest(test)?;
    if !status.success() {
        bail!("what `cargo xtask dist` built fails its tests; the failures stand above");
    }
    if let Some(empty) = filters.iter().find(|filter| !said.contains(&format!("test {filter}"))) {
        bail!("no test of `{empty}` ran; is there still a module of that name?");
    }
    Ok(libtest_count(&said))
}
