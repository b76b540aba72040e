//! The rules for what may know what: crates by their manifests, modules by their sources.

use std::collections::BTreeMap;

use super::{Finding, Tree, code, is_word, line_at, words};

/// Which crates of ours a crate may be built with. Adapters know the ports; only the binary knows the adapters.
const CRATES: [(&str, &[&str]); 7] = [
    ("tapedeck", &["embedded", "distributed", "services", "engine", "testkit"]),
    ("embedded", &["services", "engine"]),
    ("distributed", &["services", "engine", "testkit"]),
    ("testkit", &[]),
    ("services", &["engine"]),
    ("engine", &[]),
    ("xtask", &["testkit"]),
];

/// The four services, which do not know each other.
const SERVICES: [&str; 4] = ["gateway", "auth", "converter", "notification"];
const SERVICES_SOURCE: &str = "crates/services/src/";

/// Sources that stay free of some libraries, and why.
const PURE: [(&str, &[&str], &str); 2] = [
    (
        "crates/services/src/job",
        &["axum", "sqlx", "tokio"],
        "the job's transitions are pure; do it in the service that applies the effect",
    ),
    (
        "crates/engine/src/",
        &["axum", "hyper", "reqwest", "sqlx", "tokio"],
        "the engine is synchronous and has no network and no database; do it in crates/services",
    ),
];

/// Every arrow that points the wrong way.
pub fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = wrong_crates(tree);
    findings.extend(own_versions(tree));
    findings.extend(SERVICES.iter().flat_map(|service| mentions_of_others(tree, service)));
    findings.extend(PURE.iter().flat_map(|(place, libraries, why)| impure(tree, place, libraries, why)));
    findings
}

fn wrong_crates(tree: &Tree) -> Vec<Finding> {
    let arrows: BTreeMap<&str, &[&str]> = CRATES.into();
    let mut findings = Vec::new();
    for package in &tree.packages {
        let Some(allowed) = arrows.get(package.name.as_str()) else {
            let mend = "add it to CRATES in xtask/src/architecture/arrows.rs, with the crates it may know";
            findings.push(Finding::new(
                &package.manifest,
                1,
                format!("the crate {} has no arrows", package.name),
                mend,
            ));
            continue;
        };
        for wrong in package.depends_on.iter().filter(|name| !allowed.contains(&name.as_str())) {
            let line = dependency_line(tree.texts.get(&package.manifest).map_or("", String::as_str), wrong);
            let what = format!("{} depends on {wrong}, against the arrow", package.name);
            let mend =
                format!("put what both need into a crate that {} may know ({allowed:?})", package.name);
            findings.push(Finding::new(&package.manifest, line, what, mend));
        }
    }
    findings
}

/// Dependencies that do not take their version from the workspace.
fn own_versions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        match text.parse::<toml::Table>() {
            Err(error) => {
                findings.push(Finding::new(path, 1, format!("it is not TOML: {error}"), "correct it"))
            }
            Ok(manifest) => {
                let own = dependencies(&manifest).into_iter().filter(|(_, taken)| !taken);
                findings.extend(own.map(|(name, _)| {
                    let what = format!("{name} does not come from the workspace");
                    let mend =
                        format!("declare it in [workspace.dependencies] and write {name}.workspace = true");
                    Finding::new(path, dependency_line(text, &name), what, mend)
                }));
            }
        }
    }
    findings
}

/// Every dependency of a manifest, for any target, with whether it comes from the workspace.
fn dependencies(manifest: &toml::Table) -> Vec<(String, bool)> {
    let targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
    let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
    let kinds = tables.flat_map(|table| {
        ["dependencies", "dev-dependencies", "build-dependencies"].map(|kind| table.get(kind)?.as_table())
    });
    let taken = |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    kinds.flatten().flatten().map(|(name, value)| (name.clone(), taken(value))).collect()
}

fn dependency_line(manifest: &str, name: &str) -> usize {
    let names = |line: &str| {
        let key = line.trim_start().trim_start_matches(['"', '[']);
        let key = key.rsplit_once("dependencies.").map_or(key, |(_, key)| key);
        key.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c| is_word(c) || c == '-'))
    };
    manifest.lines().position(names).map_or(1, |index| index + 1)
}

// Modules

/// The sources of a module `name` under `folder`: `name.rs` and `name/…`.
fn module<'a>(tree: &'a Tree, folder: &str, name: &str) -> Vec<(&'a str, &'a str)> {
    let stem = format!("{folder}{name}");
    let own = |path: &str| path == format!("{stem}.rs") || path.starts_with(&format!("{stem}/"));
    tree.rust_sources().filter(|(path, _)| own(path)).collect()
}

