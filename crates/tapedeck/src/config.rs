//! The configuration: the default file that the binary carries, under the user's file, under the environment.
//!
//! All mistakes are reported at once, each with its place.

mod originals;

use crate::{
    cli::Place,
    units::{Size, Time},
};
use anyhow::Context;
use serde::{Deserialize, Serialize, Serializer};
use services::{gateway::LegacyDownloads, job::Neighbour};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use toml::{Table, Value};

/// The default, and the documentation of every key.
const EMBEDDED: &str = include_str!("../../../config/embedded.toml");
/// What is otherwise in the distributed mode.
const DISTRIBUTED: &str = include_str!("../../../config/distributed.toml");

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
        metrics: Metrics,
        traces: Traces,
        backends: Backends,
        auth: Auth,
        limits: Limits,
        converter: Converter,
        retention: Retention,
        mail: Mail,
        mongodb: MongoDb,
        queues: Queues,
        neighbours: Neighbours,
        timing: Timing,
    }
    /// `[server]`
    Server { listen: String, public_url: String, trusted_proxies: Vec<IpAddr>, drain: Time, grace: Time }
    /// `[log]`
    Log { level: String, format: LogFormat }
    /// `[metrics]`
    Metrics { listen: String }
    /// `[traces]`
    Traces { otlp: String }
    /// `[backends]`
    Backends { jobs: Url, users: Url, blobs: Url, wake: Url, mailer: Url, auth: Url }
    /// `[auth]`
    Auth { jwt_secret: Secret, token_lifetime: Time, failures_per_minute: u32, rehash: bool, allow_weak_secret: bool }
    /// `[limits]`
    Limits { upload: Size, upload_idle: Time, duration: Time, output: Size, active_jobs: u64 }
    /// `[converter]`
    Converter { slots: usize, threads: usize, memory: Size, cpu: Time, stall: Time, sandbox: engine::Sandbox }
    /// `[retention]`
    Retention { mp3: Time, failed_video: Time, record: Time }
    /// `[mail]`
    Mail { from: String, ca_file: String }
    /// `[mongodb]`
    MongoDb { jobs: String, videos: String, mp3s: String }
    /// `[queues]`
    Queues { video: String, mp3: String }
    /// `[neighbours]`
    Neighbours { converter: Neighbour, notification: Neighbour, handover_timeout: Time, legacy_downloads: LegacyDownloads }
    /// `[timing]`
    Timing { poll: Time, beat: Time, patience: Time, retry_wait: Time, retry_wait_max: Time }
}

/// How the ports are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On one machine.
    Embedded,
    /// On a cluster.
    Distributed,
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

/// A backend's URL: the password in it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Url(pub String);

