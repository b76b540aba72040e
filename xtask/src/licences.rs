//! The licence check: every package that we link against deny.toml, which cargo-deny reads as well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use spdx::{Expression, Licensee, ParseMode};
use toml::Table;

/// What we release for; packages of other systems alone are not in it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Every package that a build for our target compiles, against deny.toml.
pub fn check() -> Result<()> {
    let path = crate::root().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} could not be read", path.display()))?;
    let policy = Policy::read(&text).context("deny.toml is not understood")?;
    let metadata = crate::metadata(&["--locked", "--all-features", "--filter-platform", TARGET])?;
    let faults = policy.faults(&Packages::read(&metadata, &built()?)?);
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{}", faults.join("\n"))
}

/// Name and version of each package that a build for our target compiles. `cargo metadata` lists more: what some crate would
/// take in with a feature that nobody turns on (`dep?/feature`).
fn built() -> Result<BTreeSet<(String, String)>> {
    let mut tree = crate::cargo();
    tree.args(["tree", "--workspace", "--all-features", "--locked", "--target", TARGET]);
    tree.args(["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"]);
    let output = tree.output().context("cargo tree could not be started; is cargo on the PATH?")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(name_and_version).collect())
}

/// From `serde v1.0.228 (proc-macro) (*)`.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some((name.into(), version.into()))
}

/// deny.toml, as far as we read it.
struct Policy {
    allowed: Vec<Licensee>,
    exceptions: BTreeMap<String, Vec<Licensee>>,
    banned: BTreeMap<String, String>,
    registries: Vec<String>,
}

impl Policy {
    fn read(text: &str) -> Result<Policy> {
        let file: Table = text.parse()?;
        let list = |table: &str, key: &str| -> Result<Vec<toml::Value>> {
            let list = file.get(table).and_then(|table| table.get(key)).and_then(toml::Value::as_array);
            list.cloned().with_context(|| format!("{table}.{key} must be a list"))
        };
        let mut exceptions = BTreeMap::new();
        for exception in list("licenses", "exceptions")? {
            let allow = exception
                .get("allow")
                .and_then(toml::Value::as_array)
                .context("an exception has no allow")?;
            exceptions.insert(named_crate(&exception)?, licensees(allow)?);
        }
        let mut banned = BTreeMap::new();
        for ban in list("bans", "deny")? {
            let reason = ban.get("reason").and_then(toml::Value::as_str).context("a ban has no reason")?;
            banned.insert(named_crate(&ban)?, reason.to_string());
        }
        let registries = list("sources", "allow-registry")?;
        let registries = registries.iter().filter_map(toml::Value::as_str).map(str::to_string).collect();
        Ok(Policy { allowed: licensees(&list("licenses", "allow")?)?, exceptions, banned, registries })
    }

    fn faults(&self, packages: &Packages) -> Vec<String> {
        let mut faults = Vec::new();
        for package in &packages.all {
            let here = || format!("{} {} ({})", package.name, package.version, packages.way_to(package));
            if let Some(reason) = self.banned.get(&package.name) {
                faults.push(format!(
                    "{}: banned, because {reason}. Turn off the feature that brings it in, or choose another crate",
                    here()
                ));
            }
            if let Some(fault) = self.licence_fault(package) {
                faults.push(format!("{}: {fault}", here()));
            }
            if let Some(source) = package.source.as_ref().filter(|source| !self.is_known(source)) {
                faults.push(format!(
                    "{}: comes from {source}, which is not in sources.allow-registry; take it from crates.io",
                    here()
                ));
            }
        }
        faults
    }