fn mentions_of_others(tree: &Tree, service: &str) -> Vec<Finding> {
    let sources = module(tree, SERVICES_SOURCE, service);
    if sources.is_empty() {
        return vec![moved(&format!("{SERVICES_SOURCE}{service}"))];
    }
    let mut findings = Vec::new();
    for (path, text) in sources {
        let code = code(text);
        let others = from_crate_root(tree, path, &code).into_iter();
        for (start, other) in others.filter(|(_, name)| *name != service && SERVICES.contains(name)) {
            let what = format!("{service} mentions {other}; the four services do not know each other");
            let mend = "go through a port (crates/services/src/ports) or the job's record";
            findings.push(Finding::new(path, line_at(&code, start), what, mend));
        }
    }
    findings
}

/// The names that a source takes from its crate's root, by `crate::` or by enough `super::`.
fn from_crate_root<'a>(tree: &Tree, path: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let mut names = Vec::new();
    for (start, word) in words(code) {
        let root = match word {
            "crate" => 0,
            "super" if !code[..start].ends_with("super::") => depth(path),
            _ => continue,
        };
        let mut rest = &code[start + word.len()..];
        let mut supers = usize::from(word == "super");
        while let Some(after) = rest.strip_prefix("::super") {
            (rest, supers) = (after, supers + 1);
        }
        if word == "super" && supers < root {
            continue;
        }
        let Some(rest) = rest.strip_prefix("::") else { continue };
        let at = code.len() - rest.len();
        let found = group(rest).into_iter().map(|(offset, name)| (at + offset, name));
        // In a module written inside this file, the same `super`s may end at a module of its own.
        let own = |name: &str| word == "super" && !module(tree, &folder_of(path), name).is_empty();
        names.extend(found.filter(|(_, name)| !own(name)));
    }
    names
}

/// How many `super`s lead from a file of the services to the crate's root.
fn depth(path: &str) -> usize {
    let inside = path.strip_prefix(SERVICES_SOURCE).unwrap_or(path);
    let inside = inside.strip_suffix("/mod.rs").or(inside.strip_suffix(".rs")).unwrap_or(inside);
    inside.split('/').count()
}

/// Where the modules of a file lie.
fn folder_of(path: &str) -> String {
    let stem = path.strip_suffix("/mod.rs").or(path.strip_suffix(".rs")).unwrap_or(path);
    format!("{stem}/")
}

/// The first names of what follows `crate::`: `auth::Port` gives `auth`; `{job, auth::{A, B}}` gives `job` and `auth`.
fn group(rest: &str) -> Vec<(usize, &str)> {
    if !rest.starts_with('{') {
        return words(rest).next().filter(|(start, _)| *start == 0).into_iter().collect();
    }
    let mut names = Vec::new();
    let (mut depth, mut first) = (0, false);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (c == '{' || c == ',') {
            first = true;
        } else if first && is_word(c) {
            names.extend(words(&rest[at..]).next().map(|(_, name)| (at, name)));
            first = false;
        }
    }
    names
}

fn impure(tree: &Tree, place: &str, libraries: &[&str], why: &str) -> Vec<Finding> {
    let sources: Vec<(&str, &str)> = match place.strip_suffix('/') {
        Some(_) => tree.rust_sources().filter(|(path, _)| path.starts_with(place)).collect(),
        None => module(tree, "", place),
    };
    if sources.is_empty() {
        return vec![moved(place)];
    }
    let mut findings = Vec::new();
    for (path, text) in sources {
        let code = code(text);
        for (start, word) in words(&code) {
            let of = |library: &&&str| word == **library || word.starts_with(&format!("{library}_"));
            if libraries.iter().any(|library| of(&library)) {
                findings.push(Finding::new(path, line_at(&code, start), format!("it uses {word}"), why));
            }
        }
    }
    findings
}

