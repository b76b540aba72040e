//! The converter: claims queued jobs, runs the engine, stores and verifies the MP3.

mod conversion;

use crate::{
    failpoints,
    job::{Event, Job, Task},
    message::Queue,
    ports::{Blobs, Settled, Wake},
    transition::{Ledger, TransitionError},
};
use engine::Engine;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the converter is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many conversions run at once.
    pub slots: usize,
    /// What one conversion may use.
    pub limits: engine::Limits,
    /// How often a conversion shows a sign of life, and its progress.
    pub beat: Duration,
    /// How often the records are read for work that no wake-up told of.
    pub poll: Duration,
}

/// The converter's ports.
#[derive(Clone)]
pub struct Converter {
    /// The records.
    pub ledger: Ledger,
    /// The files.
    pub blobs: Arc<dyn Blobs>,
    /// The wake-ups.
    pub wake: Arc<dyn Wake>,
    /// How to start an engine process.
    pub engine: Arc<Engine>,
    /// Settings.
    pub settings: Arc<Settings>,
}

/// When the converter is to stop.
#[derive(Clone, Default)]
pub struct Stop {
    /// Claim nothing more; finish what is in hand.
    pub claiming: CancellationToken,
    /// Hand back what is in hand.
    pub converting: CancellationToken,
}

/// Converts until `stop.claiming`, then ends when the last conversion has.
pub async fn run(converter: Converter, stop: Stop) {
    let slots = Arc::new(Semaphore::new(converter.settings.slots.max(1)));
    let conversions = TaskTracker::new();
    while let Some(slot) = stop.claiming.run_until_cancelled(Arc::clone(&slots).acquire_owned()).await {
        let slot = slot.expect("the semaphore is never closed");
        match converter.next_job(&stop.claiming).await {
            Ok(Some(job)) => {
                conversions.spawn(converter.clone().convert_claimed(job, stop.converting.clone(), slot));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    error = %crate::chain(&error),
                    "no job could be claimed; trying again"
                );
                stop.claiming.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
            }
        }
    }
    conversions.close();
    conversions.wait().await;
}

impl Converter {
    /// A job that is ours now; `None` after a while without one, or at the shutdown.
    async fn next_job(&self, stop: &CancellationToken) -> Result<Option<Job>, TransitionError> {
        // The longest waiting first. Several workers may want the same: those who lose try the next.
        for job in self.ledger.jobs.due(Task::Convert, self.ledger.clock.now(), 16).await? {
            if let Some(job) = self.claim(&job).await? {
                return Ok(Some(job));
            }
        }
        tokio::select! {
            delivery = self.wake.next(Queue::Video) => (delivery.settle)(Settled::Done),
            () = tokio::time::sleep(self.settings.poll) => {}
            () = stop.cancelled() => {}
        }
        Ok(None)
    }

    async fn claim(&self, job: &Job) -> Result<Option<Job>, TransitionError> {
        match self.ledger.apply_to(job, Event::Claim { worker: self.ledger.worker.to_string() }).await {
            Ok(claimed) => {
                failpoints::reach("conversion.claimed");
                Ok(claimed)
            }
            Err(TransitionError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn convert_claimed(self, job: Job, stop: CancellationToken, _slot: OwnedSemaphorePermit) {
        use tracing::Instrument;
        let span = tracing::info_span!("conversion", job = %job.id, request_id = %job.request_id, attempt = job.attempt);
        conversion::run(&self, job, stop).instrument(span).await;
    }
}
