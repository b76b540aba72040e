//! The one way in which a record changes: read, apply, compare-and-swap, again if somebody was faster.

use crate::{
    clock::Clock,
    id::Id,
    job::{Event, Job, Policy, Refused, Task},
    measures,
    ports::{Jobs, PortError, PortErrorKind, Swap},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Why a record did not change.
#[derive(Debug, thiserror::Error)]
pub enum TransitionError {
    /// There is no such job.
    #[error("there is no such job")]
    Missing,
    /// The job does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] PortError),
}

impl TransitionError {
    /// Is it of no use to ask again, while other records may well be changed?
    pub fn is_of_this_record(&self) -> bool {
        matches!(self, TransitionError::Store(error) if error.kind == PortErrorKind::Refused)
    }
}

/// The job records together with what every change of one needs: the time and the policy.
#[derive(Clone)]
pub struct Ledger {
    /// The records.
    pub jobs: Arc<dyn Jobs>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Times and counts.
    pub policy: Arc<Policy>,
    /// Who writes: this process, told apart from every other that ever ran.
    pub worker: Arc<str>,
    /// Rung when a record of this process has a wake-up to publish: its relay need not wait for its next look.
    pub to_publish: Arc<Notify>,
}

impl Ledger {
    /// A name for this process that no other process, now or later, has.
    pub fn worker_name() -> Arc<str> {
        format!("{}-{}", std::process::id(), crate::random_hex::<6>()).into()
    }

    /// Applies `event` to the record as it is stored now, however often others are faster.
    pub async fn apply(&self, id: Id, event: Event) -> Result<Job, TransitionError> {
        loop {
            let job = self.jobs.get(id).await?.ok_or(TransitionError::Missing)?;
            if let Some(job) = self.apply_to(&job, event.clone()).await? {
                return Ok(job);
            }
        }
    }

    /// Applies what has happened already and cannot be undone: as long as the store fails it is tried again, for minutes.
    ///
    /// A write whose answer was lost may have arrived: then the second try is refused, and the record tells by itself.
    pub async fn insist(&self, id: Id, event: Event) -> Result<Job, TransitionError> {
        const PATIENCE: Duration = Duration::from_secs(5 * 60);
        let (began, mut wait) = (Instant::now(), Duration::from_millis(100));
        loop {
            match self.apply(id, event.clone()).await {
                Err(TransitionError::Store(error)) if began.elapsed() < PATIENCE => {
                    tracing::warn!(job = %id, error = %crate::chain(&error), "what happened could not be recorded; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(1));
                }
                applied => return applied,
            }
        }
    }

    /// Applies `event` to this very version of the record; `None` where it is no longer the stored one.
    pub async fn apply_to(&self, job: &Job, event: Event) -> Result<Option<Job>, TransitionError> {
        let next = job.apply(event, self.clock.now(), &self.policy)?;
        match self.jobs.replace(&next).await? {
            Swap::Lost => Ok(None),
            Swap::Won => {
                if next.due(Task::Publish).is_some() {
                    self.to_publish.notify_one();
                }
                measures::observe(job, &next);
                if next.state != job.state {
                    tracing::info!(job = %next.id, request_id = %next.request_id, from = %job.state, to = %next.state,
                        attempt = next.attempt, code = next.error.as_ref().map(|error| error.code.as_str()), "job moved");
                }
                Ok(Some(next))
            }
        }
    }
}
