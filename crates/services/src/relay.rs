//! The relay: publishes the wake-ups that records say are pending. It runs in every process; many do no harm.

use crate::{
    failpoints,
    job::{Event, Job, Task},
    message::Message,
    ports::Wake,
    transition::{Ledger, TransitionError},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Publishes pending wake-ups until `shutdown`.
pub async fn run(ledger: Ledger, wake: Arc<dyn Wake>, poll: Duration, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = publish_pending(&ledger, &*wake).await {
            tracing::warn!(
                error = %crate::chain(&error),
                "wake-ups could not be published; trying again"
            );
        }
        tokio::select! {
            () = ledger.to_publish.notified() => {}
            () = tokio::time::sleep(poll) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn publish_pending(ledger: &Ledger, wake: &dyn Wake) -> Result<(), TransitionError> {
    for job in ledger.jobs.due(Task::Publish, ledger.clock.now(), 100).await? {
        publish(ledger, wake, &job).await?;
    }
    Ok(())
}

async fn publish(ledger: &Ledger, wake: &dyn Wake, job: &Job) -> Result<(), TransitionError> {
    let message = Message {
        video_fid: job.id,
        mp3_fid: job.mp3_fid,
        username: job.owner.clone(),
        others: serde_json::Map::new(),
    };
    for queue in job.pending.iter().copied() {
        wake.publish(queue, &message, None).await?;
        failpoints::reach("relay.published");
        match ledger.apply(job.id, Event::Published { queue }).await {
            // Somebody else published it too, or the job went on: either is fine.
            Ok(_) | Err(TransitionError::Refused(_) | TransitionError::Missing) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