/// A rule about nothing holds always: say so instead.
fn moved(place: &str) -> Finding {
    let what = "there is no Rust source here, so a rule about it proves nothing";
    Finding::new(place, 1, what, "write it, or correct the place in xtask/src/architecture/arrows.rs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Package;

    const GOOD: [(&str, &str); 8] = [
        (
            "crates/services/Cargo.toml",
            "[dependencies]\naxum.workspace = true\nengine = { workspace = true }\n",
        ),
        (
            "crates/services/src/gateway/mod.rs",
            "mod auth;\nuse crate::{job::Job, ports::{auth, Jobs}};\nuse super::job;",
        ),
        (
            "crates/services/src/gateway/auth.rs",
            "//! Not crate::auth.\nuse super::Token;\nuse crate::gateway::X;",
        ),
        ("crates/services/src/auth.rs", "use crate::ports::Users;"),
        ("crates/services/src/converter.rs", "use engine::convert;"),
        ("crates/services/src/notification.rs", "use crate::ports::Mailer;"),
        ("crates/services/src/job.rs", "//! There is no tokio in here.\npub struct Job;"),
        ("crates/engine/src/lib.rs", "pub fn convert() {}"),
    ];

    fn package(name: &str, depends_on: &[&str]) -> Package {
        let depends_on = depends_on.iter().map(|name| name.to_string()).collect();
        Package {
            name: name.into(),
            manifest: format!("crates/{name}/Cargo.toml"),
            depends_on,
            features: vec![],
        }
    }

    fn faults(changed: &[(&str, &str)], packages: Vec<Package>) -> Vec<String> {
        let mut tree = Tree { packages, ..Tree::default() };
        for (path, text) in GOOD.iter().chain(changed) {
            tree.texts.insert(path.to_string(), text.to_string());
        }
        findings(&tree).iter().map(Finding::to_string).collect()
    }

    fn fails(path: &str, text: &str, what: &str) {
        let faults = faults(&[(path, text)], vec![]);
        assert!(faults.len() == 1 && faults[0].starts_with(what), "{path} {text:?}: {faults:?}");
    }

    #[test]
    fn the_arrows_as_they_should_be_pass() {
        let packages = vec![package("services", &["engine"]), package("tapedeck", &["embedded", "services"])];
        assert_eq!(faults(&[], packages), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_knows_its_user_fails_with_the_line() {
        let manifest = "[package]\nname = \"engine\"\n[dependencies]\nservices.workspace = true\n";
        let faults =
            faults(&[("crates/engine/Cargo.toml", manifest)], vec![package("engine", &["services"])]);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with("crates/engine/Cargo.toml:4: engine depends on services"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_crate_without_arrows_fails() {
        assert!(faults(&[], vec![package("common", &[])])[0].contains("the crate common has no arrows"));
    }

    #[test]
    fn a_version_of_its_own_fails() {
        let place = "crates/services/Cargo.toml";
        fails(
            place,
            "[dependencies]\naxum-server.workspace = true\naxum = \"0.8\"\n",
            "crates/services/Cargo.toml:3: axum ",
        );
        fails(
            place,
            "[dev-dependencies]\naxum = { version = \"0.8\" }\n",
            "crates/services/Cargo.toml:2: axum ",
        );
        fails(place, "[build-dependencies.axum]\npath = \"x\"\n", "crates/services/Cargo.toml:1: axum ");
        fails(
            place,
            "[target.'cfg(unix)'.dependencies]\naxum = \"0.8\"\n",
            "crates/services/Cargo.toml:2: axum ",
        );
    }

    #[test]
    fn a_service_that_mentions_another_fails() {
        let converter = "crates/services/src/converter.rs";
        fails(
            converter,
            "\nuse crate::auth::Users;",
            "crates/services/src/converter.rs:2: converter mentions auth",
        );
        fails(
            converter,
            "use super::gateway;",
            "crates/services/src/converter.rs:1: converter mentions gateway",
        );
        fails(
            converter,
            "use crate::{\n    job::{A, B},\n    notification::{self, C},\n};",
            "crates/services/src/converter.rs:3: converter mentions notification",
        );
        fails(
            converter,
            "fn f() { crate::auth::g() }",
            "crates/services/src/converter.rs:1: converter mentions auth",
        );
        let deep = "crates/services/src/converter/engine/process.rs";
        fails(deep, "use super::super::super::auth;", "crates/services/src/converter/engine/process.rs:1:");
    }

    #[test]
    fn a_super_that_stays_inside_the_service_passes() {
        let deep = [("crates/services/src/converter/x.rs", "use super::auth;")];
        assert_eq!(faults(&deep, vec![]), Vec::<String>::new());
        let inline = [("crates/services/src/gateway/mod.rs", "mod auth;\nmod tests { use super::auth; }")];
        assert_eq!(faults(&inline, vec![]), Vec::<String>::new());
    }

    #[test]
    fn a_library_where_it_must_not_be_fails() {
        fails(
            "crates/services/src/job.rs",
            "\nuse tokio::time;",
            "crates/services/src/job.rs:2: it uses tokio",
        );
        fails(
            "crates/services/src/job.rs",
            "fn f(x: sqlx::Row) {}",
            "crates/services/src/job.rs:1: it uses sqlx",
        );
        fails(
            "crates/engine/src/io.rs",
            "use tokio_util::io;",
            "crates/engine/src/io.rs:1: it uses tokio_util",
        );
    }

    #[test]
    fn a_rule_about_sources_that_are_gone_fails() {
        let mut tree = Tree::default();
        for (path, text) in GOOD.iter().filter(|(path, _)| !path.contains("job.rs")) {
            tree.texts.insert(path.to_string(), text.to_string());
        }
        let found: Vec<String> = findings(&tree).iter().map(Finding::to_string).collect();
        assert!(
            found.len() == 1 && found[0].starts_with("crates/services/src/job:1: there is no Rust source"),
            "{found:?}"
        );
    }
}
