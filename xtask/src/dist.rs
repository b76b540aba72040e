//! `cargo xtask dist`: the release binary with a minimal libav and a fast LAME of its own, both from distribution source packages.

mod lame;
mod libav;
mod proof;
mod sources;
mod verify;

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{run, setup};
use sources::Tarballs;

pub const HELP: &str = "\
Builds the release binary with its own libav and LAME in it, and leaves it in target/dist/tapedeck; beside it, in
target/dist/third_party, their sources and licences, which go wherever the binary goes.

Usage: cargo xtask dist [--or-newer] [--libraries | --verify | --test]

  --libraries   only the libraries; prints the folder, for ENGINE_LIBRARIES=FOLDER cargo build
  --verify      only the libraries; then builds LAME from the same source without our patch, encodes recordings of media/ with
                both at many settings, and fails where ours is farther from the recording, or larger
  --test        the binary; then that, and tests of the binary itself: real files and hostile ones by the command line and by
                the page, in the sandbox; and of the engine with the same libraries in it, against the sandbox's probes
  --or-newer    where a pinned source is nowhere to be had any more, takes the archive's present version, and says so:
                for CI, which would be red until it is pinned; never for a release

libav comes from Debian's source package `ffmpeg`, with the containers and decoders that the engine admits and nothing
else; LAME from `lame`, with third_party/lame/kernels.patch. Both are pinned by version and SHA-256, fetched by apt-get
(from snapshot.debian.org once the archive has newer ones), or taken from the folder DIST_SOURCES where it is set. What
was built stays in target/dist until versions, patch or lists change. docs/dist.md says more.
";

/// Raised when how the libraries are built changes: versions, patch and lists are noticed without it.
const RECIPE: u32 = 3;

/// `cargo xtask dist`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    crate::only(arguments, &["--or-newer", "--libraries", "--verify", "--test"], "dist")?;
    let wants = |flag| arguments.iter().any(|argument| argument == flag);
    let build = Build { or_newer: wants("--or-newer") };
    if ["--libraries", "--verify", "--test"].into_iter().filter(|flag| wants(flag)).count() > 1 {
        bail!(
            "--libraries and --verify build no binary, and --test verifies, too: one of the three is enough"
        );
    }
    let folder = target()?.join("dist");
    if wants("--libraries") || wants("--verify") {
        setup::dist()?;
        let libraries = build.libraries(&folder)?;
        println!("{}", libraries.display());
        if wants("--verify") {
            verify::run(&folder, &libraries, &setup::dist_verify()?)?;
        }
        return Ok(());
    }
    let binary = build.binary()?;
    println!("{}", binary.display());
    if wants("--test") {
        let libraries = build.libraries(&folder)?;
        verify::run(&folder, &libraries, &setup::dist_verify()?)?;
        proof::prove(&binary, &libraries)?;
    }
    Ok(())
}

/// Builds the release binary, of pinned sources, and says where it is.
pub fn binary() -> Result<PathBuf> {
    Build { or_newer: false }.binary()
}

/// How to build.
struct Build {
    or_newer: bool,
}

impl Build {
    fn binary(&self) -> Result<PathBuf> {
        setup::dist()?;
        let folder = target()?.join("dist");
        let libraries = self.libraries(&folder)?;
        let mut build = crate::cargo();
        build.args(["build", "--release", "--locked", "-p", "tapedeck"]).env("ENGINE_LIBRARIES", &libraries);
        let built = run::executable_of(&mut build, "tapedeck")?;
        let binary = folder.join("tapedeck");
        // By rename, so that a running one stays whole.
        let new = folder.join("tapedeck.new");
        fs::copy(&built, &new).with_context(|| format!("{} could not be copied", built.display()))?;
        fs::rename(&new, &binary).with_context(|| format!("{} could not be replaced", binary.display()))?;
        check(&binary)?;
        leave_sources(&libraries.join("sources"), &folder.join("third_party"))?;
        Ok(binary)
    }

