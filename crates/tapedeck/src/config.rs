//! The configuration: the default file that the binary carries, under the user's file, under the environment.
//!
//! All mistakes are reported at once, each with its place.

use crate::{
    cli::Place,
    units::{Size, Time},
};
use anyhow::Context;
use serde::{Deserialize, Serialize, Serializer};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use toml::{Table, Value};

/// The default, and the documentation of every key.
pub const EMBEDDED: &str = include_str!("../../../config/embedded.toml");

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

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize, Serialize)]
        pub struct $name {
            $(pub $field: $kind,)*
        }
    )*};
}

sections! {
    /// The whole configuration; `config/embedded.toml` says what each key means.
    Config {
        mode: Mode,
        server: Server,
        log: Log,
        backends: Backends,
        auth: Auth,
        limits: Limits,
        converter: Converter,
        retention: Retention,
        mail: Mail,
        timing: Timing,
    }
    /// `[server]`
    Server { listen: String, public_url: String, trusted_proxies: Vec<IpAddr>, grace: Time }
    /// `[log]`
    Log { level: String, format: LogFormat }
    /// `[backends]`
    Backends { jobs: String, users: String, blobs: String, wake: String, mailer: String, auth: String }
    /// `[auth]`
    Auth { jwt_secret: Secret, token_lifetime: Time, failures_per_minute: u32 }
    /// `[limits]`
    Limits { upload: Size, upload_idle: Time, duration: Time, output: Size, active_jobs: u64 }
    /// `[converter]`
    Converter { slots: usize, memory: Size, cpu: Time, stall: Time }
    /// `[retention]`
    Retention { mp3: Time, failed_video: Time, record: Time }
    /// `[mail]`
    Mail { from: String }
    /// `[timing]`
    Timing { poll: Time, beat: Time, patience: Time, retry_wait: Time, retry_wait_max: Time }
}

/// How the ports are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On one machine.
    Embedded,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A secret: it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(pub String);

impl Secret {
    /// Nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { "***" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "***" })
    }
}

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

/// The configuration in force at this place.
pub fn load(place: &Place) -> anyhow::Result<Config> {
    let path = file(place);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && place.config.is_none() => String::new(),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("the configuration {} cannot be read", path.display()));
        }
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = assemble(&text, &path.display().to_string(), &environment.collect())?;
    Ok(config)
}

fn file(place: &Place) -> PathBuf {
    place.config.clone().unwrap_or_else(|| place.data.join("config.toml"))
}

/// `tapedeck config check`
pub fn check(place: &Place) -> anyhow::Result<()> {
    load(place)?;
    let path = file(place);
    let from = if path.exists() { path.display().to_string() } else { "the defaults".into() };
    println!("The configuration is sound ({from}).");
    Ok(())
}

/// `tapedeck config show`
pub fn show(place: &Place) -> anyhow::Result<()> {
    let config = load(place)?;
    print!("{}", toml::to_string(&config).context("the configuration cannot be printed")?);
    Ok(())
}

/// Default, file and environment, one over the other.
fn assemble(text: &str, path: &str, environment: &BTreeMap<String, String>) -> Result<Config, Mistakes> {
    let default: Table = EMBEDDED.parse().expect("the embedded default is valid TOML; a test parses it");
    let mut mistakes = Vec::new();
    let mut table = default.clone();
    let mut explicit_mode = false;
    match text.parse::<Table>() {
        Ok(file) => {
            explicit_mode |= file.contains_key("mode");
            overlay(&mut table, file, "", path, &mut mistakes);
        }
        Err(error) => mistakes.push(format!("{path}: {}", error.to_string().trim_end())),
    }
    explicit_mode |= environment.contains_key("TAPEDECK_MODE");
    overlay_environment(&mut table, environment, &mut mistakes);
    if !explicit_mode && let Some(name) = ORIGINALS.iter().find(|name| environment.contains_key(**name)) {
        mistakes.push(format!(
            "{name} is set, which asks for the distributed mode; this version has only the embedded one. \
             Unset it, or set mode = \"embedded\" (TAPEDECK_MODE=embedded) to run on one machine all the same"
        ));
    }
    let config = deserialize(table, &default, &mut mistakes);
    cross_check(&config, &mut mistakes);
    if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
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
    if let (Some(secret), Some(Value::Table(auth))) = (environment.get("JWT_SECRET"), table.get_mut("auth")) {
        auth.insert("jwt_secret".into(), Value::String(secret.clone()));
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
                return EMBEDDED
                    .parse::<Table>()
                    .ok()
                    .and_then(|table| Value::Table(table).try_into().ok())
                    .expect("the default is sound; a test reads it");
            }
        }
    }
}

