//! `cargo xtask setup`: finds out what the build and the tests lack on this machine, and installs it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal, Write, stdin};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

pub const HELP: &str = "\
Installs what is missing for building Tapedeck, saying what and why before it does.

Usage: cargo xtask setup [--tests]

  --tests   also what the tests need: FFmpeg's command line, Chromium, Node, curl, and the browser test's npm packages

Debian and Ubuntu: by apt-get, as root or through sudo. Elsewhere it names the packages and leaves the rest to you.
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
        lack: lack_of_compiler,
        debian: &["gcc", "libc6-dev"],
        fedora: &["gcc"],
        arch: &["gcc"],
    },
    Need {
        name: "pkg-config",
        why: "it tells the build where FFmpeg's libraries are",
        lack: lack_of_pkg_config,
        debian: &["pkg-config"],
        fedora: &["pkgconf-pkg-config"],
        arch: &["pkgconf"],
    },
    Need {
        name: "FFmpeg's libraries, version 5 or newer",
        why: "the engine reads video and decodes its sound with them",
        lack: lack_of_ffmpeg_libraries,
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
        lack: lack_of_lame,
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

const TESTS: &[Need] = &[
    FFMPEG,
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
        lack: lack_of_node,
        debian: &["nodejs"],
        fedora: &["nodejs"],
        arch: &["nodejs"],
    },
    Need {
        name: "npm",
        why: "it installs the browser test's packages",
        lack: || lack_of_program("npm"),
        debian: &["npm"],
        fedora: &["nodejs-npm"],
        arch: &["npm"],
    },
    Need {
        name: "curl",
        why: "the tests upload and download as the README shows it",
        lack: || lack_of_program("curl"),
        debian: &["curl"],
        fedora: &["curl"],
        arch: &["curl"],
    },
];

/// The programs that the tests are told of by environment variables.
pub struct Tools {
    pub ffmpeg: PathBuf,
    pub chromium: PathBuf,
    pub node: PathBuf,
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
    Ok(Tools { ffmpeg: Tool::FFMPEG.path()?, chromium: Tool::CHROMIUM.path()?, node: Tool::NODE.path()? })
}

/// What the build and the benchmark need; says where FFmpeg's command line is.
pub fn bench() -> Result<PathBuf> {
    Tool::FFMPEG.named()?;
    install_missing(&BUILD.iter().chain([&FFMPEG]).collect::<Vec<_>>())?;
    Tool::FFMPEG.path()
}

/// What `cargo xtask check` needs beside the build: rustfmt and clippy.
pub fn lints() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !quietly(crate::cargo().args([subcommand, "--version"])) {
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
    if find("apt-get").is_none() {
        bail!("{}", advice_without_apt(&lacking));
    }
    apt_install(&packages(&lacking, |need| need.debian))?;
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

// Installing

/// How to become root: not at all, by `sudo -n`, or by a `sudo` that asks.
fn root_prefix() -> Option<Vec<&'static str>> {
    // The owner of /proc/self is this process's effective user.
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Some(vec![]);
    }
    find("sudo")?;
    if quietly(Command::new("sudo").args(["-n", "true"])) {
        return Some(vec!["sudo", "-n"]);
    }
    stdin().is_terminal().then(|| vec!["sudo"])
}

const INSTALL: [&str; 3] = ["install", "--yes", "--no-install-recommends"];

fn apt_install(packages: &[&str]) -> Result<()> {
    let Some(prefix) = root_prefix() else {
        bail!(
            "installing packages needs root rights; this user has none, and sudo is missing or wants a password that nobody \
             is here to type. Run this as root, then repeat the command:\n    apt-get update && apt-get {} {}",
            INSTALL.join(" "),
            packages.join(" ")
        );
    };
    let known = quietly(Command::new("apt-cache").args(["show", "--no-all-versions"]).args(packages));
    if !known {
        // A failure here is told by the installation, with the packages it concerns.
        apt_get(&prefix, &["update"]);
    }
    let install: Vec<&str> = INSTALL.iter().chain(packages).copied().collect();
    let installed =
        apt_get(&prefix, &install) || (known && apt_get(&prefix, &["update"]) && apt_get(&prefix, &install));
    if !installed {
        bail!(
            "apt-get could not install {}: its own message stands above. Mend that (network, /etc/apt/sources.list, disk), or \
             install them by hand, then repeat the command",
            packages.join(" ")
        );
    }
    Ok(())
}

fn apt_get(prefix: &[&str], arguments: &[&str]) -> bool {
    let words: Vec<&str> = prefix
        .iter()
        .chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"])
        .chain(arguments)
        .copied()
        .collect();
    println!("running: {}", words.join(" "));
    // Thousands of lines of unpacking are worth reading only when it fails; its errors and sudo's question pass through.
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(if prefix == ["sudo"] { Stdio::inherit() } else { Stdio::null() })
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            false
        }
        Err(error) => {
            println!("{} could not be started: {error}", words[0]);
            false
        }
    }
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

// Probing

/// A program that an environment variable may name.
struct Tool {
    variable: &'static str,
    names: &'static [&'static str],
}

