//! The rules for ARCHITECTURE.md: it is short, names every part of the tree, and names nothing that does not exist.

use std::collections::BTreeSet;

use super::{Finding, Tree, is_word, words};

const FILE: &str = "ARCHITECTURE.md";
const LINES: usize = 200;

/// What is wrong with ARCHITECTURE.md.
pub fn findings(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.texts.get(FILE) else {
        return vec![Finding::new(
            FILE,
            1,
            "there is no such file",
            "write it: bird's eye, code map, invariants, walkthroughs",
        )];
    };
    let mut findings = Vec::new();
    findings.extend(too_long(text));
    findings.extend(unnamed_folders(tree, text));
    let defined = Defined::read(tree);
    for (line, span) in spans(text) {
        if let Some(paths) = as_paths(tree, &span) {
            findings.extend(missing_paths(tree, line, &paths));
        } else {
            findings.extend(undefined_names(&defined, line, &span));
        }
    }
    findings
}

fn too_long(text: &str) -> Option<Finding> {
    let count = text.lines().count();
    (count >= LINES).then(|| {
        let what =
            format!("{count} lines; nobody keeps a long map in mind, {LINES} must be more than enough");
        Finding::new(FILE, count, what, "move details to the doc comments of what they describe")
    })
}

fn unnamed_folders(tree: &Tree, text: &str) -> Vec<Finding> {
    let manifests = tree.texts.keys().filter_map(|path| path.strip_suffix("/Cargo.toml"));
    let folders: BTreeSet<&str> = manifests.chain(tree.tracked.iter().map(String::as_str)).collect();
    let unnamed = folders.into_iter().filter(|folder| !names_folder(text, folder));
    let mend = "say in one line of the code map what it is for, as `name/`";
    unnamed.map(|folder| Finding::new(FILE, 1, format!("the folder {folder}/ is not named"), mend)).collect()
}

/// `crates/engine`, `engine/` or `` `engine` ``, in the prose or in a drawn tree.
fn names_folder(text: &str, folder: &str) -> bool {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back().unwrap_or(' ');
        let after = text[start + name.len()..].chars().next().unwrap_or(' ');
        let starts = !is_word(before) && !matches!(before, '.' | '-');
        let in_folder = text[..start].ends_with(&folder[..folder.len() - name.len()]) && before == '/';
        starts && (after == '/' || (after == '`' && (before == '`' || in_folder)))
    })
}

/// What stands in backticks outside of fenced blocks, with its line; a span may run over a line's end.
fn spans(text: &str) -> Vec<(usize, String)> {
    let mut spans = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.trim_start().starts_with("```") || line.trim().is_empty() {
            open = None;
            continue;
        }
        for (piece, part) in line.split('`').enumerate() {
            if piece > 0 {
                match open.take() {
                    Some(span) => spans.push(span),
                    None => open = Some((index + 1, String::new())),
                }
            }
            if let Some((_, span)) = &mut open {
                span.push_str(part);
            }
        }
        if let Some((_, span)) = &mut open {
            span.push(' ');
        }
    }
    spans
}

// Paths

const EXTENSIONS: [&str; 7] = [".rs", ".toml", ".md", ".js", ".html", ".css", ".c"];
const MEDIA_TYPES: [&str; 6] = ["application", "audio", "image", "multipart", "text", "video"];
/// Made at run time, not part of the tree.
const MADE: [&str; 3] = ["data", "node_modules", "target"];

/// The paths that a span means, or nothing when it is no path of ours.
fn as_paths(tree: &Tree, span: &str) -> Option<Vec<String>> {
    let is_path = span.contains('/') || EXTENSIONS.iter().any(|extension| span.ends_with(extension));
    let foreign = span.starts_with(['/', '~', '$', '-', '@'])
        || span.contains("://")
        || span.contains("...")
        || span.contains(|c: char| c.is_whitespace() || "<>()|=&?\"'".contains(c));
    if !is_path || foreign {
        return None;
    }
    let span = span.trim_start_matches("./").trim_end_matches('/');
    let (first, rest) = span.split_once('/').unwrap_or((span, ""));
    let is_media_type = MEDIA_TYPES.contains(&first) && !rest.contains(['/', '.']) && !rest.is_empty();
    let is_feature = tree
        .packages
        .iter()
        .any(|package| package.name == first && package.features.iter().any(|name| name == rest));
    if is_media_type || is_feature || MADE.contains(&first) {
        return Some(vec![]);
    }
    Some(expand(span))
}

