//! Python environments in target/: of the tests, by xtask/requirements.txt, and of the benchmark, by xtask/bench-requirements.txt.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::probe::quietly;

/// A Python environment in which everything is installed that its list pins.
pub struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// The tests' own.
    pub fn install() -> Result<Venv> {
        let why = "the tests use kubectl, kubernetes-validate, pymongo and SecantusDB";
        Venv::with("venv", "xtask/requirements.txt", why, "import bson, yaml")
    }

    /// The benchmark's own.
    pub fn of_bench() -> Result<Venv> {
        let why = "MoviePy 1.0.3, with which the original services convert, is measured beside Tapedeck";
        Venv::with("bench-venv", "xtask/bench-requirements.txt", why, "import moviepy.editor")
    }

    /// Makes it where it is missing or older than its requirements. `probe` is a line of Python that works where it is whole.
    fn with(name: &str, requirements: &str, why: &str, probe: &str) -> Result<Venv> {
        let root = crate::root();
        let target = root.join("target");
        fs::create_dir_all(&target).with_context(|| format!("{} could not be made", target.display()))?;
        // Two runs at once would install over each other.
        let lock = target.join(name).with_extension("lock");
        let lock = File::create(&lock).with_context(|| format!("{} could not be made", lock.display()))?;
        lock.lock().with_context(|| format!("target/{name}.lock could not be locked"))?;
        let venv = Venv { folder: target.join(name) };
        venv.bring_up(&root.join(requirements), why, probe)?;
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

    fn bring_up(&self, requirements: &Path, why: &str, probe: &str) -> Result<()> {
        let wanted = fs::read_to_string(requirements)
            .with_context(|| format!("{} could not be read", requirements.display()))?;
        let installed = self.folder.join("installed.txt");
        // Its Python is the system's, which may have been replaced.
        let works = || quietly(Command::new(self.program("python3")).args(["-c", probe]));
        if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) && works() {
            return Ok(());
        }
        println!(
            "missing: the Python packages of {} in {}\n    needed because {why}",
            requirements.display(),
            self.folder.display()
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
            &format!("{} lacks what stands above: pin it there", requirements.display()),
        )?;
        // Written last, so that a broken installation is done again.
        fs::write(&installed, wanted).with_context(|| format!("{} could not be written", installed.display()))
    }
}

fn run(command: &mut Command, mend: &str) -> Result<()> {
    println!("running: {}", crate::line(command));
    crate::finish(command, mend)
}
