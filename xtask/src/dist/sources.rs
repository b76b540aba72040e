//! The sources: which, and where they come from.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{copy, make, read, write};

/// The upstream tarball of a Debian source package. Debian's own patches are not taken.
struct Source {
    package: &'static str,
    version: &'static str,
    file: &'static str,
    sha256: &'static str,
    /// The name under which Debian's archive of every version has it.
    sha1: &'static str,
}

const LAME: Source = Source {
    package: "lame",
    version: "3.100-6",
    file: "lame_3.100.orig.tar.gz",
    sha256: "ddfe36cab873794038ae2c1210557ad34857a4b6bdc515785d1da9e175b1da1e",
    sha1: "64c53b1a4d493237cef5e74944912cd9f98e618d",
};
const FFMPEG: Source = Source {
    package: "ffmpeg",
    version: "7:5.1.9-0+deb12u1",
    file: "ffmpeg_5.1.9.orig.tar.xz",
    sha256: "d9b593bb2ba93d4b50f74177e0cdcd41747e708596367deed0c30348a71dd176",
    sha1: "c42a24a256e3e9f4b989835bcd1e3b1dbe9bb853",
};

/// A tarball in the cache.
#[derive(Hash)]
pub struct Tarball {
    pub file: String,
    sha256: String,
}

/// What is built.
#[derive(Hash)]
pub struct Tarballs {
    pub lame: Tarball,
    pub ffmpeg: Tarball,
}

impl Source {
    fn pinned(&self) -> Tarball {
        Tarball { file: self.file.to_owned(), sha256: self.sha256.to_owned() }
    }
}

impl Tarballs {
    /// Those that this file names.
    pub fn pinned() -> Tarballs {
        Tarballs { lame: LAME.pinned(), ffmpeg: FFMPEG.pinned() }
    }
}

/// Debian 12 and its updates; the keys are those of the package debian-archive-keyring.
const ARCHIVE: &str = "\
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

/// Where Debian keeps every file that its archive ever had, by SHA-1: <https://snapshot.debian.org>.
const EVERY_VERSION: &str = "http://snapshot.debian.org/file";

const MEND: &str = "put the files that xtask/src/dist/sources.rs names into a folder (Debian keeps every version that ever was at \
    https://snapshot.debian.org) and set DIST_SOURCES to it; or name the version that the archive has now, with its SHA-256";

/// Leaves every source in `cache`, each of them checked. Where a pinned version is nowhere to be had any more, that is an error; with
/// `or_newer` the archive's present one takes its place, by Debian's signature alone.
pub fn fetch(cache: &Path, or_newer: bool) -> Result<Tarballs> {
    make(cache)?;
    if let Some(given) = env::var_os("DIST_SOURCES").map(PathBuf::from) {
        for source in [&LAME, &FFMPEG] {
            copy(&given.join(source.file), &cache.join(source.file))?;
            check(source, cache)?;
        }
        return Ok(Tarballs::pinned());
    }
    let tarball = |source: &Source| match check(source, cache) {
        Ok(()) => Ok(source.pinned()),
        Err(_) => fetch_one(source, cache, or_newer),
    };
    Ok(Tarballs { lame: tarball(&LAME)?, ffmpeg: tarball(&FFMPEG)? })
}

fn fetch_one(source: &Source, cache: &Path, or_newer: bool) -> Result<Tarball> {
    let Source { package, version, .. } = source;
    println!("fetching the source package {package}={version}");
    let apt = Apt::new(&cache.join("apt"))?;
    apt.run(cache, &["update"])?;
    let archived = apt.run(cache, &["source", "--download-only", &format!("{package}={version}")]);
    let Err(gone) = archived.and_then(|()| check(source, cache)) else { return Ok(source.pinned()) };
    println!("{gone:#}\nfetching it from Debian's archive of every version");
    let kept = apt.fetch_kept(source, cache).and_then(|()| check(source, cache));
    let Err(unreachable) = kept else { return Ok(source.pinned()) };
    if !or_newer {
        return Err(unreachable.context(MEND));
    }
    println!("{unreachable:#}");
    let newer = newer(source, cache, &apt).context(MEND)?;
    println!(
        "WARNING: {package}={version}, which xtask/src/dist/sources.rs pins, is nowhere to be had. This build takes {}, what the archive \
         has now (SHA-256 {}): not for a release. Pin it.",
        newer.file, newer.sha256
    );
    Ok(newer)
}

/// The version that the archive has now.
fn newer(source: &Source, cache: &Path, apt: &Apt) -> Result<Tarball> {
    let folder = cache.join("newer").join(source.package);
    super::empty(&folder)?;
    apt.run(&folder, &["source", "--download-only", source.package])?;
    let entries = fs::read_dir(&folder).with_context(|| format!("{} could not be read", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let file = names.into_iter().find(|name| name.contains(".orig.tar.") && !name.ends_with(".asc"));
    let file = file.with_context(|| format!("the archive has no tarball for {}", source.package))?;
    copy(&folder.join(&file), &cache.join(&file))?;
    Ok(Tarball { sha256: sum(&cache.join(&file))?, file })
}

fn check(source: &Source, cache: &Path) -> Result<()> {
    let file = cache.join(source.file);
    if sum(&file)? != source.sha256 {
        bail!("{} is not the file that xtask/src/dist/sources.rs names: its SHA-256 differs", file.display());
    }
    Ok(())
}

/// A file's SHA-256.
fn sum(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg("--").arg(file).output();
    let output = output.context("sha256sum could not be started")?;
    if !output.status.success() {
        bail!("{} is not there", file.display());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let sum = said.split_whitespace().next().context("sha256sum says nothing")?;
    Ok(sum.to_owned())
}

/// apt-get with lists and settings of its own, so that the system's are left alone and no root rights are needed.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Apt> {
        for part in ["lists/partial", "cache/archives/partial", "sources"] {
            make(&folder.join(part))?;
        }
        write(&folder.join("sources/debian.sources"), ARCHIVE)?;
        let own = folder.display();
        let configuration = folder.join("apt.conf");
        let settings = format!(
            "Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{own}/sources\";\n\
             Dir::State::Lists \"{own}/lists\";\nDir::Cache \"{own}/cache\";\nAPT::Sandbox::User \"\";\n"
        );
        // The same settings are not written twice: apt-get may be reading them.
        if read(&configuration).ok().as_deref() != Some(&settings) {
            write(&configuration, &settings)?;
        }
        Ok(Apt { configuration })
    }

    fn run(&self, folder: &Path, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", &self.configuration).arg("-qq").args(arguments).current_dir(folder);
        crate::finish(&mut command, "its own message stands above")
    }

    /// From where nothing vanishes; apt-get comes with the program that does this.
    fn fetch_kept(&self, source: &Source, cache: &Path) -> Result<()> {
        let mut command = Command::new("/usr/lib/apt/apt-helper");
        command.env("APT_CONFIG", &self.configuration).args(["-qq", "download-file"]);
        command.arg(format!("{EVERY_VERSION}/{}", source.sha1)).arg(cache.join(source.file));
        crate::finish(command.arg(format!("SHA256:{}", source.sha256)), "its own message stands above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_not_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(&LAME, folder.path()).unwrap_err().to_string().contains("is not there"));
        write(&folder.path().join(LAME.file), "another").unwrap();
        assert!(check(&LAME, folder.path()).unwrap_err().to_string().contains("SHA-256 differs"));
        let empty = Source {
            package: "empty",
            version: "1",
            file: "empty",
            sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            sha1: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        };
        write(&folder.path().join("empty"), "").unwrap();
        check(&empty, folder.path()).unwrap();
    }
}