    fn licence_fault(&self, package: &Package) -> Option<String> {
        let Some(licence) = &package.licence else {
            return Some("names no licence; read its files, and choose another crate when in doubt".into());
        };
        let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => {
                return Some(format!("its licence `{licence}` is no SPDX expression: {}", error.reason));
            }
        };
        let own = self.exceptions.get(&package.name).map_or(&[][..], Vec::as_slice);
        let accept =
            |wanted: &spdx::LicenseReq| self.allowed.iter().chain(own).any(|ours| ours.satisfies(wanted));
        let missing = expression.evaluate_with_failures(accept).err()?;
        let missing: BTreeSet<String> = missing.iter().map(|wanted| wanted.req.to_string()).collect();
        Some(format!(
            "its licence is `{licence}`, and deny.toml does not allow {}. Choose another crate; or, when the licence's terms \
             can be kept in a release, add it to licenses.allow, or for this crate alone to licenses.exceptions, with the reason",
            missing.into_iter().collect::<Vec<_>>().join(", ")
        ))
    }

    fn is_known(&self, source: &str) -> bool {
        let address = source.split_once('+').map_or(source, |(_, address)| address);
        self.registries.iter().any(|known| known == address)
    }
}

fn named_crate(entry: &toml::Value) -> Result<String> {
    let name = entry.get("crate").and_then(toml::Value::as_str);
    Ok(name.with_context(|| format!("`{entry}` names no crate"))?.to_string())
}

fn licensees(names: &[toml::Value]) -> Result<Vec<Licensee>> {
    let parse = |name: &toml::Value| {
        let name = name.as_str().with_context(|| format!("{name} is not a text"))?;
        Licensee::parse(name)
            .map_err(|error| anyhow::anyhow!("`{name}` is no SPDX licence: {}", error.reason))
    };
    names.iter().map(parse).collect()
}

struct Package {
    id: String,
    name: String,
    version: String,
    licence: Option<String>,
    source: Option<String>,
}

/// The packages that are built for our target, and who asks for whom.
struct Packages {
    all: Vec<Package>,
    asked_by: BTreeMap<String, Vec<String>>,
}

