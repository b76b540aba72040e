//! What no single key of the configuration can tell: names, times, addresses and backends that fit each other.

use super::{Backends, Config, Server};
use services::job::Neighbour;
use std::{net::SocketAddr, time::Duration};

/// What no single key can tell.
pub(super) fn check(config: &Config, mistakes: &mut Vec<String>) {
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
