//! `cargo xtask setup`: finds out what the build and the tests lack on this machine, and installs it.

mod apt;
mod probe;
mod venv;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use probe::Tool;
pub use venv::Venv;

pub const HELP: &str = "\
Installs what is missing for building Tapedeck, saying what and why before it does.

Usage: cargo xtask setup [--tests]

  --tests   also what the tests need: FFmpeg's command line, mpg123, madplay, mp3val, Chromium, Node, curl, the browser test's npm packages,
            RabbitMQ, MariaDB, promtool, and a Python environment in target/venv with xtask/requirements.txt
            (kubectl, kubernetes-validate, pymongo, SecantusDB)

Debian and Ubuntu: by apt-get, as root or through sudo. Elsewhere it names the packages and leaves the rest to you.
No server is started, now or at the next boot: the tests start their own, on free ports, and end them.
FFMPEG, CHROMIUM and NODE, where set, name the programs to use instead of those on the PATH.
";

/// Something the project needs and a package manager has.
struct Need {
    name: &'static str,
    why: &'static str,
    /// Says why it is not usable, or nothing.
    lack: fn() -> Option<String>,
    debian: &'static [&'static str],
    fedora: &'static [&'static str],
    arch: &'static [&'static str],
}

const BUILD: &[Need] = &[
    Need {
        name: "a C compiler",
        why: "LAME's calls and the encryption library are C",
        lack: probe::lack_of_compiler,
        debian: &["gcc", "libc6-dev"],
        fedora: &["gcc"],
        arch: &["gcc"],
    },
    Need {
        name: "pkg-config",
        why: "it tells the build where FFmpeg's libraries are",
        lack: probe::lack_of_pkg_config,
        debian: &["pkg-config"],
        fedora: &["pkgconf-pkg-config"],
        arch: &["pkgconf"],
    },
    Need {
        name: "FFmpeg's libraries, version 5 or newer",
        why: "the engine reads video and decodes its sound with them",
        lack: probe::lack_of_ffmpeg_libraries,
        debian: &["libavformat-dev", "libavcodec-dev", "libswresample-dev", "libavutil-dev"],
        fedora: &[
            "libavformat-free-devel",
            "libavcodec-free-devel",
            "libswresample-free-devel",
            "libavutil-free-devel",
        ],
        arch: &["ffmpeg"],
    },
    Need {
        name: "LAME's library",
        why: "the engine encodes MP3 with it",
        lack: probe::lack_of_lame,
        debian: &["libmp3lame-dev"],
        fedora: &["lame-devel"],
        arch: &["lame"],
    },
];

const FFMPEG: Need = Need {
    name: "FFmpeg's command line",
    why: "the tests decode our MP3s with it, independently of our code",
    lack: || Tool::FFMPEG.lack(),
    debian: &["ffmpeg"],
    fedora: &["ffmpeg-free"],
    arch: &["ffmpeg"],
};

const LAME: Need = Need {
    name: "LAME's command line",
    why: "the benchmark measures it beside Tapedeck",
    lack: || probe::lack_of_program("lame"),
    debian: &["lame"],
    fedora: &["lame"],
    arch: &["lame"],
};

const TESTS: &[Need] = &[
    FFMPEG,
    LAME,
    Need {
        name: "Chromium",
        why: "the page is tested in a real browser",
        lack: || Tool::CHROMIUM.lack(),
        debian: &["chromium"],
        fedora: &["chromium"],
        arch: &["chromium"],
    },
    Need {
        name: "Node 18 or newer",
        why: "it drives the browser in the tests",
        lack: probe::lack_of_node,
        debian: &["nodejs"],
        fedora: &["nodejs"],
        arch: &["nodejs"],
    },
    Need {
        name: "npm",
        why: "it installs the browser test's packages",
        lack: || probe::lack_of_program("npm"),
        debian: &["npm"],
        fedora: &["nodejs-npm"],
        arch: &["npm"],
    },
    Need {
        name: "curl",
        why: "the tests upload and download as the README shows it",
        lack: || probe::lack_of_program("curl"),
        debian: &["curl"],
        fedora: &["curl"],
        arch: &["curl"],
    },
    Need {
        name: "RabbitMQ",
        why: "the wake-ups of the distributed mode are tested on a real broker",
        lack: || probe::lack_of_servers(&["rabbitmq-server"]),
        debian: &["rabbitmq-server"],
        fedora: &["rabbitmq-server"],
        arch: &["rabbitmq"],
    },
    Need {
        name: "MariaDB",
        why: "the users of the distributed mode are tested on a real server",
        lack: || probe::lack_of_servers(&["mariadbd", "mariadb-install-db", "my_print_defaults"]),
        // Not mariadb-server: that one is the system's own server, these are the programs.
        debian: &["mariadb-server-core", "mariadb-client-core"],
        fedora: &["mariadb-server"],
        arch: &["mariadb"],
    },
    Need {
        name: "mpg123, madplay and mp3val",
        why: "the MP3s that many encoders made together are given to strict decoders",
        lack: || ["mpg123", "madplay", "mp3val"].into_iter().find_map(probe::lack_of_program),
        debian: &["mpg123", "madplay", "mp3val"],
        fedora: &["mpg123", "madplay", "mp3val"],
        arch: &["mpg123", "madplay", "mp3val"],
    },
    PROMTOOL,
    PYTHON,
];