/// `a/{b,c}` as `a/b` and `a/c`; `a/*/b` as `a`; `a.rs:12` as `a.rs`.
fn expand(span: &str) -> Vec<String> {
    if let (Some(open), Some(close)) = (span.find('{'), span.find('}'))
        && open < close
    {
        let (before, after) = (&span[..open], &span[close + 1..]);
        return span[open + 1..close]
            .split(',')
            .flat_map(|part| expand(&format!("{before}{}{after}", part.trim())))
            .collect();
    }
    let known = span.split('*').next().unwrap_or(span);
    let known = if known.len() < span.len() {
        known.rsplit_once('/').map_or("", |(folder, _)| folder)
    } else {
        known
    };
    let without_line = known.rsplit_once(':').filter(|(_, line)| line.parse::<u32>().is_ok());
    vec![without_line.map_or(known, |(path, _)| path).trim_end_matches('/').to_string()]
}

fn missing_paths(tree: &Tree, line: usize, paths: &[String]) -> Vec<Finding> {
    let missing = paths.iter().filter(|path| !path.is_empty() && !exists(tree, path));
    let mend =
        "name the path as it is now; when it is no path of this repository, write it without backticks";
    missing.map(|path| Finding::new(FILE, line, format!("the path `{path}` does not exist"), mend)).collect()
}

/// From the root, or as the end of a path, as one writes within a section about a crate.
fn exists(tree: &Tree, path: &str) -> bool {
    tree.paths.contains(path) || {
        let end = format!("/{path}");
        tree.paths.iter().any(|known| known.ends_with(&end))
    }
}

// Names of Rust

const KEYWORDS: [&str; 10] =
    ["struct", "enum", "trait", "type", "union", "fn", "mod", "const", "static", "macro_rules"];

/// What the Rust sources define, and whose names from elsewhere they use.
struct Defined<'a> {
    names: BTreeSet<&'a str>,
    foreign: BTreeSet<String>,
}

