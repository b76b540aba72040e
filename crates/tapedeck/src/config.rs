//! The configuration: the default file that the binary carries, under the user's file, under the environment.
//!
//! All mistakes are reported at once, each with its place.

mod layers;
mod masked;
mod originals;
mod soundness;

use crate::{
    cli::Place,
    units::{Size, Time},
};
use anyhow::Context;
use layers::assemble;
pub use masked::{Secret, Url};
use serde::{Deserialize, Serialize};
use services::{gateway::LegacyDownloads, job::Neighbour};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
};

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
    say!("The configuration is sound ({from}).");
    Ok(())
}

/// `tapedeck config show`
pub fn show(place: &Place) -> anyhow::Result<()> {
    let config = load(place, false)?;
    let shown = toml::to_string(&config).context("the configuration cannot be printed")?;
    match io::stdout().write_all(shown.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
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