const PROMTOOL: Need = Need {
    name: "promtool",
    why: "it checks and tests the alerts in deploy/prometheus",
    lack: || probe::lack_of_program("promtool"),
    debian: &["prometheus"],
    fedora: &["golang-github-prometheus"],
    arch: &["prometheus"],
};

const PYTHON: Need = Need {
    name: "Python 3.11 or newer with venv",
    why: "kubectl, kubernetes-validate and SecantusDB, which the tests use, come from PyPI",
    lack: probe::lack_of_python,
    debian: &["python3", "python3-venv"],
    fedora: &["python3"],
    arch: &["python"],
};

const DIST: &[Need] = &[
    Need {
        name: "make, patch and xz",
        why: "libav and LAME are built from their sources",
        lack: || probe::lack_of_programs(&["make", "patch", "xz"]),
        debian: &["make", "patch", "xz-utils"],
        fedora: &["make", "patch", "xz"],
        arch: &["make", "patch", "xz"],
    },
    Need {
        name: "nasm",
        why: "libav's decoders are partly assembly",
        lack: || probe::lack_of_program("nasm"),
        debian: &["nasm"],
        fedora: &["nasm"],
        arch: &["nasm"],
    },
    Need {
        name: "zlib's static library",
        why: "some videos have compressed headers",
        lack: probe::lack_of_static_zlib,
        debian: &["zlib1g-dev"],
        fedora: &["zlib-static"],
        arch: &["zlib"],
    },
    Need {
        name: "apt-get with Debian's keys",
        why: "the sources come from Debian's archive",
        lack: probe::lack_of_source_packages,
        debian: &["debian-archive-keyring"],
        fedora: &["apt", "debian-keyring"],
        arch: &["apt", "debian-archive-keyring"],
    },
];

const CPLUSPLUS: Need = Need {
    name: "a C++ compiler",
    why: "libFuzzer, which drives the fuzz targets, is C++",
    lack: || probe::lack_of_program("c++"),
    debian: &["g++"],
    fedora: &["gcc-c++"],
    arch: &["gcc"],
};

/// The programs that the tests are told of by environment variables.
pub struct Tools {
    pub ffmpeg: PathBuf,
    pub chromium: PathBuf,
    pub node: PathBuf,
    pub venv: Venv,
}

/// `cargo xtask setup [--tests]`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    crate::only(arguments, &["--tests"], "setup")?;
    if arguments.is_empty() {
        build()?;
        println!("setup: everything that the build needs is here");
    } else {
        tests()?;
        println!("setup: everything that the build and the tests need is here");
    }
    Ok(())
}

/// What `cargo build` needs.
pub fn build() -> Result<()> {
    install_missing(&BUILD.iter().collect::<Vec<_>>())
}

/// What the build and the tests need; says where the tests' programs are.
pub fn tests() -> Result<Tools> {
    for tool in [Tool::FFMPEG, Tool::CHROMIUM, Tool::NODE] {
        tool.named()?; // No package mends a wrong variable.
    }
    install_missing(&BUILD.iter().chain(TESTS).collect::<Vec<_>>())?;
    install_npm_packages()?;
    Ok(Tools {
        ffmpeg: Tool::FFMPEG.path()?,
        chromium: Tool::CHROMIUM.path()?,
        node: Tool::NODE.path()?,
        venv: Venv::install()?,
    })
}

/// What `cargo xtask manifests` needs.
pub fn manifests() -> Result<Venv> {
    install_missing(&[&PROMTOOL, &PYTHON])?;
    Venv::install()
}

/// The programs that the benchmark measures beside ours.
pub struct BenchTools {
    pub ffmpeg: PathBuf,
    pub lame: PathBuf,
    /// A Python that has MoviePy.
    pub moviepy: PathBuf,
}

/// What the build and the benchmark need.
pub fn bench() -> Result<BenchTools> {
    Tool::FFMPEG.named()?;
    install_missing(&BUILD.iter().chain([&FFMPEG, &LAME, &PYTHON]).collect::<Vec<_>>())?;
    let moviepy = Venv::of_bench()?.program("python3");
    Ok(BenchTools { ffmpeg: Tool::FFMPEG.path()?, lame: "lame".into(), moviepy })
}

