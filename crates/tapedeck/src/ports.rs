//! Wiring: from the configuration to the ports that the services ask for. The scheme of each URL picks the adapter.

use crate::{
    cli::{Place, Role},
    config::{Config, Mode, Url},
};
use anyhow::{Context, Result, bail};
use distributed::{
    GridFs, Mongo, MongoJobs, RabbitOptions, RabbitWake,
    mysql::MySqlUsers,
    smtp::{LogMailer, SmtpMailer},
};
use embedded::{DataFolder, FileBlobs, LocalWake, Outbox, SqliteJobs, SqliteUsers, Store};
use services::{
    auth::TokenKey,
    clock::{Clock, SystemClock},
    job::{Neighbours, Policy},
    ports::{Blobs, Jobs, Mailer, PortResult, Users, Wake},
    transition::Ledger,
};
use std::{sync::Arc, time::Duration};

/// What is on this machine's disk, where a backend is.
pub struct Local {
    /// The data folder.
    pub folder: DataFolder,
    /// The database, to be closed at the end.
    pub store: Store,
}

/// What gateway, converter and notification work on.
#[derive(Clone)]
pub struct Records {
    /// The job records.
    pub ledger: Ledger,
    /// The files.
    pub blobs: Arc<dyn Blobs>,
    /// The wake-ups.
    pub wake: Arc<dyn Wake>,
    /// The broker itself, where there is one.
    pub broker: Option<Arc<RabbitWake>>,
}

/// All ports that a process has: those that its roles need are there, or it does not start.
pub struct Ports {
    /// This machine's disk, where a backend is on it.
    pub local: Option<Local>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    records: Option<Records>,
    users: Option<Arc<dyn Users>>,
    mailer: Option<Arc<dyn Mailer>>,
}

/// A backend, its URL, and the names by which it is set.
type Need<'a> = (&'static str, &'a Url, &'static str);

