//! The tests' Python environment: what xtask/requirements.txt pins, in target/venv.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::probe::quietly;

/// A Python environment in which everything of xtask/requirements.txt is installed.
pub struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// Makes it where it is missing or older than its requirements.
    pub fn install() -> Result<Venv> {
        let root = crate::root();
        let target = root.join("target");
        fs::create_dir_all(&target).with_context(|| format!("{} could not be made", target.display()))?;
        // Two runs at once would install over each other.
        let lock = File::create(target.join("venv.lock")).context("target/venv.lock could not be made")?;
        lock.lock().context("target/venv.lock could not be locked")?;
        let venv = Venv { folder: target.join("venv") };
        venv.bring_up(&root.join("xtask/requirements.txt"))?;
        Ok(venv)
    }

    /// The folder, as the tests are told of it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    fn bring_up(&self, requirements: &Path) -> Result<()> {
        let wanted = fs::read_to_string(requirements)
            .with_context(|| format!("{} could not be read", requirements.display()))?;
        let installed = self.folder.join("installed.txt");
        // Its Python is the system's, which may have been replaced.
        let works = || quietly(Command::new(self.program("python3")).args(["-c", "import bson, yaml"]));
        if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) && works() {
            return Ok(());
        }
        println!(
            "missing: the Python packages of xtask/requirements.txt in target/venv\n    needed because the tests use kubectl, \
             kubernetes-validate, pymongo and SecantusDB"
        );
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&self.folder);
        run(&mut make, "its own message stands above")?;
        let mut pip = Command::new(self.program("python3"));
        // Without dependencies, so that nothing comes in which is not pinned.
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"]);
        run(
            pip.arg(requirements),
            "its own message stands above: it is mostly the index, which must be reachable (pip config list), or a Python for \
             which a package has no wheel",
        )?;
        let mut check = Command::new(self.program("python3"));
        run(
            check.args(["-m", "pip", "check"]),
            "xtask/requirements.txt lacks what stands above: pin it there",
        )?;
        // Written last, so that a broken installation is done again.
        fs::write(&installed, wanted).with_context(|| format!("{} could not be written", installed.display()))
    }
}

fn run(command: &mut Command, mend: &str) -> Result<()> {
    println!("running: {}", crate::line(command));
    crate::finish(command, mend)
}
