//! The repository's files, as git sees them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Every file that git does not ignore, from the root.
pub fn all(root: &Path) -> Result<BTreeSet<String>> {
    listed(root, &["--cached", "--others"]).map_or_else(|| walked(root), Ok)
}

/// Every file that git tracks. A source archive has no history: there, everything counts as tracked.
pub fn tracked(root: &Path) -> Result<BTreeSet<String>> {
    listed(root, &["--cached"]).map_or_else(|| walked(root), Ok)
}

/// What git lists, or nothing where there is no git or no clone.
fn listed(root: &Path, which: &[&str]) -> Option<BTreeSet<String>> {
    let mut git = Command::new("git");
    // A clone that belongs to another user is common in containers, and reading it is harmless.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--exclude-standard"])
        .args(which)
        .current_dir(root);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Some(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

fn walked(root: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("{} could not be listed", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_file() {
                files.insert(name);
            } else if !is_ignored(&name) {
                folders.push(path);
            }
        }
    }
    Ok(files)
}

fn is_ignored(folder: &str) -> bool {
    matches!(folder, ".git" | "target" | "data") || folder.ends_with("node_modules")
}
