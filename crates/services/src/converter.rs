//! The converter: claims queued jobs, runs the engine, stores and verifies the MP3.

mod conversion;

use crate::{
    failpoints,
    job::{Event, Job, Neighbour, State, Task},
    message::Queue,
    neighbours::{self, Received},
    ports::{Blobs, Delivery, PortErrorKind, Settled, Wake},
    transition::{Ledger, TransitionError},
};
use engine::Engine;
use jiff::SignedDuration;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the converter is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many conversions run at once.
    pub slots: usize,
    /// What one conversion may use. `threads` are those of all conversions together, shared among them as they begin; 0 for one for each
    /// processor.
    pub limits: engine::Limits,
    /// How often a conversion shows a sign of life, and its progress.
    pub beat: Duration,
    /// How often the records are read for work that no wake-up told of.
    pub poll: Duration,
}

impl Settings {
    /// The threads of a conversion that is one of `running`: all where it is alone, which is fastest for its owner, and fewer where many
    /// run, which is fastest for all.
    fn share(&self, running: usize) -> usize {
        let threads = match self.limits.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        (threads / running.max(1)).max(1)
    }
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

/// A message in hand is given back to the broker after so long, whatever becomes of the job: the record carries it, and brokers take
/// a channel away from whoever holds a message for half an hour.
const HOLD: Duration = Duration::from_secs(10 * 60);
/// While messages come without a pause, the records are read this often for jobs that no message tells of.
const LOOK: Duration = Duration::from_secs(2);

/// A job that has been waiting for less is left to its wake-up, which is on its way.
const FRESH: SignedDuration = SignedDuration::from_millis(200);

/// A job that is ours now, with the message that told of it.
struct Claimed {
    job: Job,
    delivery: Option<Delivery>,
}

/// Converts until `stop.claiming`, then ends when the last conversion has.
pub async fn run(converter: Converter, stop: Stop) {
    let slots = Arc::new(Semaphore::new(converter.settings.slots.max(1)));
    let conversions = TaskTracker::new();
    let mut looked = None;
    while let Some(slot) = stop.claiming.run_until_cancelled(Arc::clone(&slots).acquire_owned()).await {
        let slot = slot.expect("the semaphore is never closed");
        match converter.next_job(&mut looked, &stop.claiming).await {
            Ok(Some(claimed)) => {
                let threads = converter.settings.share(conversions.len() + 1);
                let stop = stop.converting.clone();
                conversions.spawn(converter.clone().convert_claimed(claimed, threads, stop, slot));
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
    async fn next_job(
        &self,
        looked: &mut Option<Instant>,
        stop: &CancellationToken,
    ) -> Result<Option<Claimed>, TransitionError> {
        let neighbour = self.ledger.policy.neighbours.converter;
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            *looked = Some(Instant::now());
            if let Some(job) = self.longest_waiting().await? {
                return Ok(Some(Claimed { job, delivery: None }));
            }
        }
        tokio::select! {
            delivery = self.wake.next(Queue::Video), if neighbour != Neighbour::Original => {
                self.claim_by_message(delivery).await
            }
            () = tokio::time::sleep(self.settings.poll) => {
                // No message for a while: what waits is not told of by any.
                *looked = None;
                Ok(None)
            }
            () = stop.cancelled() => Ok(None),
        }
    }

    /// The longest waiting job that is due. Several workers may want the same: those who lose try the next.
    async fn longest_waiting(&self) -> Result<Option<Job>, TransitionError> {
        let now = self.ledger.clock.now();
        for job in self.ledger.jobs.due(Task::Convert, now, 16).await? {
            if job.state == State::Queued && now.duration_since(job.since()) < FRESH {
                continue;
            }
            if self.ledger.policy.neighbours.converter == Neighbour::Original && job.state == State::Queued {
                // An original converter has had its time, and its broker lost the message: once more.
                self.publish_again(&job).await?;
            } else {
                match self.claim(&job).await {
                    Ok(None) => {}
                    Err(error) if error.is_of_this_record() => {
                        // It waits where it stands, and those behind it do not.
                        tracing::warn!(job = %job.id, error = %crate::chain(&error), "this job cannot be taken");
                    }
                    claimed => return claimed,
                }
            }
        }
        Ok(None)
    }

    async fn publish_again(&self, job: &Job) -> Result<(), TransitionError> {
        match self.ledger.apply_to(job, Event::PublishAgain).await {
            Ok(_) | Err(TransitionError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The job that a message tells of, if there is one to be had.
    async fn claim_by_message(&self, delivery: Delivery) -> Result<Option<Claimed>, TransitionError> {
        let Delivery { message, trace, settle } = delivery;
        let received = neighbours::received_video(&self.ledger, &*self.blobs, &message, trace.clone()).await;
        failpoints::reach("conversion.told");
        let claimed = match received {
            Ok(Received::Job(job)) => self.claim_told(&job).await,
            Ok(Received::Over) => Ok(None),
            Ok(Received::Dead(reason)) => {
                tracing::warn!(video_fid = %message.video_fid, reason, "a message on the queue of videos is put aside");
                settle(Settled::Dead(reason));
                return Ok(None);
            }
            Err(error) if error.kind == PortErrorKind::Refused => {
                tracing::error!(video_fid = %message.video_fid, error = %crate::chain(&error), "a message on the queue of videos is put aside");
                settle(Settled::Dead(crate::chain(&error)));
                return Ok(None);
            }
            Err(error) => Err(error.into()),
        };
        match claimed {
            Ok(Some(job)) => Ok(Some(Claimed { job, delivery: Some(Delivery { message, trace, settle }) })),
            Ok(None) => {
                settle(Settled::Done);
                Ok(None)
            }
            Err(error) => {
                settle(Settled::Later);
                Err(error)
            }
        }
    }

    /// Claims the job whose message is in hand, however often others change its record meanwhile: the message is the right to it.
    async fn claim_told(&self, job: &Job) -> Result<Option<Job>, TransitionError> {
        let claim = Event::Claim { worker: self.ledger.worker.to_string(), by_message: true };
        match self.ledger.apply(job.id, claim).await {
            Ok(claimed) => {
                failpoints::reach("conversion.claimed");
                Ok(Some(claimed))
            }
            Err(TransitionError::Refused(_) | TransitionError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn claim(&self, job: &Job) -> Result<Option<Job>, TransitionError> {
        let claim = Event::Claim { worker: self.ledger.worker.to_string(), by_message: false };
        match self.ledger.apply_to(job, claim).await {
            Ok(claimed) => {
                failpoints::reach("conversion.claimed");
                Ok(claimed)
            }
            Err(TransitionError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn convert_claimed(
        self,
        claimed: Claimed,
        threads: usize,
        stop: CancellationToken,
        _slot: OwnedSemaphorePermit,
    ) {
        use tracing::Instrument;
        let Claimed { job, delivery } = claimed;
        let span = tracing::info_span!("conversion", job = %job.id, request_id = %job.request_id, attempt = job.attempt);
        crate::trace::continue_in(&span, job.trace.as_deref());
        let conversion = conversion::run(&self, job, threads, stop).instrument(span);
        let mut settle = delivery.map(|delivery| delivery.settle);
        tokio::pin!(conversion);
        if tokio::time::timeout(HOLD, &mut conversion).await.is_err() {
            if let Some(settle) = settle.take() {
                settle(Settled::Done);
            }
            conversion.await;
        }
        failpoints::reach("conversion.ended");
        if let Some(settle) = settle {
            settle(Settled::Done);
        }
    }
}
