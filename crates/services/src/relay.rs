//! The relay: publishes the wake-ups that records say are pending. It runs in every process; many do no harm.

use crate::{
    failpoints,
    id::Id,
    job::{Event, Task},
    message::{Message, Queue},
    ports::Wake,
    trace,
    transition::{Ledger, TransitionError},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// What is younger is left to the process that wrote it, whose own relay was rung.
const LEFT_TO_ITS_WRITER: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// So many records one round looks at: more than a queue that takes nothing gathers before somebody is called.
const ROUND: usize = 1000;

/// After so many failures a round leaves a queue alone.
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
    // One queue that takes nothing must not hold up the other.
    let mut failures = HashMap::new();
    let mut last = Ok(());
    for job in ledger.jobs.due(Task::Publish, now, ROUND).await? {
        if !all && now.duration_since(job.updated) <= LEFT_TO_ITS_WRITER {
            continue;
        }
        let is_open = |queue: &Queue| failures.get(queue).is_none_or(|count| *count < GIVEN_UP_AFTER);
        let queues: Vec<Queue> = job.pending.iter().copied().filter(is_open).collect();
        for queue in queues {
            if let Err(error) = publish(ledger, wake, job.id, queue).await {
                *failures.entry(queue).or_insert(0) += 1;
                last = Err(error);
            }
        }
    }
    last
}

async fn publish(ledger: &Ledger, wake: &dyn Wake, id: Id, queue: Queue) -> Result<(), TransitionError> {
    // As it is now: the list may be old by the time that its end is reached, and others publish, too.
    let Some(job) = ledger.jobs.get(id).await? else { return Ok(()) };
    if job.pending.contains(&queue) {
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