/// What `cargo xtask dist` needs: nothing of the system's FFmpeg and LAME.
pub fn dist() -> Result<()> {
    install_missing(&BUILD.iter().take(1).chain(DIST).collect::<Vec<_>>())
}

/// What `cargo xtask dist --test` needs beside that: what the tests are built with, and FFmpeg's program, which it says the place of.
pub fn dist_tests() -> Result<PathBuf> {
    install_missing(&BUILD.iter().collect::<Vec<_>>())?;
    dist_verify()
}

/// What `cargo xtask dist --verify` needs beside `dist`: FFmpeg's program, which it says the place of.
pub fn dist_verify() -> Result<PathBuf> {
    Tool::FFMPEG.named()?;
    install_missing(&[&FFMPEG])?;
    Tool::FFMPEG.path()
}

/// What `cargo xtask fuzz` needs.
pub fn fuzz() -> Result<()> {
    install_missing(&BUILD.iter().chain([&CPLUSPLUS]).collect::<Vec<_>>())
}

/// What `cargo xtask check` needs beside the build: rustfmt and clippy.
pub fn lints() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !probe::quietly(crate::cargo().args([subcommand, "--version"])) {
            println!("missing: {component}, which `cargo xtask check` runs; adding it by rustup");
            let mut rustup = Command::new("rustup");
            crate::finish(
                rustup.args(["component", "add", component]),
                &format!("install {component} for your Rust toolchain"),
            )?;
        }
    }
    Ok(())
}

fn install_missing(needs: &[&Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    for (need, lack) in &missing {
        println!("missing: {} ({lack})\n    needed because {}", need.name, need.why);
    }
    let lacking: Vec<&Need> = missing.iter().map(|(need, _)| *need).collect();
    if probe::find("apt-get").is_none() {
        bail!("{}", advice_without_apt(&lacking));
    }
    apt::install(&packages(&lacking, |need| need.debian))?;
    let still: Vec<String> =
        self::missing(&lacking).iter().map(|(need, lack)| format!("{}: {lack}", need.name)).collect();
    if !still.is_empty() {
        bail!(
            "the packages are installed, and yet something is not usable: {}. This release of the distribution may be too \
             old (Debian 12 and Ubuntu 24.04 are new enough), or an environment variable points elsewhere",
            still.join("; ")
        );
    }
    Ok(())
}

fn missing<'a>(needs: &[&'a Need]) -> Vec<(&'a Need, String)> {
    needs.iter().filter_map(|need| (need.lack)().map(|lack| (*need, lack))).collect()
}

fn packages(needs: &[&Need], names: fn(&Need) -> &'static [&'static str]) -> Vec<&'static str> {
    let mut all: Vec<&str> = Vec::new();
    for name in needs.iter().flat_map(|need| names(need)) {
        if !all.contains(name) {
            all.push(name);
        }
    }
    all
}

fn advice_without_apt(needs: &[&Need]) -> String {
    let names: Vec<&str> = needs.iter().map(|need| need.name).collect();
    format!(
        "this machine has no apt-get, so the setup cannot install {}. Install it yourself, then repeat the command:\n    \
         Fedora: dnf install {}\n    Arch:   pacman -S {}",
        names.join(", "),
        packages(needs, |need| need.fedora).join(" "),
        packages(needs, |need| need.arch).join(" "),
    )
}

/// The browser test's npm packages, when they are missing or older than their lock file.
fn install_npm_packages() -> Result<()> {
    let folder = crate::root().join("crates/tapedeck/tests/browser");
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let Some(locked) = changed(&folder.join("package-lock.json")) else {
        return Ok(()); // No browser test in this tree.
    };
    // npm writes this file last.
    if changed(&folder.join("node_modules/.package-lock.json")).is_some_and(|installed| installed >= locked) {
        return Ok(());
    }
    println!(
        "missing: the npm packages of crates/tapedeck/tests/browser\n    needed because they drive the browser"
    );
    // Strict, because a package that this Node cannot run would otherwise fail in the middle of a test.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--engine-strict", "--no-audit", "--no-fund"]).current_dir(&folder);
    println!("running: {}", crate::line(&npm));
    crate::finish(
        &mut npm,
        "its own message stands above: EBADENGINE wants a newer Node, or an older version of the package; anything else is \
         mostly the registry, which must be reachable (npm config get registry)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_two_needs_share_is_named_once() {
        let needs: Vec<&Need> = BUILD.iter().chain(TESTS).collect();
        let arch = packages(&needs, |need| need.arch);
        assert_eq!(arch.iter().filter(|name| **name == "ffmpeg").count(), 1);
    }

    #[test]
    fn without_apt_the_advice_names_what_is_missing_for_each_distribution() {
        let advice = advice_without_apt(&[&BUILD[3]]);
        assert!(advice.contains("LAME's library") && advice.contains("dnf install lame-devel"), "{advice}");
    }
}
