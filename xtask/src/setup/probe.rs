//! What is on this machine already: programs, their versions, and whether a C program can be built.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program that an environment variable may name.
pub struct Tool {
    variable: &'static str,
    names: &'static [&'static str],
}

impl Tool {
    pub const FFMPEG: Tool = Tool { variable: "FFMPEG", names: &["ffmpeg"] };
    pub const CHROMIUM: Tool = Tool {
        variable: "CHROMIUM",
        names: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
    };
    pub const NODE: Tool = Tool { variable: "NODE", names: &["node", "nodejs"] };

    /// What the variable names, if it is set.
    pub fn named(&self) -> Result<Option<PathBuf>> {
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

    pub fn path(&self) -> Result<PathBuf> {
        if let Some(named) = self.named()? {
            return Ok(named);
        }
        let found = self.names.iter().find_map(|name| find(name));
        found.with_context(|| format!("no {} on the PATH", self.names.join(", no ")))
    }

    /// Whether it starts: Ubuntu has a chromium-browser that only says where to get the real one.
    pub fn lack(&self) -> Option<String> {
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

pub fn lack_of_program(name: &str) -> Option<String> {
    find(name).is_none().then(|| format!("no {name} on the PATH"))
}

pub fn lack_of_programs(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| lack_of_program(name))
}

/// The archive that links zlib into a program.
pub fn lack_of_static_zlib() -> Option<String> {
    let output = Command::new("cc").arg("-print-file-name=libz.a").output().ok()?;
    // Where there is none, the compiler prints the bare name.
    (!output.stdout.contains(&b'/')).then(|| "the C compiler finds no libz.a".into())
}

/// What `cargo xtask dist` fetches sources with, unless it is given them.
pub fn lack_of_source_packages() -> Option<String> {
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if env::var_os("DIST_SOURCES").is_some() {
        return None;
    }
    lack_of_program("apt-get").or_else(|| (!Path::new(keys).exists()).then(|| format!("no {keys}")))
}

pub fn lack_of_node() -> Option<String> {
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

pub fn lack_of_compiler() -> Option<String> {
    (!compiles("int main(void) { return 0; }", &[]))
        .then(|| format!("{} does not compile and link", compiler()))
}

pub fn lack_of_pkg_config() -> Option<String> {
    (!quietly(Command::new(pkg_config()).arg("--version"))).then(|| "it does not start".to_string())
}

/// FFmpeg 5.0 came with these majors.
const FFMPEG_5: [(&str, &str); 4] =
    [("libavformat", "59"), ("libavcodec", "59"), ("libswresample", "4"), ("libavutil", "57")];

pub fn lack_of_ffmpeg_libraries() -> Option<String> {
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
pub fn lack_of_lame() -> Option<String> {
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

pub fn quietly(command: &mut Command) -> bool {
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

/// Servers, which Debian keeps off the PATH of all but root.
pub fn lack_of_servers(names: &[&str]) -> Option<String> {
    let lacking: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| find(name).is_none() && !is_program(&Path::new("/usr/sbin").join(name)))
        .collect();
    (!lacking.is_empty()).then(|| format!("no {} on the PATH or in /usr/sbin", lacking.join(", no ")))
}

/// A Python that has what the test tools need, and can make a virtual environment.
pub fn lack_of_python() -> Option<String> {
    let Some(python) = find("python3") else { return Some("no python3 on the PATH".into()) };
    let probe = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";
    (!quietly(Command::new(&python).args(["-c", probe])))
        .then(|| format!("{} is older than 3.11, or has no venv", python.display()))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