    /// The folder with `include` and `lib`, built if it is not there yet.
    fn libraries(&self, folder: &Path) -> Result<PathBuf> {
        let root = crate::root();
        let formats = libav::Formats::read(&root)?;
        let recipe = lame::Recipe::read(&root)?;
        let place = |tarballs: &Tarballs| {
            let mut hasher = DefaultHasher::new();
            (RECIPE, tarballs, &formats, &recipe).hash(&mut hasher);
            folder.join(format!("libraries-{:016x}", hasher.finish()))
        };
        let pinned = place(&Tarballs::pinned());
        if pinned.is_dir() {
            return Ok(pinned);
        }
        let cache = folder.join("sources");
        let tarballs = sources::fetch(&cache, self.or_newer)?;
        let done = place(&tarballs);
        if done.is_dir() {
            return Ok(done);
        }
        let work = folder.join("work");
        empty(&work)?;
        let new = work.join("libraries");
        for part in ["include", "lib", "sources"] {
            make(&new.join(part))?;
        }
        lame::build(&recipe, &cache.join(&tarballs.lame.file), &work, &new)?;
        libav::build(&formats, &cache.join(&tarballs.ffmpeg.file), &work, &new)?;
        for tarball in [&tarballs.lame, &tarballs.ffmpeg] {
            copy(&cache.join(&tarball.file), &new.join("sources").join(&tarball.file))?;
        }
        fs::rename(&new, &done).with_context(|| format!("{} could not be put in place", done.display()))?;
        fs::remove_dir_all(&work).with_context(|| format!("{} could not be removed", work.display()))?;
        Ok(done)
    }
}

/// Whoever passes the binary on, passes these on with it, as the licences ask: the sources as they were, and what we changed.
fn leave_sources(from: &Path, to: &Path) -> Result<()> {
    empty(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("{} could not be read", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("{} could not be read", from.display()))?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Fails where the binary still asks for a libav or LAME of the system, or does not start.
fn check(binary: &Path) -> Result<()> {
    let output =
        Command::new("readelf").arg("-d").arg(binary).output().context("readelf could not be started")?;
    let needed = String::from_utf8_lossy(&output.stdout);
    let needed: Vec<&str> = needed.lines().filter(|line| line.contains("(NEEDED)")).collect();
    if !output.status.success() || needed.is_empty() {
        bail!("readelf says nothing about {}", binary.display());
    }
    if let Some(foreign) = foreign(&needed) {
        bail!("{} was to have its codecs in itself, and asks for one: {}", binary.display(), foreign.trim());
    }
    crate::finish(Command::new(binary).arg("--version"), "the binary that was built does not start")
}

fn foreign<'a>(needed: &[&'a str]) -> Option<&'a str> {
    let codecs = ["libav", "libsw", "libmp3lame", "libmvec", "libz."];
    needed.iter().copied().find(|line| codecs.iter().any(|codec| line.contains(codec)))
}

/// Cargo's target folder.
fn target() -> Result<PathBuf> {
    let metadata = crate::metadata(&["--no-deps"])?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(folder.into())
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} could not be made", folder.display()))
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("{} could not be removed", folder.display()))?;
    }
    make(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("{} could not be copied to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("{} could not be written", file.display()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} could not be read", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_that_asks_for_the_systems_codecs_is_refused() {
        let own = ["(NEEDED) Shared library: [libc.so.6]", "(NEEDED) Shared library: [libm.so.6]"];
        assert_eq!(foreign(&own), None);
        for codec in
            ["libavcodec.so.59", "libswresample.so.4", "libmp3lame.so.0", "libmvec.so.1", "libz.so.1"]
        {
            let line = format!("(NEEDED) Shared library: [{codec}]");
            assert_eq!(foreign(&[own[0], &line]), Some(line.as_str()));
        }
    }
}
