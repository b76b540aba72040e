//! The default, under the user's file, under the environment: one table of them all, and every mistake in it with its place.

use super::{Config, originals, soundness};
use std::{collections::BTreeMap, fmt};
use toml::{Table, Value};

/// The default, and the documentation of every key.
const EMBEDDED: &str = include_str!("../../../../config/embedded.toml");
/// What is otherwise in the distributed mode.
const DISTRIBUTED: &str = include_str!("../../../../config/distributed.toml");

/// The originals' environment names: any of them, without an explicit mode, means the distributed mode.
const ORIGINALS: [&str; 13] = [
    "MYSQL_HOST",
    "MYSQL_USER",
    "MYSQL_PASSWORD",
    "MYSQL_DB",
    "MYSQL_PORT",
    "JWT_SECRET",
    "AUTH_SVC_ADDRESS",
    "MONGO_URI",
    "RABBITMQ_URI",
    "VIDEO_QUEUE",
    "MP3_QUEUE",
    "GMAIL_ADDRESS",
    "GMAIL_PASSWORD",
];

/// All that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the configuration has {} mistake{}:",
            self.0.len(),
            if self.0.len() == 1 { "" } else { "s" }
        )?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

/// Default, file and environment, one over the other.
pub(super) fn assemble(
    text: &str,
    path: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Config, Mistakes> {
    let mut mistakes = Vec::new();
    let file = text.parse::<Table>().unwrap_or_else(|error| {
        // Not the line itself: it may hold a secret.
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        mistakes.push(format!("{path}, line {line}: {}", error.message()));
        Table::new()
    });
    let chosen = environment.get("TAPEDECK_MODE").map(String::as_str);
    let chosen = chosen.or_else(|| file.get("mode").and_then(Value::as_str));
    // A pod with half a configuration must never run embedded by accident.
    let originals = ORIGINALS.iter().any(|name| set(environment, name).is_some());
    let distributed = chosen.map_or(originals, |mode| mode == "distributed");
    let chosen = chosen.is_some();
    let default = default(distributed);
    let mut table = default.clone();
    overlay(&mut table, file, "", path, &mut mistakes);
    if distributed {
        if !chosen {
            table.insert("mode".into(), "distributed".into());
        }
        originals::overlay(&mut table, environment, &mut mistakes);
    }
    overlay_environment(&mut table, environment, &mut mistakes);
    let config = deserialize(table, &default, &mut mistakes);
    soundness::check(&config, &mut mistakes);
    if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
}

/// The default of this mode.
fn default(distributed: bool) -> Table {
    let parse = |text: &str| text.parse::<Table>().expect("the defaults are valid TOML; a test parses them");
    let mut default = parse(EMBEDDED);
    if distributed {
        overlay(&mut default, parse(DISTRIBUTED), "", "config/distributed.toml", &mut Vec::new());
    }
    default
}

/// What this variable is set to; set to nothing is not set.
pub(super) fn set<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Lays `file` over `table`; only keys that the default has are known.
fn overlay(table: &mut Table, file: Table, section: &str, path: &str, mistakes: &mut Vec<String>) {
    for (key, value) in file {
        let name = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value, &name, path, mistakes),
            (Some(Value::Table(_)), _) => {
                mistakes.push(format!("{path}: `{name}` is a section: write [{name}]"))
            }
            (Some(place), value) => *place = value,
            (None, _) => {
                mistakes.push(format!("{path}: `{name}` is not known; `tapedeck config show` lists all keys"))
            }
        }
    }
}

fn overlay_environment(
    table: &mut Table,
    environment: &BTreeMap<String, String>,
    mistakes: &mut Vec<String>,
) {
    let mut known = vec!["TAPEDECK_DATA".to_owned(), "TAPEDECK_CONFIG".to_owned()];
    for (section, value) in table.iter_mut() {
        match value {
            Value::Table(keys) => {
                for (key, place) in keys.iter_mut() {
                    known.push(override_one(place, &format!("{section}_{key}"), environment, mistakes));
                }
            }
            place => known.push(override_one(place, section, environment, mistakes)),
        }
    }
    for name in environment.keys().filter(|name| name.starts_with("TAPEDECK_") && !known.contains(name)) {
        // Kubernetes sets TAPEDECK_PORT and TAPEDECK_SERVICE_… for a Service of that name; test points have their own names.
        let foreign =
            ["TAPEDECK_PORT", "TAPEDECK_SERVICE_", "TAPEDECK_KILL_", "TAPEDECK_SABOTAGE", "TAPEDECK_TEST_"];
        if !foreign.iter().any(|prefix| name.starts_with(prefix)) {
            mistakes.push(format!("environment: {name} is not known; names are TAPEDECK_<SECTION>_<KEY>"));
        }
    }
}

/// Takes one key's value from the environment, read as the default's type; tells the variable's name.
fn override_one(
    place: &mut Value,
    key: &str,
    environment: &BTreeMap<String, String>,
    mistakes: &mut Vec<String>,
) -> String {
    let name = format!("TAPEDECK_{}", key.to_uppercase());
    if let Some(text) = environment.get(&name) {
        match place {
            Value::Integer(number) => match text.parse() {
                Ok(value) => *number = value,
                Err(_) => mistakes.push(format!("environment: {name}: “{text}” is no whole number")),
            },
            Value::Boolean(truth) => match text.parse() {
                Ok(value) => *truth = value,
                Err(_) => mistakes.push(format!("environment: {name}: “{text}” is neither true nor false")),
            },
            Value::Array(list) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                *list = parts.map(|part| Value::String(part.to_owned())).collect();
            }
            place => *place = Value::String(text.clone()),
        }
    }
    name
}

/// Reads the table; a value that cannot be read is noted, and its default read in its place, until all are noted.
fn deserialize(mut table: Table, default: &Table, mistakes: &mut Vec<String>) -> Config {
    loop {
        let error = match serde_path_to_error::deserialize(Value::Table(table.clone())) {
            Ok(config) => return config,
            Err(error) => error,
        };
        let path = error.path().to_string();
        // Of a list the whole is at fault: `server.trusted_proxies[0]`.
        let name = path.split('[').next().unwrap_or_default().to_owned();
        let why = error.into_inner().to_string();
        mistakes.push(format!("`{name}`: {}", why.trim_end().replace('\n', " ")));
        let (section, key) =
            name.split_once('.').map_or((None, name.as_str()), |(section, key)| (Some(section), key));
        let (place, default) = match section {
            Some(section) => (
                table.get_mut(section).and_then(Value::as_table_mut),
                default.get(section).and_then(Value::as_table),
            ),
            None => (Some(&mut table), Some(default)),
        };
        match (place, default.and_then(|default| default.get(key))) {
            (Some(place), Some(default)) => {
                place.insert(key.to_owned(), default.clone());
            }
            _ => {
                return Value::Table(self::default(false))
                    .try_into()
                    .expect("the default is sound; a test reads it");
            }
        }
    }
}
