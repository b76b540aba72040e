//! Wiring: from the configuration to the ports that the services ask for.

use crate::{cli::Place, config::Config};
use anyhow::{Context, Result};
use embedded::{DataFolder, FileBlobs, LocalWake, Outbox, SqliteJobs, SqliteUsers, Store};
use services::{
    auth::TokenKey,
    clock::{Clock, SystemClock},
    job::Policy,
    ports::{Blobs, Mailer, Users, Wake},
    transition::Ledger,
};
use std::sync::Arc;

/// All ports of a process, in the embedded mode.
pub struct Ports {
    /// The data folder.
    pub folder: DataFolder,
    /// The database, to be closed at the end.
    pub store: Store,
    /// The job records.
    pub ledger: Ledger,
    /// The files.
    pub blobs: Arc<dyn Blobs>,
    /// The wake-ups.
    pub wake: Arc<dyn Wake>,
    /// The users.
    pub users: Arc<dyn Users>,
    /// The mails.
    pub mailer: Arc<dyn Mailer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Ports {
    /// Opens everything in the data folder; makes what is not there yet.
    pub async fn open(place: &Place, config: &Config) -> Result<Ports> {
        let folder = DataFolder::open(&place.data)
            .context("the data folder cannot be used; choose another with --data DIR")?;
        let database = folder.database();
        let store = Store::open(&database)
            .await
            .with_context(|| format!("the database {} cannot be used", database.display()))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ledger = Ledger {
            jobs: Arc::new(SqliteJobs::new(store.clone())),
            clock: Arc::clone(&clock),
            policy: Arc::new(policy(config)),
            worker: Ledger::worker_name(),
            to_publish: Arc::default(),
        };
        Ok(Ports {
            ledger,
            blobs: Arc::new(FileBlobs::new(folder.clone())),
            wake: Arc::new(LocalWake::default()),
            users: Arc::new(SqliteUsers::new(store.clone())),
            mailer: Arc::new(Outbox::new(&folder)),
            clock,
            store,
            folder,
        })
    }

    /// The key that signs tokens: configured, or the data folder's own.
    pub fn token_key(&self, config: &Config) -> Result<TokenKey> {
        let secret = match config.auth.jwt_secret.0.as_str() {
            "" => self.folder.jwt_secret().context("the secret that signs tokens cannot be made or read")?,
            configured => configured.to_owned(),
        };
        Ok(TokenKey::new(secret.as_bytes(), config.auth.token_lifetime.signed())?)
    }
}

fn policy(config: &Config) -> Policy {
    Policy {
        retry_wait: config.timing.retry_wait.signed(),
        retry_wait_max: config.timing.retry_wait_max.signed(),
        mp3_kept: config.retention.mp3.signed(),
        failed_video_kept: config.retention.failed_video.signed(),
        tombstone_kept: config.retention.record.signed(),
        ..Policy::default()
    }
}