impl Tool {
    const FFMPEG: Tool = Tool { variable: "FFMPEG", names: &["ffmpeg"] };
    const CHROMIUM: Tool = Tool {
        variable: "CHROMIUM",
        names: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
    };
    const NODE: Tool = Tool { variable: "NODE", names: &["node", "nodejs"] };

    /// What the variable names, if it is set.
    fn named(&self) -> Result<Option<PathBuf>> {
        let Some(path) = env::var_os(self.variable).filter(|named| !named.is_empty()).map(PathBuf::from)
        else {
            return Ok(None);
        };
        if !is_program(&path) {
            bail!("{}={} is not an executable file; unset it or correct it", self.variable, path.display());
        }
        // Absolute, because tests run in their crates' folders.
        let path =
            std::path::absolute(&path).with_context(|| format!("{} has no full path", path.display()))?;
        Ok(Some(path))
    }

    fn path(&self) -> Result<PathBuf> {
        if let Some(named) = self.named()? {
            return Ok(named);
        }
        let found = self.names.iter().find_map(|name| find(name));
        found.with_context(|| format!("no {} on the PATH", self.names.join(", no ")))
    }

    /// Whether it starts: Ubuntu has a chromium-browser that only says where to get the real one.
    fn lack(&self) -> Option<String> {
        match self.path() {
            Err(error) => Some(error.to_string()),
            Ok(path) => {
                let flag = if self.variable == "FFMPEG" { "-version" } else { "--version" };
                let starts = quietly(Command::new(&path).arg(flag));
                (!starts).then(|| format!("{} {flag} fails", path.display()))
            }
        }
    }
}

fn lack_of_program(name: &str) -> Option<String> {
    find(name).is_none().then(|| format!("no {name} on the PATH"))
}

fn lack_of_node() -> Option<String> {
    let path = match Tool::NODE.path() {
        Ok(path) => path,
        Err(error) => return Some(error.to_string()),
    };
    let output = Command::new(&path).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let major = node_major(&version);
    (major < Some(18)).then(|| format!("{} is {version:?}", path.display()))
}

fn node_major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn lack_of_compiler() -> Option<String> {
    (!compiles("int main(void) { return 0; }", &[]))
        .then(|| format!("{} does not compile and link", compiler()))
}

fn lack_of_pkg_config() -> Option<String> {
    (!quietly(Command::new(pkg_config()).arg("--version"))).then(|| "it does not start".to_string())
}

/// FFmpeg 5.0 came with these majors.
const FFMPEG_5: [(&str, &str); 4] =
    [("libavformat", "59"), ("libavcodec", "59"), ("libswresample", "4"), ("libavutil", "57")];

fn lack_of_ffmpeg_libraries() -> Option<String> {
    let lacking: Vec<String> = FFMPEG_5
        .iter()
        .filter(|(library, least)| {
            !quietly(Command::new(pkg_config()).args(["--exists", "--atleast-version", least, library]))
        })
        .map(|(library, least)| format!("{library} {least}"))
        .collect();
    (!lacking.is_empty()).then(|| format!("pkg-config finds no {} or newer", lacking.join(", ")))
}

/// LAME has no pkg-config file in 3.100: only compiling and linking tells.
fn lack_of_lame() -> Option<String> {
    let source = "#include <lame/lame.h>\nint main(void) { return get_lame_version() == 0; }";
    (!compiles(source, &["-lmp3lame"]))
        .then(|| "no C program with lame/lame.h and -lmp3lame can be built".to_string())
}

fn pkg_config() -> OsString {
    env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into())
}

fn compiler() -> String {
    env::var("CC").ok().filter(|named| !named.trim().is_empty()).unwrap_or_else(|| "cc".into())
}

fn compiles(source: &str, arguments: &[&str]) -> bool {
    let compiler = compiler();
    let mut words = compiler.split_whitespace();
    let Some(program) = words.next() else { return false };
    let program_file = env::temp_dir().join(format!("tapedeck-setup-{}", std::process::id()));
    let child = Command::new(program)
        .args(words)
        .args(["-x", "c", "-", "-o"])
        .arg(&program_file)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    // A compiler that ends before it has read is judged by its exit code.
    let written = child.stdin.take().map(|mut input| input.write_all(source.as_bytes()));
    let compiled = child.wait().is_ok_and(|status| status.success());
    let _ = fs::remove_file(&program_file);
    compiled && matches!(written, Some(Ok(())))
}

fn quietly(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A program on the PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
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

    #[test]
    fn nodes_major_version_is_read() {
        assert_eq!(node_major("v20.20.2"), Some(20));
        assert_eq!(node_major("v9"), Some(9));
        assert_eq!(node_major("command not found"), None);
    }

    #[test]
    fn a_program_that_cannot_compile_is_told_from_one_that_can() {
        assert!(compiles("int main(void) { return 0; }", &[]));
        assert!(!compiles("int main(void) { return nothing; }", &[]));
        assert!(!compiles("int main(void) { return 0; }", &["-lthere-is-no-such-library"]));
    }
}
