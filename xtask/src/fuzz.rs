//! `cargo xtask fuzz`: the targets in fuzz/, built for libFuzzer by the stable compiler, and run.

mod fewest;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup;

pub const HELP: &str = "\
Builds the fuzz targets of the engine and runs them one after another, each from the corpus in fuzz/corpus and from what earlier
runs found. What it finds stays in target/fuzz/corpus. The first input that breaks a promise ends the run; it is left in
target/fuzz/findings, and its path is printed.

Usage: cargo xtask fuzz [TARGET...] [--minutes N] [--minimise]

  TARGET       mp3, merge, boxes, tags, control (all of them)
  --minutes N  for each target (30); 0 replays the corpus and ends
  --minimise   afterwards, keep in fuzz/corpus the fewest inputs that reach the most code, 100 at most

What is missing is installed first, as by `cargo xtask setup`, and a C++ compiler. fuzz/README.md says more.
";

/// What libFuzzer needs of the compiler: counters of edges with a table of their places, and the operands of comparisons.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// For every run: an input that takes longer, more memory, or is longer is none of ours.
const LIMITS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096"];

#[derive(Debug, PartialEq, Eq)]
struct Options {
    targets: Vec<String>,
    minutes: u32,
    minimise: bool,
}

/// `cargo xtask fuzz [target...] [--minutes n] [--minimise]`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    let root = crate::root();
    let options = Options::read(arguments, &targets(&root)?)?;
    setup::fuzz()?;
    let folder = build(&root)?;
    for target in &options.targets {
        let target = Target::new(&root, &folder, target)?;
        target.run(options.minutes)?;
        if options.minimise {
            target.minimise()?;
        }
    }
    Ok(())
}

impl Options {
    fn read(arguments: &[OsString], known: &[String]) -> Result<Options> {
        let mut options = Options { targets: Vec::new(), minutes: 30, minimise: false };
        let mut words = arguments.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            match &*word {
                "--minimise" => options.minimise = true,
                "--minutes" => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    options.minutes = number.context("--minutes wants a whole number")?;
                }
                target if known.iter().any(|known| known == target) => options.targets.push(target.into()),
                unknown => bail!("there is no fuzz target `{unknown}`; there are {}", known.join(", ")),
            }
        }
        if options.targets.is_empty() {
            options.targets = known.to_vec();
        }
        Ok(options)
    }
}

/// The targets that there are: a program each.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("{} could not be listed", folder.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    Ok(targets)
}

/// Builds all targets; returns the folder for all that fuzzing makes.
fn build(root: &Path) -> Result<PathBuf> {
    let metadata = crate::metadata(&["--no-deps"])?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    let folder = Path::new(folder).join("fuzz");
    let mut build = crate::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml"]).current_dir(root);
    // With a target's name, also our own, the flags are not for build scripts and macros.
    build.args(["--target", &host()?, "--target-dir"]).arg(&folder);
    build.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", FLAGS);
    crate::finish(&mut build, "the compiler's message stands above")?;
    Ok(folder)
}

