//! `tapedeck doctor`: connects to each configured backend, and says in words what is wrong with it.

use crate::{
    cli::{Place, Role},
    config::{self, Config, Mode, Url},
    ports::{Ports, rabbit_options, smtp_url},
};
use anyhow::Result;
use distributed::QueueReport;
use engine::{Engine, Sandbox};
use services::{
    ports::{PortError, PortResult},
    transition::Ledger,
};
use std::{process::ExitCode, time::Duration};

/// A backend that has not answered by then is ill.
const PATIENCE: Duration = Duration::from_secs(20);

/// Examines all that is configured; the exit code is 1 where something is wrong.
pub fn run(place: &Place) -> ExitCode {
    crate::serve::keep_private();
    let config = match config::load(place, false) {
        Ok(config) => config,
        Err(error) => {
            complain!("tapedeck: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("tapedeck: no threads can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mode = if config.mode == Mode::Distributed { "distributed" } else { "embedded" };
    say!("The configuration is sound ({mode} mode). Its backends:");
    let ill = runtime.block_on(examine(place, &config));
    if ill == 0 {
        say!("All is well.");
        return ExitCode::SUCCESS;
    }
    say!("{ill} of them {} help.", if ill == 1 { "needs" } else { "need" });
    ExitCode::FAILURE
}

/// Examines one after the other; the number of those that are ill.
async fn examine(place: &Place, config: &Config) -> usize {
    let backends = &config.backends;
    let mut ill = 0;
    ill += tell("jobs", &backends.jobs, jobs(place, config)).await;
    ill += tell("blobs", &backends.blobs, blobs(place, config)).await;
    ill += tell("wake", &backends.wake, wake(config)).await;
    ill += tell("users", &backends.users, users(place, config)).await;
    ill += tell("mailer", &backends.mailer, mailer(config)).await;
    ill += tell("auth", &backends.auth, auth(config)).await;
    let sandbox = config.converter.sandbox;
    ill + report("converter.sandbox", &sandbox.to_string(), confined(sandbox)).await
}

async fn tell(key: &str, url: &Url, examination: impl Future<Output = Result<String>>) -> usize {
    let place = if url.0.is_empty() { "not set".to_owned() } else { url.to_string() };
    report(&format!("backends.{key:<7}"), &place, examination).await
}

async fn report(name: &str, place: &str, examination: impl Future<Output = Result<String>>) -> usize {
    let examined = tokio::time::timeout(PATIENCE, examination).await;
    let (mark, said) = match examined {
        Ok(Ok(said)) => ("ok  ", said),
        Ok(Err(error)) => ("ILL ", format!("{error:#}")),
        Err(_) => ("ILL ", format!("it has not answered within {} seconds", PATIENCE.as_secs())),
    };
    say!("  {mark} {name} {place}\n       {}", said.replace('\n', "\n       "));
    usize::from(mark == "ILL ")
}

/// Whether an engine process can confine itself on this machine, which matters where a converter runs.
async fn confined(sandbox: Sandbox) -> Result<String> {
    let engine = Engine::this_program()?.with_sandbox(sandbox);
    let checked = tokio::task::spawn_blocking(move || engine.check().and_then(|()| engine.lacking())).await?;
    let lacking = checked.map_err(|error| anyhow::anyhow!("{}", error.text))?;
    if lacking.is_empty() {
        return Ok("an engine process confines itself: limits, Landlock, seccomp".into());
    }
    let lacking: String = lacking.iter().map(|lack| format!("\n{lack}")).collect();
    Ok(format!("conversions run less confined than they could be{lacking}"))
}

/// The adapter's own words, and what the backend said.
fn words<T>(result: PortResult<T>) -> Result<T> {
    result.map_err(|PortError { what, source, .. }| anyhow::anyhow!("{what}: {source}"))
}

fn unset(url: &Url, needed_by: &str) -> Option<Result<String>> {
    url.0.is_empty().then(|| Ok(format!("not set; needed by {needed_by}")))
}

async fn opened(place: &Place, config: &Config, role: Role) -> Result<Ports> {
    Ports::open(place, config, &[role]).await
}

async fn jobs(place: &Place, config: &Config) -> Result<String> {
    let url = &config.backends.jobs;
    if let Some(said) = unset(url, "gateway, converter and notification") {
        return said;
    }
    if !url.is("sqlite") {
        words(distributed::Mongo::connect(&url.0).await?.ping().await)?;
    }
    let only = Config {
        backends: config::Backends { users: Url(String::new()), ..config.backends.clone() },
        ..config.clone()
    };
    let ports = opened(place, &only, Role::Gateway).await?;
    let Ledger { jobs, clock, .. } = &ports.records()?.ledger;
    let census = words(jobs.census(clock.now()).await)?;
    let total: u64 = census.states.values().sum();
    let oldest = census.oldest_due.map_or_else(
        || "none waits".to_owned(),
        |since| format!("the oldest has waited {} s", clock.now().duration_since(since).as_secs()),
    );
    ports.close().await;
    Ok(format!(
        "{total} job records; {oldest}; {} mails due; {} wake-ups to publish",
        census.mails_due, census.unpublished
    ))
}

async fn blobs(place: &Place, config: &Config) -> Result<String> {
    let url = &config.backends.blobs;
    if let Some(said) = unset(url, "gateway, converter and notification") {
        return said;
    }
    if url.is("files") {
        opened(place, config, Role::Gateway).await?.close().await;
        return Ok(format!("the data folder {} can be written to", place.data.display()));
    }
    let names = &config.mongodb;
    let mongo = distributed::Mongo::connect(&url.0).await?;
    words(mongo.ping().await)?;
    // What every start does, too: it tells whether both databases may be written to.
    words(distributed::GridFs::new(&mongo, &names.videos, &names.mp3s).ensure_indexes().await)?;
    Ok(format!("GridFS in the databases {} and {}", names.videos, names.mp3s))
}

async fn wake(config: &Config) -> Result<String> {
    let url = &config.backends.wake;
    if url.is("local") {
        return Ok("within the process; other processes poll".into());
    }
    if let Some(said) = unset(url, "gateway, converter and notification") {
        return said;
    }
    let report = words(distributed::probe_rabbit(&rabbit_options(config, &[])).await)?;
    let queues = report.queues.iter().map(|queue| match queue {
        QueueReport::Fine(depth) => {
            format!("{}: {} messages, {} consumers", depth.name, depth.messages, depth.consumers)
        }
        QueueReport::Otherwise(depth, why) => {
            format!(
                "{}: {} messages; made otherwise than ours and used as it is ({why})",
                depth.name, depth.messages
            )
        }
        QueueReport::Missing(name) => format!("{name}: not there yet; made when a service starts"),
    });
    let queues: Vec<String> = queues.collect();
    Ok(format!("{}, virtual host {}\n{}", report.version, report.virtual_host, queues.join("\n")))
}

async fn users(place: &Place, config: &Config) -> Result<String> {
    let url = &config.backends.users;
    if let Some(said) = unset(url, "auth") {
        return said;
    }
    if !url.is("sqlite") {
        let report = words(distributed::mysql::probe(&url.0).await)?;
        let warnings: String = report.warnings.iter().map(|warning| format!("\nmind: {warning}")).collect();
        return Ok(format!("{report}{warnings}"));
    }
    let ports = opened(place, config, Role::Auth).await?;
    let count = words(ports.users()?.list().await)?.len();
    ports.close().await;
    Ok(format!("{count} users"))
}

async fn mailer(config: &Config) -> Result<String> {
    let url = &config.backends.mailer;
    if let Some(said) = unset(url, "notification") {
        return said;
    }
    match url {
        url if url.is("outbox") => Ok("mails are put into the outbox folder".into()),
        url if url.is("log") => Ok("mails are only logged".into()),
        _ => Ok(words(distributed::smtp::probe(&smtp_url(config)).await)?.to_string()),
    }
}

async fn auth(config: &Config) -> Result<String> {
    let url = match (config.backends.auth.0.as_str(), config.mode) {
        ("" | "local:", Mode::Embedded) => return Ok("a call within the process".into()),
        ("local:", Mode::Distributed) => return Ok("a call within the process".into()),
        ("", Mode::Distributed) => "http://auth:5000",
        (url, _) => url,
    };
    // Without credentials, an auth service of ours and an original one both answer 401.
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
    let answer = client.post(format!("{url}/login")).send().await;
    match answer {
        Ok(answer) if answer.status() == reqwest::StatusCode::UNAUTHORIZED => Ok(format!("{url} answers")),
        Ok(answer) => {
            anyhow::bail!("{url} answers {} where an auth service says 401: is this one?", answer.status())
        }
        Err(error) => anyhow::bail!(
            "nothing answers at {url} ({error}); is the auth service running, and is its name right?"
        ),
    }
}
