//! The architecture test: what ARCHITECTURE.md names exists, and the arrows between crates and modules point one way.
//!
//! The rules judge a [`Tree`] in memory, so that each can be shown to fail on a bad one.

mod arrows;
mod prose;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;

/// The rules against the repository as it is on disk.
pub fn check() -> Result<()> {
    let findings = Tree::read(&crate::root())?.findings();
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{}", findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))
}

/// One broken rule: where, what, and how to mend it.
struct Finding {
    place: String,
    what: String,
    mend: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { place: format!("{file}:{line}"), what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}\n    mend: {}", self.place, self.what, self.mend)
    }
}

/// A package of the workspace and the workspace's packages that it depends on, for building and running.
struct Package {
    name: String,
    manifest: String,
    depends_on: Vec<String>,
    features: Vec<String>,
}

/// What the rules look at.
#[derive(Default)]
struct Tree {
    /// Every file and folder that git does not ignore, from the root.
    paths: BTreeSet<String>,
    /// The top-level folders that git tracks.
    tracked: BTreeSet<String>,
    /// Rust sources, manifests and ARCHITECTURE.md.
    texts: BTreeMap<String, String>,
    packages: Vec<Package>,
}

impl Tree {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = prose::findings(self);
        findings.extend(arrows::findings(self));
        findings
    }

    fn read(root: &Path) -> Result<Tree> {
        let mut tree = Tree { packages: packages(root)?, ..Tree::default() };
        let tracked = files::tracked(root)?;
        tree.tracked =
            tracked.iter().filter_map(|path| path.split_once('/')).map(|(top, _)| top.into()).collect();
        for file in files::all(root)? {
            let wanted = file.ends_with(".rs") || file.ends_with("Cargo.toml") || file == "ARCHITECTURE.md";
            if wanted && root.join(&file).is_file() {
                let text = fs::read_to_string(root.join(&file));
                tree.texts.insert(file.clone(), text.with_context(|| format!("{file} could not be read"))?);
            }
            if root.join(&file).exists() {
                tree.add_path(&file);
            }
        }
        Ok(tree)
    }

    /// A file and the folders that hold it.
    fn add_path(&mut self, file: &str) {
        let folders = file.match_indices('/').map(|(end, _)| file[..end].to_string());
        self.paths.extend(folders);
        self.paths.insert(file.to_string());
    }

    fn rust_sources(&self) -> impl Iterator<Item = (&str, &str)> {
        let sources = self.texts.iter().filter(|(path, _)| path.ends_with(".rs"));
        sources.map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

fn packages(root: &Path) -> Result<Vec<Package>> {
    let metadata = crate::metadata(&["--no-deps"])?;
    let listed = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let names: Vec<String> = listed.iter().map(|package| text(&package["name"])).collect();
    let read = |package: &serde_json::Value| {
        let manifest = text(&package["manifest_path"]);
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        // Tests may look at anything.
        let depends_on = dependencies.filter(|one| one["kind"] != "dev").map(|one| text(&one["name"]));
        Package {
            name: text(&package["name"]),
            manifest: Path::new(&manifest)
                .strip_prefix(root)
                .map_or(manifest.clone(), |own| own.display().to_string()),
            depends_on: depends_on.filter(|name| names.contains(name)).collect(),
            features: package["features"]
                .as_object()
                .into_iter()
                .flat_map(|all| all.keys().cloned())
                .collect(),
        }
    };
    Ok(listed.iter().map(read).collect())
}

/// The code of a source, line by line: comments are blanked out, so that prose may name what code must not.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut in_block = false;
    for line in text.lines() {
        let (mut in_text, mut before) = (false, ' ');
        let mut rest = line.chars().peekable();
        while let Some(c) = rest.next() {
            let next = rest.peek().copied().unwrap_or(' ');
            if in_block {
                if c == '*' && next == '/' {
                    in_block = false;
                    rest.next();
                }
            } else if !in_text && c == '/' && next == '/' {
                break;
            } else if !in_text && c == '/' && next == '*' {
                in_block = true;
            } else {
                // Not a quote that is escaped, or that is a character.
                if c == '"' && before != '\\' && !(before == '\'' && next == '\'') {
                    in_text = !in_text;
                }
                code.push(c);
            }
            before = c;
        }
        code.push('\n');
    }
    code
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every word of a text with the byte at which it starts.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text[from..].find(is_word)?;
        let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |length| start + length);
        from = end;
        Some((start, &text[start..end]))
    })
}

/// The line, from one, of a byte.
fn line_at(text: &str, byte: usize) -> usize {
    text[..byte].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_architecture() {
        if let Err(error) = check() {
            panic!("{error:#}");
        }
    }

    #[test]
    fn code_is_what_is_left_without_comments() {
        let text =
            "use a; // tokio\n/* sqlx\n axum */ let s = \"http://x\"; // more\nlet q = '\"'; // gone\n";
        assert_eq!(code(text), "use a; \n\n let s = \"http://x\"; \nlet q = '\"'; \n");
    }

    #[test]
    fn a_finding_says_where_what_and_how_to_mend() {
        let finding = Finding::new("a.rs", 3, "it is broken", "repair it");
        assert_eq!(finding.to_string(), "a.rs:3: it is broken\n    mend: repair it");
    }
}