/// What no single key can tell.
fn cross_check(config: &Config, mistakes: &mut Vec<String>) {
    check_backends(&config.backends, mistakes);
    check_times(config, mistakes);
    check_addresses(&config.server, mistakes);
    let (limits, secret) = (&config.limits, config.auth.jwt_secret.0.len());
    let zeros = [
        ("limits.upload", limits.upload.0),
        ("limits.output", limits.output.0),
        ("limits.active_jobs", limits.active_jobs),
        ("converter.memory", config.converter.memory.0),
        ("auth.failures_per_minute", config.auth.failures_per_minute.into()),
    ];
    for (key, _) in zeros.into_iter().filter(|(_, value)| *value == 0) {
        mistakes.push(format!("`{key}`: 0 would allow nothing at all"));
    }
    if (1..32).contains(&secret) {
        mistakes.push(format!("`auth.jwt_secret`: {}", services::auth::WeakSecret(secret)));
    }
    if let Err(unfit) = services::auth::check_email(&config.mail.from) {
        mistakes.push(format!("`mail.from`: {unfit}"));
    }
    if let Err(error) = crate::telemetry::filter(&config.log.level) {
        mistakes.push(format!("`log.level`: {error}"));
    }
}

fn check_backends(backends: &Backends, mistakes: &mut Vec<String>) {
    for (key, url, known) in [
        ("jobs", &backends.jobs, "sqlite:"),
        ("users", &backends.users, "sqlite:"),
        ("blobs", &backends.blobs, "files:"),
        ("wake", &backends.wake, "local:"),
        ("mailer", &backends.mailer, "outbox:"),
    ] {
        if url != known {
            mistakes
                .push(format!("`backends.{key}`: “{url}” has no adapter in this version; write \"{known}\""));
        }
    }
    let remote = backends.auth.strip_prefix("http://").is_some_and(|host| !host.is_empty());
    if !remote && !["", "local:"].contains(&backends.auth.as_str()) {
        mistakes.push(format!(
            "`backends.auth`: “{}” is none of \"\", \"local:\", \"http://HOST:PORT\"",
            backends.auth
        ));
    }
}

fn check_times(config: &Config, mistakes: &mut Vec<String>) {
    /// Longer than anybody keeps anything, and short enough to be added to a date.
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    let (timing, retention) = (&config.timing, &config.retention);
    for (key, time) in [
        ("auth.token_lifetime", config.auth.token_lifetime),
        ("limits.upload_idle", config.limits.upload_idle),
        ("limits.duration", config.limits.duration),
        ("converter.cpu", config.converter.cpu),
        ("converter.stall", config.converter.stall),
        ("retention.mp3", retention.mp3),
        ("retention.failed_video", retention.failed_video),
        ("retention.record", retention.record),
        ("timing.poll", timing.poll),
        ("timing.beat", timing.beat),
        ("timing.retry_wait", timing.retry_wait),
        ("timing.retry_wait_max", timing.retry_wait_max),
    ] {
        if time.0.is_zero() || time.0 > CENTURY {
            mistakes
                .push(format!("`{key}`: “{time}” must be longer than nothing, and no longer than 36500d"));
        }
    }
    if timing.patience.0 < timing.beat.0 * 3 {
        mistakes.push(
            "`timing.patience` must be at least three times `timing.beat`, or the living lose their jobs"
                .into(),
        );
    }
}

