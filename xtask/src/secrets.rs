//! The scan for secrets: no file of the repository holds a key, a token or a password that opens anything.

mod assignments;
mod keys;
mod kubernetes;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;

/// What looks like a secret and is none.
struct Allowed {
    file: &'static str,
    /// A part of the line.
    holds: &'static str,
    /// Why it opens nothing.
    reason: &'static str,
}

/// An entry that nothing needs any more is an error, so that the list stays short.
const ALLOWED: &[Allowed] = &[];

/// Every file that git does not ignore.
pub fn check() -> Result<()> {
    let root = crate::root();
    let mut findings = Vec::new();
    for file in files::all(&root)? {
        findings.extend(in_file(&root, &file)?);
    }
    judge(&findings, ALLOWED)
}

fn in_file(root: &Path, file: &str) -> Result<Vec<Finding>> {
    let path = root.join(file);
    if !fs::symlink_metadata(&path).is_ok_and(|about| about.is_file()) {
        return Ok(Vec::new()); // Deleted and not yet committed, or a link to a file that is scanned under its own name.
    }
    let bytes = fs::read(&path).with_context(|| format!("{file} could not be read"))?;
    // Recordings and pictures.
    if bytes.iter().take(8192).any(|byte| *byte == 0) {
        return Ok(Vec::new());
    }
    Ok(scan(file, &String::from_utf8_lossy(&bytes)))
}

/// A line that gives something away.
#[derive(Debug)]
struct Finding {
    file: String,
    line: usize,
    what: String,
    text: String,
}

fn scan(file: &str, text: &str) -> Vec<Finding> {
    let kind = Kind::of(file, text);
    let mut found = keys::find(text);
    if kind != Kind::Other {
        found.extend(assignments::find(text, kind));
    }
    if kind == Kind::Yaml {
        found.extend(kubernetes::find(text));
    }
    found.sort();
    found.dedup_by_key(|(line, _)| *line);
    let lines: Vec<&str> = text.lines().collect();
    let finding = |(line, what): (usize, String)| Finding {
        file: file.into(),
        line,
        what,
        text: lines.get(line - 1).copied().unwrap_or_default().into(),
    };
    found.into_iter().map(finding).collect()
}

/// What a line means depends on the file that it stands in.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Yaml,
    Shell,
    /// Any other configuration: `name = value` or `name: value`.
    Config,
    /// Text and program code, which are searched for keys and tokens alone.
    Other,
}

impl Kind {
    fn of(file: &str, text: &str) -> Kind {
        let name = file.rsplit('/').next().unwrap_or(file);
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match extension {
            "yaml" | "yml" => Kind::Yaml,
            "sh" | "bash" => Kind::Shell,
            "toml" | "env" | "ini" | "conf" | "cfg" | "cnf" | "properties" | "service" | "json" => {
                Kind::Config
            }
            _ if name.starts_with("Dockerfile") || text.starts_with("#!") => Kind::Shell,
            _ if name.starts_with(".env") => Kind::Config,
            _ => Kind::Other,
        }
    }
}

fn judge(findings: &[Finding], allowed: &[Allowed]) -> Result<()> {
    let covers =
        |entry: &Allowed, finding: &Finding| entry.file == finding.file && finding.text.contains(entry.holds);
    // The text itself is not shown: it would stand in CI's log.
    let open = findings.iter().filter(|finding| !allowed.iter().any(|entry| covers(entry, finding)));
    let mut faults: Vec<String> = open
        .map(|Finding { file, line, what, .. }| {
            format!(
                "{file}:{line}: {what}\n    mend: take it out, and change it where it is in use, because history keeps it; a value for \
                 tests alone goes into ALLOWED in xtask/src/secrets.rs, with the reason"
            )
        })
        .collect();
    let stale = allowed.iter().filter(|entry| !findings.iter().any(|finding| covers(entry, finding)));
    faults.extend(stale.map(|Allowed { file, holds, reason }| {
        format!(
            "xtask/src/secrets.rs: ALLOWED has an entry that nothing needs: {file}, {holds:?} ({reason})\n    mend: remove it"
        )
    }));
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{}", faults.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_holds_no_secret() {
        if let Err(error) = check() {
            panic!("{error:#}");
        }
    }

    #[test]
    fn a_secret_is_told_by_its_place_and_not_by_its_value() {
        let error = judge(&scan("deploy/x.env", "A=1\nJWT_SECRET=sarcasm\n"), &[]).unwrap_err().to_string();
        assert!(error.contains("deploy/x.env:2: ") && error.contains("JWT_SECRET"), "{error}");
        assert!(!error.contains("sarcasm"), "{error}");
    }

    #[test]
    fn an_allowed_value_passes_in_its_file_alone() {
        let allowed = [Allowed { file: "a.env", holds: "=sarcasm", reason: "a test's" }];
        assert!(judge(&scan("a.env", "JWT_SECRET=sarcasm"), &allowed).is_ok());
        let mut both = scan("a.env", "JWT_SECRET=sarcasm");
        both.extend(scan("b.env", "JWT_SECRET=sarcasm"));
        assert!(judge(&both, &allowed).unwrap_err().to_string().contains("b.env:1"));
    }

    #[test]
    fn an_entry_that_nothing_needs_is_a_fault() {
        let allowed = [Allowed { file: "a.env", holds: "x", reason: "a test's" }];
        assert!(judge(&[], &allowed).unwrap_err().to_string().contains("nothing needs"));
    }

    #[test]
    fn assignments_are_looked_for_in_configuration_and_scripts_alone() {
        assert_eq!(scan("deploy/image.sh", "PASSWORD=hunter22").len(), 1);
        assert_eq!(scan(".ci/run", "#!/usr/bin/env bash\nPASSWORD=hunter22").len(), 1);
        assert_eq!(scan("deploy/Dockerfile", "ENV PASSWORD=hunter22").len(), 1);
        assert_eq!(scan("src/lib.rs", "password: String,").len(), 0);
    }

    #[test]
    fn a_key_is_found_in_any_file() {
        let key = format!("-----BEGIN {} KEY-----", "PRIVATE");
        assert_eq!(scan("src/lib.rs", &key).len(), 1);
        assert_eq!(scan("README.md", &key).len(), 1);
    }
}