impl Packages {
    fn read(metadata: &Json, built: &BTreeSet<(String, String)>) -> Result<Packages> {
        let text = |value: &Json| value.as_str().map(str::to_string);
        let mut asked_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().context("cargo metadata resolved nothing")? {
            let asking = text(&node["id"]).context("a package without an id")?;
            asked_by.entry(asking.clone()).or_default();
            for asked in node["dependencies"].as_array().into_iter().flatten().filter_map(text) {
                asked_by.entry(asked).or_default().push(asking.clone());
            }
        }
        let mut all = Vec::new();
        for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
            let id = text(&package["id"]).context("a package without an id")?;
            let name = text(&package["name"]).context("a package without a name")?;
            let version = text(&package["version"]).unwrap_or_default();
            if asked_by.contains_key(&id) && built.contains(&(name.clone(), version.clone())) {
                all.push(Package {
                    id,
                    name,
                    version,
                    licence: text(&package["license"]),
                    source: text(&package["source"]),
                });
            }
        }
        Ok(Packages { all, asked_by })
    }

    /// The shortest way from one of our own crates: `by services <- lettre`, or `our own`.
    fn way_to(&self, package: &Package) -> String {
        let mut ways = VecDeque::from([vec![package.id.as_str()]]);
        let mut seen = vec![package.id.as_str()];
        while let Some(way) = ways.pop_front() {
            let last = way[way.len() - 1];
            let found = self.all.iter().find(|package| package.id == last);
            if found.is_some_and(|package| package.source.is_none()) {
                return if way.len() == 1 {
                    "our own".into()
                } else {
                    format!("by {}", self.names(&way[1..]))
                };
            }
            for asking in self.asked_by.get(last).into_iter().flatten() {
                if !seen.contains(&asking.as_str()) {
                    seen.push(asking);
                    ways.push_back(way.iter().copied().chain([asking.as_str()]).collect());
                }
            }
        }
        "by no crate of ours".into()
    }

    fn names(&self, way: &[&str]) -> String {
        let name = |id: &&str| {
            self.all.iter().find(|package| package.id == **id).map(|package| package.name.as_str())
        };
        way.iter().rev().filter_map(name).collect::<Vec<_>>().join(" <- ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0"]
        exceptions = [{ crate = "special", allow = ["ISC"] }]
        [bans]
        deny = [{ crate = "ring", reason = "there is one crypto provider" }]
        [sources]
        allow-registry = ["https://github.com/rust-lang/crates.io-index"]
    "#;

    fn faults(name: &str, licence: Option<&str>, source: &str) -> Vec<String> {
        let metadata = serde_json::json!({
            "packages": [
                { "id": "a", "name": "services", "version": "0.1.0", "license": "Apache-2.0", "source": null },
                { "id": "b", "name": name, "version": "1.2.3", "license": licence, "source": source },
                { "id": "c", "name": "ring", "version": "1.0.0", "license": "GPL-3.0", "source": source },
            ],
            "resolve": { "nodes": [{ "id": "a", "dependencies": ["b"] }, { "id": "b", "dependencies": [] }] },
        });
        let built =
            [("services", "0.1.0"), (name, "1.2.3")].map(|(name, version)| (name.into(), version.into()));
        Policy::read(POLICY).unwrap().faults(&Packages::read(&metadata, &built.into()).unwrap())
    }

    #[test]
    fn what_is_built_is_read_from_cargos_tree() {
        let read = |line| name_and_version(line).map(|(name, version)| format!("{name} {version}"));
        assert_eq!(read("serde_derive v1.0.228 (proc-macro) (*)").as_deref(), Some("serde_derive 1.0.228"));
        assert_eq!(read("xtask v0.1.0 (/home/me/xtask)").as_deref(), Some("xtask 0.1.0"));
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_package_that_only_an_unused_feature_takes_in_is_not_judged() {
        let packages = |built: &[(&str, &str)]| {
            let built = built.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect();
            let metadata = serde_json::json!({
                "packages": [{ "id": "c", "name": "ring", "version": "1.0.0", "license": "MIT", "source": CRATES_IO }],
                "resolve": { "nodes": [{ "id": "c", "dependencies": [] }] },
            });
            Policy::read(POLICY).unwrap().faults(&Packages::read(&metadata, &built).unwrap())
        };
        assert_eq!(packages(&[("ring", "1.0.0")]).len(), 1);
        assert_eq!(packages(&[]).len(), 0);
    }

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    #[test]
    fn a_choice_with_one_allowed_licence_passes_also_in_the_old_spelling() {
        assert!(faults("fine", Some("GPL-3.0-only OR MIT"), CRATES_IO).is_empty());
        assert!(faults("fine", Some("MIT/Apache-2.0"), CRATES_IO).is_empty());
        assert!(faults("fine", Some("Apache-2.0 WITH LLVM-exception OR MIT"), CRATES_IO).is_empty());
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_a_fault_that_names_package_licence_and_way() {
        let faults = faults("copyleft", Some("MIT AND GPL-3.0-only"), CRATES_IO);
        assert_eq!(faults.len(), 1, "{faults:?}");
        for part in ["copyleft 1.2.3 (by services)", "`MIT AND GPL-3.0-only`", "does not allow GPL-3.0-only"]
        {
            assert!(faults[0].contains(part), "{part} in {}", faults[0]);
        }
    }

    #[test]
    fn an_exception_counts_for_its_crate_alone() {
        assert!(faults("special", Some("ISC"), CRATES_IO).is_empty());
        assert_eq!(faults("other", Some("ISC"), CRATES_IO).len(), 1);
    }

    #[test]
    fn a_missing_or_unreadable_licence_is_a_fault() {
        assert!(faults("bare", None, CRATES_IO)[0].contains("names no licence"));
        assert!(faults("odd", Some("do what you like"), CRATES_IO)[0].contains("no SPDX expression"));
    }

    #[test]
    fn a_banned_crate_is_a_fault_only_where_it_is_built() {
        let faults = faults("ring", Some("MIT"), CRATES_IO);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("ring 1.2.3") && faults[0].contains("there is one crypto provider"));
    }

    #[test]
    fn another_source_is_a_fault() {
        let faults = faults("forked", Some("MIT"), "git+https://example.org/forked");
        assert!(faults[0].contains("sources.allow-registry"), "{faults:?}");
    }

    #[test]
    fn a_policy_with_a_misspelt_licence_or_without_a_list_is_refused() {
        assert!(Policy::read(&POLICY.replace("\"MIT\"", "\"MITT\"")).is_err());
        assert!(Policy::read("[licenses]\nallow = []").is_err());
    }
}