impl<'a> Defined<'a> {
    fn read(tree: &'a Tree) -> Defined<'a> {
        let mut names: BTreeSet<&str> = tree.packages.iter().map(|package| package.name.as_str()).collect();
        for (path, text) in tree.rust_sources() {
            let folders = path.trim_end_matches(".rs").split('/');
            names.extend(folders);
            // Comments cannot define: a line of one does not start with a keyword or a name.
            for line in text.lines() {
                names.extend(defined_in(line));
            }
        }
        let workspace = tree.texts.get("Cargo.toml").and_then(|text| text.parse::<toml::Table>().ok());
        let dependencies =
            workspace.as_ref().and_then(|file| file["workspace"].get("dependencies")?.as_table());
        let mut foreign: BTreeSet<String> = ["std", "core", "alloc"].map(String::from).into();
        foreign
            .extend(dependencies.into_iter().flat_map(|all| all.keys()).map(|name| name.replace('-', "_")));
        foreign.retain(|name| !names.contains(name.as_str()));
        names.extend(tree.rust_sources().flat_map(|(_, text)| imported_in(text)));
        Defined { names, foreign }
    }

    fn knows(&self, name: &str) -> bool {
        self.names.contains(name) || matches!(name, "crate" | "self" | "super" | "Self")
    }
}

/// Items, and variants and fields, which stand first on their line.
fn defined_in(line: &str) -> Vec<&str> {
    let all: Vec<(usize, &str)> = words(line).collect();
    let mut names: Vec<&str> =
        all.windows(2).filter(|pair| KEYWORDS.contains(&pair[0].1)).map(|pair| pair[1].1).collect();
    if let Some((start, name)) = all.iter().copied().find(|(_, word)| *word != "pub")
        && line[..start].trim_start().trim_end_matches("pub ").is_empty()
        && line[start + name.len()..].trim_start().chars().next().is_none_or(|next| "{(,:=".contains(next))
        && !line[start + name.len()..].starts_with("::")
    {
        names.push(name);
    }
    names
}

fn imported_in(text: &str) -> impl Iterator<Item = &str> {
    let statements = text.match_indices("use ").filter(|(start, _)| {
        let before = text[..*start].rsplit('\n').next().unwrap_or_default().trim();
        before.is_empty() || before.starts_with("pub")
    });
    statements.flat_map(|(start, _)| {
        let end = text[start..].find(';').map_or(text.len(), |length| start + length);
        words(&text[start..end]).map(|(_, word)| word)
    })
}

/// `Blobs`, `job::Event`, `Arc<dyn Jobs>`: every CamelCase name, and every part of a path, must be defined somewhere.
fn undefined_names(defined: &Defined, line: usize, span: &str) -> Vec<Finding> {
    let is_code = span.chars().all(|c| is_word(c) || ":<>&(), _'!".contains(c));
    if !is_code || (span.trim().contains(' ') && !span.contains('<')) {
        return vec![];
    }
    let mut findings = Vec::new();
    for path in span.split(|c: char| !is_word(c) && c != ':') {
        let parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
        if parts.first().is_some_and(|first| defined.foreign.contains(*first)) {
            continue;
        }
        let unknown =
            parts.iter().filter(|part| (parts.len() > 1 || is_camel_case(part)) && !defined.knows(part));
        findings.extend(unknown.map(|name| {
            let mend = "name it as it is called now; when it is no name of ours, write it without backticks";
            Finding::new(FILE, line, format!("`{span}`: no Rust source defines `{name}`"), mend)
        }));
    }
    findings
}

fn is_camel_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.contains(|c: char| c.is_ascii_lowercase())
        && !name.contains('_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Package;

    fn tree(text: &str) -> Tree {
        let mut tree = Tree::default();
        let job = "pub enum Event {\n    /// It began.\n    Started { at: u64 },\n    Ended,\n}\nimpl Event { fn apply(&self) {} }";
        let ports = "use std::sync::{Arc,\n    Mutex};\n/// Forgotten is gone.\npub trait Jobs {}\npub struct BlobWriter;";
        for (path, text) in [
            (FILE, text),
            ("Cargo.toml", "[workspace.dependencies]\ntokio-util = \"1\"\n"),
            ("crates/services/Cargo.toml", ""),
            ("crates/services/src/job.rs", job),
            ("crates/services/src/ports/mod.rs", ports),
        ] {
            tree.texts.insert(path.into(), text.into());
            tree.add_path(path);
        }
        tree.tracked = ["crates", ".ci"].map(String::from).into();
        tree.packages.push(Package {
            name: "services".into(),
            manifest: "crates/services/Cargo.toml".into(),
            depends_on: vec![],
            features: vec!["contract".into()],
        });
        tree
    }

    const GOOD: &str = "\
`crates/` has `services/`; `.ci/run` is not yet here, `.ci/` is.

```
crates/nowhere.rs  NotAType
```
";

    fn faults(more: &str) -> Vec<String> {
        let mut tree = tree(&format!("{GOOD}\n{more}\n"));
        tree.add_path(".ci/run");
        findings(&tree).iter().map(Finding::to_string).collect()
    }

    fn fails(more: &str, what: &str) {
        let faults = faults(more);
        assert!(faults.len() == 1 && faults[0].contains(what), "{more}: {faults:?}");
        assert!(faults[0].starts_with("ARCHITECTURE.md:"), "{faults:?}");
    }

    #[test]
    fn what_exists_passes() {
        for more in [
            "`crates/services/src/job.rs`, `job.rs`, `ports/`, `src/{job.rs,ports}`, `crates/*/Cargo.toml`, `job.rs:1`",
            "`Jobs`, `BlobWriter`, `job::Event`, `Event::apply`, `Event::Ended`, `Event::Started`, `services::job`",
            "`Arc<dyn Jobs>`, `std::net::TcpStream`, `tokio_util::sync::CancellationToken`, `Mutex`",
            "`/download`, `GET /download?fid=…`, `audio/mpeg`, `application/problem+json`, `https://example.org/x.md`",
            "`services/contract`, `./data/blobs`, `target/release/tapedeck`, `cargo xtask test`, `SIGTERM`, `w: majority`",
            "`Jobs\nis cut`, an odd ` backtick\n\nand `Jobs`",
        ] {
            assert_eq!(faults(more), Vec::<String>::new(), "{more}");
        }
    }

    #[test]
    fn a_missing_file_fails() {
        let found = findings(&Tree::default());
        assert!(found[0].to_string().contains("no such file"));
    }

    #[test]
    fn a_path_that_does_not_exist_fails() {
        fails("`crates/services/src/gone.rs`", "`crates/services/src/gone.rs` does not exist");
        fails("`gone.toml`", "`gone.toml` does not exist");
        fails("`src/{job.rs,gone.rs}`", "`src/gone.rs` does not exist");
        fails("`obs.rs`", "`obs.rs` does not exist"); // The end of a name is no path.
        fails("`crates/gone/*.rs`", "`crates/gone` does not exist");
        fails("a line\nthen `services/gone_feature`", "ARCHITECTURE.md:8:");
    }

    #[test]
    fn a_name_that_nothing_defines_fails() {
        fails("`Gone`", "defines `Gone`");
        fails("`Forgotten`", "defines `Forgotten`"); // Named in a comment only.
        fails("`job::Gone`", "defines `Gone`");
        fails("`gone::Event`", "defines `gone`");
        fails("`Event::Gone`", "defines `Gone`");
        fails("`Arc<dyn Gone>`", "defines `Gone`");
    }

    #[test]
    fn two_hundred_lines_are_too_many() {
        fails(&"line\n".repeat(LINES - 7), "200 lines");
        assert!(faults(&"line\n".repeat(LINES - 8)).is_empty());
    }

    #[test]
    fn a_folder_that_is_not_named_fails() {
        let mut bad = tree("`crates/` alone, the services, and ci/ and services-more/");
        bad.add_path(".ci/run");
        let found: Vec<String> = findings(&bad).iter().map(Finding::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains(".ci/ is not named") && found[1].contains("crates/services/ is not named"));
    }
}