/// The compiler's name for this machine.
fn host() -> Result<String> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output =
        rustc.arg("-vV").current_dir(crate::root()).output().context("rustc could not be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// A target and its folders.
struct Target {
    name: String,
    program: PathBuf,
    /// The small corpus that is in the repository.
    corpus: PathBuf,
    /// All that was found so far.
    found: PathBuf,
    /// What broke a promise.
    findings: PathBuf,
}

impl Target {
    fn new(root: &Path, folder: &Path, name: &str) -> Result<Target> {
        let target = Target {
            name: name.to_owned(),
            program: folder.join(host()?).join("release").join(name),
            corpus: root.join("fuzz/corpus").join(name),
            found: folder.join("corpus").join(name),
            findings: folder.join("findings").join(name),
        };
        for folder in [&target.corpus, &target.found, &target.findings] {
            make(folder)?;
        }
        Ok(target)
    }

    fn fuzzer(&self) -> Command {
        let mut prefix = OsString::from("-artifact_prefix=");
        prefix.push(self.findings.join("")); // With a slash behind it.
        let mut fuzzer = Command::new(&self.program);
        fuzzer.args(LIMITS).arg(prefix);
        fuzzer
    }

    fn run(&self, minutes: u32) -> Result<()> {
        println!("fuzz {}: {minutes} minutes", self.name);
        let mut fuzzer = self.fuzzer();
        // Without a limit of time it would run for ever.
        match minutes {
            0 => fuzzer.arg("-runs=0"),
            _ => fuzzer.arg(format!("-max_total_time={}", u64::from(minutes) * 60)),
        };
        fuzzer.arg("-print_final_stats=1").args([&self.found, &self.corpus]);
        let mend = format!(
            "the input that broke a promise is in {}; start the program with it as its one argument, mend the engine, and \
             keep the input as a unit test",
            self.findings.display()
        );
        crate::finish(&mut fuzzer, &mend)
    }

    /// The fewest inputs that reach the most code, in place of the corpus.
    fn minimise(&self) -> Result<()> {
        let fewest = self.found.with_file_name(format!("{}.fewest", self.name));
        let control = fewest.join("control");
        if fewest.exists() {
            remove(&fewest)?;
        }
        make(&fewest.join("merged"))?;
        let mut fuzzer = self.fuzzer();
        // How often code was reached does not count: that would keep hundreds.
        fuzzer.args(["-set_cover_merge=1", "-use_counters=0"]);
        fuzzer.arg(format!("-merge_control_file={}", control.display()));
        fuzzer.args([&fewest.join("merged"), &self.corpus, &self.found]);
        crate::finish(&mut fuzzer, "its own message stands above")?;
        let noted = fs::read_to_string(&control);
        let noted = noted.with_context(|| format!("{} could not be read", control.display()))?;
        let mut inputs = Vec::new();
        for file in fewest::choose(&noted)? {
            inputs.push(fs::read(&file).with_context(|| format!("{} could not be read", file.display()))?);
        }
        remove(&self.corpus)?;
        make(&self.corpus)?;
        for (number, input) in inputs.iter().enumerate() {
            fs::write(self.corpus.join(format!("{number:02}")), input)
                .context("the corpus could not be written")?;
        }
        let bytes: usize = inputs.iter().map(Vec::len).sum();
        println!("fuzz {}: {} inputs are kept, {bytes} bytes", self.name, inputs.len());
        remove(&fewest)
    }
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} could not be made", folder.display()))
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("{} could not be removed", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Options::read(&arguments, &["boxes".to_owned(), "mp3".to_owned()])
    }

    #[test]
    fn without_a_name_all_targets_run_for_half_an_hour() {
        let all = Options { targets: vec!["boxes".into(), "mp3".into()], minutes: 30, minimise: false };
        assert_eq!(read(&[]).unwrap(), all);
        let one = Options { targets: vec!["mp3".into()], minutes: 1, minimise: true };
        assert_eq!(read(&["mp3", "--minutes", "1", "--minimise"]).unwrap(), one);
    }

    #[test]
    fn an_unknown_target_is_refused_and_the_known_ones_are_named() {
        assert!(read(&["mp4"]).unwrap_err().to_string().contains("there are boxes, mp3"));
        assert!(read(&["--minutes"]).is_err() && read(&["--minutes", "-1"]).is_err());
    }

    #[test]
    fn every_target_has_a_program_a_corpus_and_an_entry_in_the_manifest() {
        let root = crate::root();
        let targets: BTreeSet<String> = targets(&root).unwrap().into_iter().collect();
        let folders = fs::read_dir(root.join("fuzz/corpus")).unwrap();
        let folders: BTreeSet<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let manifest: toml::Table =
            fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap().parse().unwrap();
        let programs = manifest["bin"].as_array().unwrap().iter();
        let programs: BTreeSet<String> =
            programs.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
        let engine = fs::read_to_string(root.join("crates/engine/src/fuzzing.rs")).unwrap();
        for target in &targets {
            let program = fs::read_to_string(root.join(format!("fuzz/fuzz_targets/{target}.rs"))).unwrap();
            assert!(program.contains(&format!("engine::fuzzing::{target}(bytes)")), "{target}");
            assert!(engine.contains(&format!("pub fn {target}(bytes: &[u8])")), "{target}");
        }
        assert_eq!(targets, folders);
        assert_eq!(targets, programs);
    }

    #[test]
    fn the_lock_file_knows_what_the_engine_depends_on() {
        let table = |path: &str| -> toml::Table {
            fs::read_to_string(crate::root().join(path)).unwrap().parse().unwrap()
        };
        let (manifest, lock) = (table("crates/engine/Cargo.toml"), table("fuzz/Cargo.lock"));
        let names = |kind: &str| manifest[kind].as_table().unwrap().keys().cloned().collect::<Vec<_>>();
        let wanted: BTreeSet<String> =
            [names("dependencies"), names("build-dependencies")].concat().into_iter().collect();
        let packages = lock["package"].as_array().unwrap();
        let engine = packages.iter().find(|package| package["name"].as_str() == Some("engine")).unwrap();
        let locked = engine["dependencies"].as_array().unwrap().iter();
        // Of several versions one is named behind a space.
        let locked: BTreeSet<String> =
            locked.map(|name| name.as_str().unwrap().split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(locked, wanted, "`cargo update --workspace --manifest-path fuzz/Cargo.toml` mends it");
    }
}
