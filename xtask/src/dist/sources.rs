//! The sources: which, and where they come from.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{copy, make, read, write};

/// The upstream tarball of a Debian source package. Debian's own patches are not taken.
#[derive(Hash)]
pub struct Source {
    /// Package and version, as apt-get wants them.
    package: &'static str,
    pub file: &'static str,
    sha256: &'static str,
}

pub const LAME: Source = Source {
    package: "lame=3.100-6",
    file: "lame_3.100.orig.tar.gz",
    sha256: "ddfe36cab873794038ae2c1210557ad34857a4b6bdc515785d1da9e175b1da1e",
};
pub const FFMPEG: Source = Source {
    package: "ffmpeg=7:5.1.9-0+deb12u1",
    file: "ffmpeg_5.1.9.orig.tar.xz",
    sha256: "d9b593bb2ba93d4b50f74177e0cdcd41747e708596367deed0c30348a71dd176",
};
pub const ALL: &[Source] = &[LAME, FFMPEG];

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

/// Leaves every source in `cache`, each of them checked.
pub fn fetch(cache: &Path) -> Result<()> {
    make(cache)?;
    if let Some(given) = env::var_os("DIST_SOURCES").map(PathBuf::from) {
        for source in ALL {
            copy(&given.join(source.file), &cache.join(source.file))?;
        }
        return ALL.iter().try_for_each(|source| check(source, cache));
    }
    let missing: Vec<&Source> = ALL.iter().filter(|source| check(source, cache).is_err()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = Apt::new(&cache.join("apt"))?;
    apt.run(cache, &["update"])?;
    for source in missing {
        println!("fetching the source package {}", source.package);
        apt.run(cache, &["source", "--download-only", source.package])?;
        check(source, cache)?;
    }
    Ok(())
}

fn check(source: &Source, cache: &Path) -> Result<()> {
    let file = cache.join(source.file);
    let output = Command::new("sha256sum").arg("--").arg(&file).output();
    let output = output.context("sha256sum could not be started")?;
    let sum = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{} is not there", file.display());
    }
    if sum.split_whitespace().next() != Some(source.sha256) {
        bail!("{} is not the file that xtask/src/dist/sources.rs names: its SHA-256 differs", file.display());
    }
    Ok(())
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
        crate::finish(
            &mut command,
            "put the files that xtask/src/dist/sources.rs names into a folder (Debian keeps every version that ever was at \
             https://snapshot.debian.org) and set DIST_SOURCES to it; or name the version that the archive has now, with its SHA-256",
        )
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
            file: "empty",
            sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        };
        write(&folder.path().join("empty"), "").unwrap();
        check(&empty, folder.path()).unwrap();
    }
}
