//! The relay: publishes the wake-ups that records say are pending. It runs in every process; many do no harm.

use crate::{
    failpoints,
    job::{Event, Job, Task},
    message::{Message, Queue},
    ports::Wake,
    trace,
    transition::{Ledger, TransitionError},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// What is younger is left to the process that wrote it, whose own relay was rung.
const LEFT_TO_ITS_WRITER: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// So many failures end a round.
const GIVEN_UP_AFTER: usize = 3;

/// Publishes pending wake-ups until `shutdown`.
pub async fn run(ledger: Ledger, wake: Arc<dyn Wake>, poll: Duration, shutdown: CancellationToken) {
    let mut rung = true;
    while !shutdown.is_cancelled() {
        if let Err(error) = publish_pending(&ledger, &*wake, rung).await {
            tracing::warn!(
                error = %crate::chain(&error),
                "wake-ups could not be published; trying again"
            );
            shutdown.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
        }
        rung = tokio::select! {
            () = ledger.to_publish.notified() => true,
            () = tokio::time::sleep(poll) => false,
            () = shutdown.cancelled() => false,
        };
    }
}

/// Publishes what is pending: all of it, or what its writer has not published by itself.
async fn publish_pending(ledger: &Ledger, wake: &dyn Wake, all: bool) -> Result<(), TransitionError> {
    let now = ledger.clock.now();
    let mut failures = Vec::new();
    for job in ledger.jobs.due(Task::Publish, now, 100).await? {
        if all || now.duration_since(job.updated) > LEFT_TO_ITS_WRITER {
            failures.extend(publish(ledger, wake, &job).await.err());
        }
        // One queue that takes nothing must not hold up the other; a broker that is away holds up both.
        if failures.len() >= GIVEN_UP_AFTER {
            break;
        }
    }
    failures.pop().map_or(Ok(()), Err)
}

async fn publish(ledger: &Ledger, wake: &dyn Wake, job: &Job) -> Result<(), TransitionError> {
    // As it is now: the list may be old by the time that its end is reached, and others publish, too.
    let Some(job) = ledger.jobs.get(job.id).await? else { return Ok(()) };
    for queue in job.pending.iter().copied() {
        let message = Message {
            video_fid: job.id,
            mp3_fid: job.mp3_fid.filter(|_| queue == Queue::Mp3),
            username: job.owner.clone(),
            others: job.others.clone(),
        };
        let span = tracing::info_span!("publish", job = %job.id, %queue);
        trace::continue_in(&span, job.trace.as_deref());
        wake.publish(queue, &message, job.trace.as_deref()).instrument(span).await?;
        failpoints::reach("relay.published");
        match ledger.apply(job.id, Event::Published { queue }).await {
            // Somebody else published it too, or the job went on: either is fine.
            Ok(_) | Err(TransitionError::Refused(_) | TransitionError::Missing) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