fn check_addresses(server: &Server, mistakes: &mut Vec<String>) {
    let (listen, url) = (&server.listen, &server.public_url);
    if !listen.is_empty() && listen.parse::<SocketAddr>().is_err() {
        mistakes.push(format!(
            "`server.listen`: “{listen}” is no address and port; write for instance 127.0.0.1:8080"
        ));
    }
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .map(|rest| rest.split('/').next());
    if !url.is_empty() && host.flatten().is_none_or(str::is_empty) {
        mistakes.push(format!(
            "`server.public_url`: “{url}” is no web address; write for instance https://mp3converter.com"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assemble(text, "config.toml", &environment).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_default_is_sound() {
        let config = assembled("", &[]).unwrap();
        assert_eq!(config.limits.duration.in_words(), "24 hours");
        assert_eq!(config.retention.mp3.in_words(), "30 days");
    }

    #[test]
    fn the_file_is_over_the_default_and_the_environment_over_both() {
        let text = "[retention]\nmp3 = \"90d\"\n[limits]\nactive_jobs = 7\nupload = \"1GiB\"";
        let config =
            assembled(text, &[("TAPEDECK_RETENTION_MP3", "5d"), ("TAPEDECK_CONVERTER_SLOTS", "3")]).unwrap();
        assert_eq!(config.retention.mp3.to_string(), "5d");
        assert_eq!(
            (config.limits.active_jobs, config.limits.upload.0, config.converter.slots),
            (7, 1 << 30, 3)
        );
        assert_eq!(config.retention.failed_video.to_string(), "7d");
    }

    #[test]
    fn all_mistakes_are_told_at_once_each_with_its_place() {
        let text = "colour = 1\n[limits]\nupload = \"big\"\nspeed = 2\n[timing]\nbeat = \"soon\"\n[log]\nformat = \"xml\"\n[auth]\njwt_secret = \"sarcasm\"";
        let told =
            assembled(text, &[("TAPEDECK_LIMITS_ACTIVE_JOBS", "many"), ("TAPEDECK_LIMTS_UPLOAD", "1GiB")])
                .unwrap_err();
        for expected in [
            "`colour`",
            "`limits.speed`",
            "`limits.upload`",
            "`timing.beat`",
            "`log.format`",
            "`auth.jwt_secret`",
            "TAPEDECK_LIMITS_ACTIVE_JOBS",
            "TAPEDECK_LIMTS_UPLOAD",
            "8 mistakes",
        ] {
            assert!(told.contains(expected), "{expected} is missing from:\n{told}");
        }
        assert!(!told.contains("sarcasm"));
    }

    #[test]
    fn nothing_for_ever_and_nothing_at_all_are_mistakes() {
        let text = "[retention]\nmp3 = \"4000000d\"\n[limits]\nactive_jobs = 0\n[server]\npublic_url = \"http://\"\ntrusted_proxies = [\"proxy\"]";
        let told = assembled(text, &[("TAPEDECK_AUTH_TOKEN_LIFETIME", "0s")]).unwrap_err();
        for expected in [
            "retention.mp3",
            "limits.active_jobs",
            "server.public_url",
            "server.trusted_proxies",
            "auth.token_lifetime",
            "5 mistakes",
        ] {
            assert!(told.contains(expected), "{expected} is missing from:\n{told}");
        }
        let config = assembled("", &[("TAPEDECK_SERVER_TRUSTED_PROXIES", "10.0.0.1, ::1")]).unwrap();
        assert_eq!(config.server.trusted_proxies.len(), 2);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let config =
            assembled("", &[("TAPEDECK_AUTH_JWT_SECRET", "0123456789abcdef0123456789abcdef")]).unwrap();
        assert!(!toml::to_string(&config).unwrap().contains("0123456789"));
        assert!(!format!("{config:?}").contains("0123456789"));
        assert_eq!(config.auth.jwt_secret.0.len(), 32);
    }

    #[test]
    fn an_originals_environment_never_runs_embedded_by_accident() {
        let told = assembled("", &[("MYSQL_HOST", "host.minikube.internal")]).unwrap_err();
        assert!(told.contains("MYSQL_HOST") && told.contains("mode"), "{told}");
        assert!(assembled("mode = \"embedded\"", &[("MYSQL_HOST", "x")]).is_ok());
        assert!(assembled("", &[("MYSQL_HOST", "x"), ("TAPEDECK_MODE", "embedded")]).is_ok());
    }
}