impl Ports {
    /// Opens what these roles need, and all else that is configured. Nothing distant has to answer for that.
    pub async fn open(place: &Place, config: &Config, roles: &[Role]) -> Result<Ports> {
        let backends = &config.backends;
        let records: [Need<'_>; 3] = [
            ("jobs", &backends.jobs, "MONGO_URI"),
            ("blobs", &backends.blobs, "MONGO_URI"),
            ("wake", &backends.wake, "RABBITMQ_URI"),
        ];
        check_needs(config, roles, &records)?;
        let all = [&backends.jobs, &backends.users, &backends.blobs, &backends.wake, &backends.mailer];
        let on_disk = |url: &&Url| url.is("sqlite") || url.is("files") || url.is("outbox");
        let local = match all.iter().any(on_disk) {
            true => Some(Local::open(place).await?),
            false => None,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let recorded = records.iter().all(|(_, url, _)| !url.0.is_empty());
        let records = match recorded {
            true => Some(open_records(config, local.as_ref(), Arc::clone(&clock), roles).await?),
            false => None,
        };
        Ok(Ports {
            records,
            users: users(config, local.as_ref())?,
            mailer: mailer(config, local.as_ref())?,
            clock,
            local,
        })
    }

    /// Records, files and wake-ups.
    pub fn records(&self) -> Result<&Records> {
        self.records.as_ref().context("backends.jobs, backends.blobs and backends.wake are not all set")
    }

    /// Records, files and wake-ups, if this process has them.
    pub fn records_if_any(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    /// The users.
    pub fn users(&self) -> Result<&Arc<dyn Users>> {
        self.users.as_ref().context("backends.users is not set")
    }

    /// The mails.
    pub fn mailer(&self) -> Result<&Arc<dyn Mailer>> {
        self.mailer.as_ref().context("backends.mailer is not set")
    }

    /// The key that signs tokens: configured, or the data folder's own.
    pub fn token_key(&self, config: &Config) -> Result<TokenKey> {
        let lifetime = config.auth.token_lifetime.signed();
        let secret = match (config.auth.jwt_secret.0.as_str(), &self.local) {
            ("", Some(local)) => {
                local.folder.jwt_secret().context("the secret that signs tokens cannot be made or read")?
            }
            ("", None) => bail!(
                "auth.jwt_secret is not set: every auth process signs with one secret of at least 32 bytes. \
                 Make one with `openssl rand -hex 32` and set JWT_SECRET (or TAPEDECK_AUTH_JWT_SECRET)"
            ),
            (configured, _) => configured.to_owned(),
        };
        if config.auth.allow_weak_secret {
            return Ok(TokenKey::weak(secret.as_bytes(), lifetime));
        }
        Ok(TokenKey::new(secret.as_bytes(), lifetime)?)
    }

    /// Closes what would lose something if it were only dropped.
    pub async fn close(&self) {
        if let Some(broker) = self.records.as_ref().and_then(|records| records.broker.as_ref()) {
            broker.close().await;
        }
        if let Some(local) = &self.local {
            local.store.close().await;
        }
    }
}

impl Local {
    async fn open(place: &Place) -> Result<Local> {
        let folder = DataFolder::open(&place.data)
            .context("the data folder cannot be used; choose another with --data DIR")?;
        let database = folder.database();
        let store = Store::open(&database)
            .await
            .with_context(|| format!("the database {} cannot be used", database.display()))?;
        Ok(Local { folder, store })
    }
}

/// Names every backend that these roles lack.
fn check_needs(config: &Config, roles: &[Role], records: &[Need<'_>]) -> Result<()> {
    let mut needs: Vec<Need<'_>> = Vec::new();
    if roles.iter().any(|role| *role != Role::Auth) {
        needs.extend(records);
    }
    if roles.contains(&Role::Auth) {
        needs.push(("users", &config.backends.users, "MYSQL_HOST, MYSQL_USER, MYSQL_PASSWORD"));
    }
    if roles.contains(&Role::Notification) {
        needs.push(("mailer", &config.backends.mailer, "GMAIL_ADDRESS and GMAIL_PASSWORD"));
    }
    let lacking: Vec<String> = needs
        .iter()
        .filter(|(_, url, _)| url.0.is_empty())
        .map(|(key, _, names)| {
            format!("\n  `backends.{key}`: set {names}, or TAPEDECK_BACKENDS_{}", key.to_uppercase())
        })
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
    let hint = if config.mode == Mode::Distributed {
        "\nThis is the distributed mode (an original service's environment name, or mode = \"distributed\", asks for it); \
         config/distributed.toml says what each means. On one machine alone: TAPEDECK_MODE=embedded"
    } else {
        ""
    };
    bail!("{} cannot run without:{}{hint}", names.join(", "), lacking.concat());
}

async fn open_records(
    config: &Config,
    local: Option<&Local>,
    clock: Arc<dyn Clock>,
    roles: &[Role],
) -> Result<Records> {
    let backends = &config.backends;
    let jobs: Arc<dyn Jobs> = match disk(&backends.jobs, "sqlite", local) {
        Some(local) => Arc::new(SqliteJobs::new(local.store.clone())),
        None => {
            let jobs = MongoJobs::new(&mongo(&backends.jobs, "jobs").await?, &config.mongodb.jobs);
            let ready = jobs.clone();
            prepare("the job records' indexes", move || {
                let ready = ready.clone();
                async move { ready.ensure_indexes().await }
            });
            Arc::new(jobs)
        }
    };
    let blobs: Arc<dyn Blobs> = match disk(&backends.blobs, "files", local) {
        Some(local) => Arc::new(FileBlobs::new(local.folder.clone())),
        None => {
            let names = &config.mongodb;
            let files = GridFs::new(&mongo(&backends.blobs, "blobs").await?, &names.videos, &names.mp3s);
            let ready = files.clone();
            prepare("the files' indexes", move || {
                let ready = ready.clone();
                async move { ready.ensure_indexes().await }
            });
            if roles.contains(&Role::Converter) {
                tokio::spawn(collect_orphans(files.clone(), Arc::clone(&clock)));
            }
            Arc::new(files)
        }
    };
    let (wake, broker): (Arc<dyn Wake>, _) = if backends.wake.is("local") {
        (Arc::new(LocalWake::default()), None)
    } else {
        let broker = Arc::new(rabbit(config, roles)?);
        (Arc::clone(&broker) as Arc<dyn Wake>, Some(broker))
    };
    let ledger = Ledger {
        jobs,
        clock,
        policy: Arc::new(policy(config)),
        worker: Ledger::worker_name(),
        to_publish: Arc::default(),
    };
    Ok(Records { ledger, blobs, wake, broker })
}

/// Does what a server needs once, as soon as it can be reached.
fn prepare<F>(what: &'static str, make: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = PortResult<()>> + Send,
{
    tokio::spawn(async move {
        while let Err(error) = make().await {
            tracing::warn!(error = %error.source, "{what} could not be made yet; trying again");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
}

/// Deletes what killed processes left in GridFS: chunks of no file, a day old.
async fn collect_orphans(files: GridFs, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(Duration::from_hours(1)).await;
        let yesterday = clock.now() - jiff::SignedDuration::from_hours(24);
        match files.collect_orphans(yesterday).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "files that no process finished are deleted"),
            Err(error) => tracing::warn!(error = %error.source, "orphan chunks could not be collected"),
        }
    }
}

/// This machine's disk, if that is where the URL points to.
fn disk<'a>(url: &Url, scheme: &str, local: Option<&'a Local>) -> Option<&'a Local> {
    local.filter(|_| url.is(scheme))
}

async fn mongo(url: &Url, key: &str) -> Result<Mongo> {
    Mongo::connect(&url.0).await.with_context(|| format!("backends.{key}: {url} cannot be used"))
}

/// How to reach the broker.
pub fn rabbit_options(config: &Config, roles: &[Role]) -> RabbitOptions {
    let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
    let name = format!("{}/{}", names.join("+"), std::process::id());
    let mut options = RabbitOptions::new(&config.backends.wake.0, name);
    options.video.clone_from(&config.queues.video);
    options.mp3.clone_from(&config.queues.mp3);
    options.video_prefetch = u16::try_from(crate::roles::slots(config)).unwrap_or(u16::MAX);
    options
}

fn rabbit(config: &Config, roles: &[Role]) -> Result<RabbitWake> {
    RabbitWake::new(rabbit_options(config, roles))
        .with_context(|| format!("backends.wake: {} cannot be used", config.backends.wake))
}

fn users(config: &Config, local: Option<&Local>) -> Result<Option<Arc<dyn Users>>> {
    let url = &config.backends.users;
    if let Some(local) = disk(url, "sqlite", local) {
        return Ok(Some(Arc::new(SqliteUsers::new(local.store.clone()))));
    }
    if url.0.is_empty() {
        return Ok(None);
    }
    let users =
        MySqlUsers::connect(&url.0).with_context(|| format!("backends.users: {url} cannot be used"))?;
    Ok(Some(Arc::new(users)))
}

fn mailer(config: &Config, local: Option<&Local>) -> Result<Option<Arc<dyn Mailer>>> {
    let url = &config.backends.mailer;
    if let Some(local) = disk(url, "outbox", local) {
        return Ok(Some(Arc::new(Outbox::new(&local.folder))));
    }
    if url.0.is_empty() {
        return Ok(None);
    }
    if url.is("log") {
        return Ok(Some(Arc::new(LogMailer)));
    }
    let mailer = SmtpMailer::connect(&smtp_url(config), &config.mail.from);
    Ok(Some(Arc::new(mailer.with_context(|| format!("backends.mailer: {url} cannot be used"))?)))
}

/// Where the mail server is, with the authority to be trusted.
pub fn smtp_url(config: &Config) -> String {
    let url = &config.backends.mailer.0;
    if config.mail.ca_file.is_empty() {
        return url.clone();
    }
    let query: String = url::form_urlencoded::byte_serialize(config.mail.ca_file.as_bytes()).collect();
    format!("{url}{}ca={query}", if url.contains('?') { '&' } else { '?' })
}

fn policy(config: &Config) -> Policy {
    let neighbours = &config.neighbours;
    Policy {
        retry_wait: config.timing.retry_wait.signed(),
        retry_wait_max: config.timing.retry_wait_max.signed(),
        mp3_kept: config.retention.mp3.signed(),
        failed_video_kept: config.retention.failed_video.signed(),
        tombstone_kept: config.retention.record.signed(),
        neighbours: Neighbours {
            converter: neighbours.converter,
            notification: neighbours.notification,
            handover: neighbours.handover_timeout.signed(),
        },
        ..Policy::default()
    }
}
