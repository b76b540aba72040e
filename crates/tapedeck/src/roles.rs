//! The roles: each one short function from ports and configuration to a running service.

use crate::{
    cli::Role,
    config::{Config, Mode},
    life::Life,
    ports::{Ports, Records},
};
use anyhow::{Context, Result};
use axum::Router;
use engine::Engine;
use services::{
    auth::{self, LocalAuth, RemoteAuth},
    converter::{self, Converter},
    gateway::{self, Gateway},
    http,
    notification::{self, Notifier, Sender},
    ports::{Auth, PortError},
    relay,
    sweeper::Sweeper,
};
use std::{future::Future, sync::Arc, thread::available_parallelism};

/// What a process is made of.
pub struct Process<'a> {
    /// Its configuration.
    pub config: &'a Config,
    /// Its ports.
    pub ports: &'a Ports,
    /// Its life.
    pub life: &'a Life,
    /// Its roles.
    pub roles: &'a [Role],
    /// What people type into their browser.
    pub public_url: String,
    /// Opens the set-up page, while there is no user.
    pub set_up_token: Option<String>,
}

impl Process<'_> {
    /// Has this process that role?
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Auth in this process.
    pub fn local_auth(&self) -> Result<Arc<LocalAuth>> {
        let key = self.ports.token_key(self.config)?;
        let (users, clock) = (Arc::clone(self.ports.users()?), Arc::clone(&self.ports.clock));
        let failures = self.config.auth.failures_per_minute;
        let auth = LocalAuth::new(users, key, clock, failures, self.set_up_token.clone());
        Ok(Arc::new(if self.config.auth.rehash { auth } else { auth.without_rehash() }))
    }

    /// Auth, as the gateway of this process sees it.
    fn auth(&self) -> Result<Arc<dyn Auth>> {
        let url = match self.config.backends.auth.0.as_str() {
            "" if self.has(Role::Auth) => "local:",
            "" if self.config.mode == Mode::Distributed => "http://auth:5000",
            "" => "http://127.0.0.1:5000",
            url => url,
        };
        if url == "local:" {
            return Ok(self.local_auth()?);
        }
        Ok(Arc::new(RemoteAuth::new(url).with_context(|| format!("backends.auth: {url} cannot be used"))?))
    }

    /// What this process answers over HTTP, and what is to be waited for when it ends.
    pub fn router(&self) -> Result<(Router, Option<Arc<Gateway>>)> {
        let router = http::health(self.readiness());
        if self.has(Role::Gateway) {
            let gateway = self.gateway()?;
            return Ok((
                gateway::layered(router.merge(gateway::routes(Arc::clone(&gateway)))),
                Some(gateway),
            ));
        }
        let router = if self.has(Role::Auth) {
            router.merge(auth::routes(self.local_auth()?, self.config.server.trusted_proxies.clone()))
        } else {
            router
        };
        Ok((gateway::layered(router), None))
    }

    /// Ready is who can do its work: the records or the users are within reach. A broker that is away makes nobody unready:
    /// wake-ups wait in the records.
    fn readiness(&self) -> http::Readiness {
        let jobs = self.ports.records_if_any().map(|records| Arc::clone(&records.ledger.jobs));
        let users = self.ports.users().ok().filter(|_| self.has(Role::Auth)).cloned();
        let draining = self.life.draining.clone();
        Arc::new(move || {
            let (jobs, users, draining) = (jobs.clone(), users.clone(), draining.clone());
            Box::pin(async move {
                if draining.is_cancelled() {
                    return Err("stopping".to_owned());
                }
                let out_of_reach =
                    |what: &str, error: PortError| format!("the {what} are out of reach: {}", error.source);
                if let Some(jobs) = jobs {
                    jobs.ping().await.map_err(|error| out_of_reach("job records", error))?;
                }
                if let Some(users) = users {
                    users.ping().await.map_err(|error| out_of_reach("users", error))?;
                }
                Ok(())
            })
        })
    }

    fn gateway(&self) -> Result<Arc<Gateway>> {
        let config = self.config;
        let settings = gateway::Settings {
            upload_limit: config.limits.upload.0,
            active_jobs: config.limits.active_jobs,
            upload_idle: config.limits.upload_idle.0,
            trusted_proxies: config.server.trusted_proxies.clone(),
            https: self.public_url.starts_with("https://"),
            beat: config.timing.beat.0,
            poll: config.timing.poll.0,
            session: config.auth.token_lifetime.0,
            legacy_downloads: config.neighbours.legacy_downloads,
            max_duration: config.limits.duration.in_words(),
            mp3_kept: config.retention.mp3.in_words(),
            failed_video_kept: config.retention.failed_video.in_words(),
        };
        let Records { ledger, blobs, .. } = self.ports.records()?.clone();
        Ok(Gateway::new(ledger, blobs, self.auth()?, settings, self.life.stopping.clone()))
    }

    /// The converter.
    pub fn converter(&self) -> Result<impl Future<Output = ()> + use<>> {
        let config = &self.config.converter;
        let Records { ledger, blobs, wake, .. } = self.ports.records()?.clone();
        let limits = engine::Limits {
            duration: self.config.limits.duration.0,
            output: self.config.limits.output.0,
            memory: config.memory.0,
            cpu: config.cpu.0,
            threads: config.threads,
            stall: config.stall.0,
        };
        let engine = Engine::this_program().context("this program's own path is not known")?;
        let engine = engine.with_sandbox(config.sandbox);
        // Better no converter than one that fails every job it claims.
        engine.check().context("no engine process can be started here")?;
        for lack in engine.lacking().context("the sandbox cannot be examined")? {
            tracing::warn!(layer = %lack.layer, "conversions run without a layer of the sandbox: {lack}");
        }
        let timing = &self.config.timing;
        let converter = Converter {
            ledger,
            blobs,
            wake,
            engine: Arc::new(engine),
            settings: Arc::new(converter::Settings {
                slots: slots(self.config),
                limits,
                beat: timing.beat.0,
                poll: timing.poll.0,
            }),
        };
        let stop = converter::Stop {
            claiming: self.life.stopping.clone(),
            converting: self.life.handing_back.clone(),
        };
        Ok(converter::run(converter, stop))
    }

    /// The notification service.
    pub fn notification(&self) -> Result<impl Future<Output = ()> + use<>> {
        let timing = &self.config.timing;
        let Records { ledger, blobs, wake, .. } = self.ports.records()?.clone();
        let notifier = Notifier {
            ledger,
            blobs,
            wake,
            mailer: Arc::clone(self.ports.mailer()?),
            sender: Sender { from: self.config.mail.from.clone(), public_url: self.public_url.clone() },
            beat: timing.beat.0,
            poll: timing.poll.0,
        };
        Ok(notification::run(notifier, self.life.stopping.clone()))
    }

    /// The relay and the sweeper, which every process with records has.
    pub fn upkeep(&self) -> impl Future<Output = ()> + use<> {
        let timing = &self.config.timing;
        let (poll, patience, done) = (timing.poll.0, timing.patience.0, self.life.done.clone());
        let records = self.ports.records_if_any().cloned();
        async move {
            let Some(Records { ledger, blobs, wake, .. }) = records else { return done.cancelled().await };
            let sweeper = Sweeper::new(ledger.clone(), blobs, patience).run(poll, done.clone());
            tokio::join!(sweeper, relay::run(ledger, wake, poll, done));
        }
    }
}

/// How many conversions run at once.
pub fn slots(config: &Config) -> usize {
    match config.converter.slots {
        0 => available_parallelism().map_or(1, usize::from),
        slots => slots,
    }
}
