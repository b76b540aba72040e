//! The sweeper: takes jobs from workers that died, deletes files that nobody needs, ends what has had its time.
//!
//! A lease ends by observation: the sweeper must itself have seen fence and beat unchanged for the whole time, on its
//! own monotonic clock. It trusts no other machine's time of day.

use crate::{
    failpoints,
    id::Id,
    job::{Event, Job, Lease, Task},
    ports::{Blobs, PortError},
    transition::{Ledger, TransitionError},
};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How many records one round looks at.
const ROUND: usize = 1000;

/// A sweeper with what it has seen so far.
pub struct Sweeper {
    ledger: Ledger,
    blobs: Arc<dyn Blobs>,
    patience: Duration,
    seen: HashMap<(Id, Role), Sighting>,
    /// When this sweeper last looked at all.
    looked: Instant,
    /// What cannot be swept just now, and when to try again.
    putting_off: HashMap<Id, PutOff>,
}

#[derive(Clone, Copy)]
struct PutOff {
    until: Instant,
    wait: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Worker,
    Notifier,
}

#[derive(Clone, Copy)]
struct Sighting {
    fence: u64,
    beat: u64,
    since: Instant,
    round: Instant,
}

/// When a round asked for the records, and when it had them: what they say was so in between.
#[derive(Clone, Copy)]
struct Round {
    begun: Instant,
    read: Instant,
}

impl Sweeper {
    /// A sweeper that takes a job away when it has seen no sign of life for `patience`.
    pub fn new(ledger: Ledger, blobs: Arc<dyn Blobs>, patience: Duration) -> Sweeper {
        Sweeper {
            ledger,
            blobs,
            patience,
            seen: HashMap::new(),
            looked: Instant::now(),
            putting_off: HashMap::new(),
        }
    }

    /// Sweeps every `poll` until `shutdown`.
    pub async fn run(mut self, poll: Duration, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(error = %crate::chain(&error), "a sweep failed; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(poll) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// One round over all records that are due.
    pub async fn sweep(&mut self) -> Result<(), PortError> {
        let begun = Instant::now();
        let due = self.ledger.jobs.due(Task::Sweep, self.ledger.clock.now(), ROUND).await?;
        // Only a round that saw something counts: while the store is away, workers cannot show a sign of life.
        let round = Round { begun, read: Instant::now() };
        if begun.duration_since(self.looked) > self.patience / 2 {
            // This process itself stood still, or the store did: what it did not look at it has not seen unchanged.
            self.seen.clear();
        }
        self.looked = begun;
        for job in due {
            let id = job.id;
            if self.putting_off.get(&id).is_some_and(|put_off| put_off.until > begun) {
                continue;
            }
            match self.sweep_job(job, round).await {
                Ok(()) | Err(TransitionError::Refused(_) | TransitionError::Missing) => {
                    self.putting_off.remove(&id);
                }
                Err(TransitionError::Store(error)) => self.put_off(id, &error, begun),
            }
        }
        self.seen.retain(|_, sighting| sighting.round == begun);
        self.putting_off.retain(|_, put_off| put_off.until + put_off.wait > begun);
        Ok(())
    }

    /// What fails is tried again, later each time, and said each time.
    fn put_off(&mut self, id: Id, error: &PortError, now: Instant) {
        let wait = self.putting_off.get(&id).map_or(Duration::from_secs(1), |put_off| put_off.wait * 2);
        let wait = wait.min(Duration::from_secs(60));
        tracing::warn!(job = %id, error = %crate::chain(error), again_in_seconds = wait.as_secs(), "this job could not be swept");
        self.putting_off.insert(id, PutOff { until: now + wait, wait });
    }

    async fn sweep_job(&mut self, job: Job, round: Round) -> Result<(), TransitionError> {
        if let Some(lease) = &job.lease
            && self.is_lost((job.id, Role::Worker), job.fence, lease, round)
        {
            tracing::warn!(job = %job.id, worker = %lease.worker, "no sign of life from this job's worker: taking it away");
            self.ledger.apply_to(&job, Event::LeaseLost { fence: job.fence, beat: lease.beat }).await?;
        }
        if let Some(lease) = &job.mail.lease
            && self.is_lost((job.id, Role::Notifier), job.mail.fence, lease, round)
        {
            let event = Event::MailLeaseLost { fence: job.mail.fence, beat: lease.beat };
            self.ledger.apply(job.id, event).await?;
        }
        self.delete_garbage(&job).await?;
        if job.is_discarded()
            || (job.state.is_ended() && job.expires.is_some_and(|at| at <= self.ledger.clock.now()))
        {
            self.end(&job).await?;
        }
        Ok(())
    }

    /// Has this lease shown no sign of life for longer than the patience?
    fn is_lost(&mut self, key: (Id, Role), fence: u64, lease: &Lease, round: Round) -> bool {
        let now = Sighting { fence, beat: lease.beat, since: round.read, round: round.begun };
        let sighting = self.seen.entry(key).or_insert(now);
        sighting.round = round.begun;
        if (sighting.fence, sighting.beat) != (fence, lease.beat) {
            *sighting = now;
        }
        round.begun.duration_since(sighting.since) >= self.patience
    }

    async fn delete_garbage(&self, job: &Job) -> Result<(), TransitionError> {
        for blob in job.garbage(self.ledger.clock.now()) {
            self.blobs.delete(blob).await?;
            failpoints::reach("sweeper.deleted");
            self.ledger.apply(job.id, Event::Deleted { blob }).await?;
        }
        Ok(())
    }

    /// The time of the present state is up: the MP3 or the video goes, or the record itself.
    async fn end(&self, job: &Job) -> Result<(), TransitionError> {
        if !job.garbage(Timestamp::MAX).is_empty() {
            return Ok(());
        }
        if job.mp3.is_some() || job.video_is_kept() {
            self.ledger.apply_to(job, Event::TimeUp).await?;
            return Ok(());
        }
        // Lost: somebody changed it meanwhile; the next round looks again.
        let _ = self.ledger.jobs.remove(job.id, job.version).await?;
        Ok(())
    }
}

/// Deletes all that is garbage on this owner's jobs now, and the jobs with it: for the removal of a user.
pub async fn delete_owner(ledger: &Ledger, blobs: &dyn Blobs, owner: &str) -> Result<usize, TransitionError> {
    let mut count = 0;
    loop {
        let jobs = ledger.jobs.by_owner(owner, None, 100).await?;
        if jobs.is_empty() {
            return Ok(count);
        }
        for job in jobs {
            let job = ledger.apply(job.id, Event::Delete).await?;
            for blob in job.garbage(ledger.clock.now()) {
                blobs.delete(blob).await?;
                ledger.apply(job.id, Event::Deleted { blob }).await?;
            }
            count += 1;
        }
    }
}