impl Url {
    /// Has it this scheme?
    pub fn is(&self, scheme: &str) -> bool {
        self.0.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':'))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Up to the last @, wherever it stands: a password may hold what should have been percent-encoded.
        let masked = self.0.split_once("://").and_then(|(scheme, rest)| {
            let (user, behind) = rest.rsplit_once('@')?;
            let name = user.split(':').next().unwrap_or_default();
            Some(format!("{scheme}://{name}:***@{behind}"))
        });
        f.write_str(masked.as_deref().unwrap_or(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
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
pub fn load(place: &Place, allow_weak_secret: bool) -> anyhow::Result<Config> {
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
    let mut environment: BTreeMap<String, String> = environment.collect();
    if allow_weak_secret {
        environment.insert("TAPEDECK_AUTH_ALLOW_WEAK_SECRET".into(), "true".into());
    }
    let config = assemble(&text, &path.display().to_string(), &environment)?;
    Ok(config)
}

fn file(place: &Place) -> PathBuf {
    place.config.clone().unwrap_or_else(|| place.data.join("config.toml"))
}

/// `tapedeck config check`
pub fn check(place: &Place) -> anyhow::Result<()> {
    load(place, false)?;
    let path = file(place);
    let from = if path.exists() { path.display().to_string() } else { "the defaults".into() };
    println!("The configuration is sound ({from}).");
    Ok(())
}

/// `tapedeck config show`
pub fn show(place: &Place) -> anyhow::Result<()> {
    let config = load(place, false)?;
    print!("{}", toml::to_string(&config).context("the configuration cannot be printed")?);
    Ok(())
}

/// Default, file and environment, one over the other.
fn assemble(text: &str, path: &str, environment: &BTreeMap<String, String>) -> Result<Config, Mistakes> {
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
    cross_check(&config, &mut mistakes);
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
fn set<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
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

/// What no single key can tell.
fn cross_check(config: &Config, mistakes: &mut Vec<String>) {
    check_backends(&config.backends, mistakes);
    check_names(config, mistakes);
    check_times(config, mistakes);
    check_addresses(&config.server, &config.metrics.listen, mistakes);
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
    if (1..32).contains(&secret) && !config.auth.allow_weak_secret {
        mistakes.push(format!(
            "`auth.jwt_secret`: {}; or, for as long as an original service shares this one, allow it: \
             TAPEDECK_AUTH_ALLOW_WEAK_SECRET=true, or serve --allow-weak-secret",
            services::auth::WeakSecret(secret)
        ));
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
        ("jobs", &backends.jobs, &["sqlite:", "mongodb://", "mongodb+srv://"][..]),
        ("users", &backends.users, &["sqlite:", "mysql://", "mariadb://"]),
        ("blobs", &backends.blobs, &["files:", "mongodb://", "mongodb+srv://"]),
        ("wake", &backends.wake, &["local:", "amqp://", "amqps://"]),
        ("mailer", &backends.mailer, &["outbox:", "log:", "smtp://", "smtp+starttls://", "smtps://"]),
        ("auth", &backends.auth, &["local:", "http://"]),
    ] {
        let fits = |known: &&str| match known.strip_suffix("//") {
            Some(_) => url.0.strip_prefix(known).is_some_and(|host| !host.is_empty()),
            None => url.0 == **known,
        };
        // Empty is not set: what the roles need is known when they are.
        if !url.0.is_empty() && !known.iter().any(fits) {
            mistakes
                .push(format!("`backends.{key}`: “{url}” has no adapter; there are {}", known.join(", ")));
        }
    }
}

/// Names that go into databases and the broker as they are.
fn check_names(config: &Config, mistakes: &mut Vec<String>) {
    let (mongodb, queues) = (&config.mongodb, &config.queues);
    for (key, name) in [
        ("mongodb.jobs", &mongodb.jobs),
        ("mongodb.videos", &mongodb.videos),
        ("mongodb.mp3s", &mongodb.mp3s),
        ("queues.video", &queues.video),
        ("queues.mp3", &queues.mp3),
    ] {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let dotted = key.starts_with("mongodb") && name.contains('.');
        if name.is_empty() || name.len() > 60 || !name.chars().all(plain) || dotted {
            mistakes.push(format!("`{key}`: “{name}” is no name: letters, digits, - and _, at most 60"));
        }
    }
    if mongodb.videos == mongodb.mp3s {
        mistakes.push(
            "`mongodb.videos` and `mongodb.mp3s` must be two databases: their buckets have one name".into(),
        );
    }
    let (neighbours, wake) = (&config.neighbours, &config.backends.wake);
    let alone = neighbours.converter == Neighbour::Ours && neighbours.notification == Neighbour::Ours;
    if !alone && wake.is("local") {
        mistakes.push(
            "`neighbours`: original services take from queues in RabbitMQ; set `backends.wake` to it, or both to \"ours\"".into(),
        );
    }
    if queues.video == queues.mp3 {
        mistakes.push("`queues.video` and `queues.mp3` must be two queues".into());
    }
    let otlp = &config.traces.otlp;
    if !otlp.is_empty() && !otlp.starts_with("http://") {
        mistakes.push(format!(
            "`traces.otlp`: “{otlp}” is no collector's address; write for instance http://collector:4318"
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
        ("neighbours.handover_timeout", config.neighbours.handover_timeout),
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

fn check_addresses(server: &Server, metrics_listen: &String, mistakes: &mut Vec<String>) {
    let url = &server.public_url;
    for (key, listen, example) in [
        ("server.listen", &server.listen, "127.0.0.1:8080"),
        ("metrics.listen", metrics_listen, "127.0.0.1:9464"),
    ] {
        if !listen.is_empty() && listen.parse::<SocketAddr>().is_err() {
            mistakes
                .push(format!("`{key}`: “{listen}” is no address and port; write for instance {example}"));
        }
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
        let mode = |text, environment: &[_]| assembled(text, environment).unwrap().mode;
        assert_eq!(mode("", &[("MYSQL_HOST", "host.minikube.internal")]), Mode::Distributed);
        assert_eq!(mode("", &[("MYSQL_HOST", "")]), Mode::Embedded);
        assert_eq!(mode("mode = \"embedded\"", &[("MYSQL_HOST", "x")]), Mode::Embedded);
        assert_eq!(mode("", &[("MYSQL_HOST", "x"), ("TAPEDECK_MODE", "embedded")]), Mode::Embedded);
        assert_eq!(mode("", &[("TAPEDECK_MODE", "distributed")]), Mode::Distributed);
    }

    #[test]
    fn the_originals_names_are_understood() {
        let config = assembled(
            "",
            &[
                ("MYSQL_HOST", "host.minikube.internal"),
                ("MYSQL_USER", "auth_user"),
                ("MYSQL_PASSWORD", "Auth@123:/"),
                ("MONGO_URI", "mongodb://host.minikube.internal:27017/videos"),
                ("RABBITMQ_URI", "amqp://guest:guest@rabbitmq:5672/"),
                ("AUTH_SVC_ADDRESS", "auth:5000"),
                ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
                ("VIDEO_QUEUE", "videos"),
                ("GMAIL_ADDRESS", "tapedeck@gmail.com"),
                ("GMAIL_PASSWORD", "app pass"),
            ],
        )
        .unwrap();
        let backends = &config.backends;
        assert_eq!(backends.users.0, "mysql://auth_user:Auth%40123%3A%2F@host.minikube.internal:3306/auth");
        assert_eq!(backends.jobs.0, "mongodb://host.minikube.internal:27017/videos");
        assert_eq!(backends.blobs, backends.jobs);
        assert_eq!(backends.wake.0, "amqp://guest:guest@rabbitmq:5672/");
        assert_eq!(backends.auth.0, "http://auth:5000");
        assert_eq!(backends.mailer.0, "smtp+starttls://tapedeck%40gmail.com:app%20pass@smtp.gmail.com:587");
        assert_eq!(
            (config.mail.from.as_str(), config.queues.video.as_str()),
            ("tapedeck@gmail.com", "videos")
        );
        assert_eq!(config.auth.jwt_secret.0.len(), 32);
        let shown = toml::to_string(&config).unwrap();
        assert!(
            !shown.contains("Auth%40") && !shown.contains("app%20") && !shown.contains("guest:guest"),
            "{shown}"
        );
        let unencoded = Url("mongodb://u:pa/s?s@host:27017".into());
        assert_eq!(unencoded.to_string(), "mongodb://u:***@host:27017");
        let told = assembled("[auth]\njwt_secret = \"sesame", &[]).unwrap_err();
        assert!(told.contains("line 2") && !told.contains("sesame"), "{told}");
        let told = assembled("[neighbours]\nconverter = \"mixed\"", &[]).unwrap_err();
        assert!(told.contains("RabbitMQ"), "{told}");
        assert!(shown.contains("mysql://auth_user:***@host.minikube.internal:3306/auth"), "{shown}");
    }

    #[test]
    fn our_names_win_over_the_originals_and_a_kubernetes_link_is_no_port() {
        let config = assembled(
            "",
            &[
                ("MYSQL_HOST", "mysql"),
                ("MYSQL_PORT", "tcp://10.96.0.12:3307"),
                ("MONGO_URI", "mongodb://a"),
                ("TAPEDECK_BACKENDS_BLOBS", "mongodb://b"),
            ],
        )
        .unwrap();
        assert_eq!(config.backends.users.0, "mysql://mysql:3307/auth");
        assert_eq!(
            (config.backends.jobs.0.as_str(), config.backends.blobs.0.as_str()),
            ("mongodb://a", "mongodb://b")
        );
    }

    #[test]
    fn a_weak_secret_has_to_be_allowed() {
        let weak = [("JWT_SECRET", "sarcasm")];
        let told = assembled("", &weak).unwrap_err();
        assert!(told.contains("7 bytes") && told.contains("--allow-weak-secret"), "{told}");
        assert!(assembled("[auth]\nallow_weak_secret = true", &weak).is_ok());
    }
}
