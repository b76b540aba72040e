//! What a queue message means for the records, whoever sent it: our own relay, an original gateway, an original converter, a forger.
//!
//! A message without a record is adopted; one that contradicts the record goes to the dead letters, and nobody is told of it.

use crate::{
    id::Id,
    job::{Event, Job, MailState, Neighbour, State},
    message::Message,
    ports::{Blob, Blobs, PortError, Swap},
    stored::{self, Maker, Stored, Unsound},
    transition::{Ledger, TransitionError},
};

/// What to do about a message.
#[derive(Debug, PartialEq)]
pub enum Received {
    /// Work on this job; the message is its receiver's right to it.
    Job(Box<Job>),
    /// There is nothing to do, or nothing any more.
    Over,
    /// It can never be followed: to the dead letters, for this reason.
    Dead(String),
}

/// A message on the queue `video`: whose job is it, and may it be converted?
pub async fn received_video(
    ledger: &Ledger,
    blobs: &dyn Blobs,
    message: &Message,
    trace: Option<String>,
) -> Result<Received, PortError> {
    loop {
        if let Some(job) = ledger.jobs.get(message.video_fid).await? {
            if let Some(reason) = not_the_owners(&job, message) {
                return Ok(Received::Dead(reason));
            }
            let claimable = job.state == State::Queued;
            return Ok(if claimable { Received::Job(Box::new(job)) } else { Received::Over });
        }
        let Some(job) = queued_elsewhere(ledger, blobs, message, trace.clone()).await? else {
            return Ok(Received::Dead(format!("there is no video {} in the store", message.video_fid)));
        };
        if ledger.jobs.insert(&job).await? == Swap::Won {
            tracing::info!(job = %job.id, owner = %job.owner, "a video that another gateway received is adopted");
            return Ok(Received::Job(Box::new(job)));
        }
        // Somebody adopted it at the same moment: see who.
    }
}

/// A message on the queue `mp3`: whose MP3 is it, and is there a mail to send?
pub async fn received_mp3(
    ledger: &Ledger,
    blobs: &dyn Blobs,
    message: &Message,
    trace: Option<String>,
) -> Result<Received, TransitionError> {
    let Some(mp3_fid) = message.mp3_fid else {
        return Ok(Received::Dead(
            "its mp3_fid is null, though it stands on the queue of finished MP3s".into(),
        ));
    };
    loop {
        let known = ledger.jobs.get(message.video_fid).await?;
        if let Some(job) = &known {
            if let Some(reason) = not_the_owners(job, message) {
                return Ok(Received::Dead(reason));
            }
            if job.mp3_fid == Some(mp3_fid) {
                return Ok(to_be_told(job.clone()));
            }
            if job.state == State::Receiving {
                return Ok(Received::Dead(format!("the video of job {} is still on its way", job.id)));
            }
            if ledger.policy.neighbours.converter == Neighbour::Ours {
                return Ok(Received::Dead(format!("job {} has not made the MP3 {mp3_fid}", job.id)));
            }
        }
        if let Some(other) = ledger.jobs.by_mp3(mp3_fid).await? {
            return Ok(Received::Dead(format!("the MP3 {mp3_fid} is another job's ({})", other.id)));
        }
        if let Some(job) = known.as_ref().filter(|job| job.state.is_ended() && job.state != State::Failed) {
            return stray(ledger, blobs, job.id, mp3_fid).await;
        }
        let mp3 = match stored::look_at(blobs, mp3_fid, Maker::Other).await {
            Ok(Stored { mp3, .. }) => mp3,
            Err(Unsound::Store(error)) => return Err(error.into()),
            Err(unsound) => {
                return Ok(Received::Dead(format!("the MP3 {mp3_fid} cannot be used: {unsound}")));
            }
        };
        let done = match known {
            Some(job) => ledger.apply_to(&job, Event::ConvertedElsewhere { mp3_fid, mp3 }).await,
            None => {
                let job = match queued_elsewhere(ledger, blobs, message, trace.clone()).await? {
                    Some(job) => job,
                    // The video is gone already.
                    None => {
                        Job::adopted(message, format!("{}.mp4", message.video_fid), 0, ledger.clock.now())
                    }
                };
                let job = Job::adopted_done(job, mp3_fid, mp3, true, ledger.clock.now(), &ledger.policy);
                let swap = ledger.jobs.insert(&job).await?;
                Ok(Some(job).filter(|_| swap == Swap::Won))
            }
        };
        match done {
            Ok(Some(job)) => {
                tracing::info!(job = %job.id, %mp3_fid, owner = %job.owner, "an MP3 that another converter made is adopted");
                return Ok(to_be_told(job));
            }
            // Somebody was faster: see what it is now.
            Ok(None) | Err(TransitionError::Refused(_) | TransitionError::Missing) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Gives an MP3 that no record names to this owner, without a mail. `None` where there is no such MP3, or a record names it.
pub async fn adopt_mp3(
    ledger: &Ledger,
    blobs: &dyn Blobs,
    mp3_fid: Id,
    owner: &str,
) -> Result<Option<Job>, Unsound> {
    if ledger.jobs.by_mp3(mp3_fid).await?.is_some() {
        return Ok(None);
    }
    let Stored { mp3, .. } = stored::look_at(blobs, mp3_fid, Maker::Other).await?;
    let video_fid = Id::mint(&*ledger.clock);
    let message =
        Message { video_fid, mp3_fid: Some(mp3_fid), username: owner.into(), others: Default::default() };
    let mut job = Job::adopted(&message, format!("{mp3_fid}.mp4"), 0, ledger.clock.now());
    // There never was a video of ours.
    job.video = None;
    let job = Job::adopted_done(job, mp3_fid, mp3, false, ledger.clock.now(), &ledger.policy);
    Ok(match ledger.jobs.insert(&job).await? {
        Swap::Won => Some(job),
        Swap::Lost => None,
    })
}

/// The record of a video that another gateway stored; `None` where there is no such video.
async fn queued_elsewhere(
    ledger: &Ledger,
    blobs: &dyn Blobs,
    message: &Message,
    trace: Option<String>,
) -> Result<Option<Job>, PortError> {
    let Some(size) = blobs.size(Blob::video(message.video_fid)).await? else { return Ok(None) };
    // The originals keep no file name.
    let job = Job::adopted(message, format!("{}.mp4", message.video_fid), size, ledger.clock.now());
    Ok(Some(Job { trace: trace.filter(|trace| crate::trace::is_traceparent(trace)), ..job }))
}

fn not_the_owners(job: &Job, message: &Message) -> Option<String> {
    // Neither address is told: dead letters are read by operators, who need only know that they differ.
    (!job.owner.eq_ignore_ascii_case(&message.username))
        .then(|| format!("its username is not the owner of job {}", job.id))
}

fn to_be_told(job: Job) -> Received {
    match job.mail.state {
        MailState::Pending | MailState::HandedOver => Received::Job(Box::new(job)),
        MailState::None | MailState::Sending | MailState::Sent | MailState::Undeliverable => Received::Over,
    }
}

/// A foreign converter's MP3 for a job that has its end already: the sweeper deletes it, nobody is told.
async fn stray(ledger: &Ledger, blobs: &dyn Blobs, id: Id, mp3_fid: Id) -> Result<Received, TransitionError> {
    if blobs.size(Blob::mp3(mp3_fid)).await?.is_none() {
        return Ok(Received::Over);
    }
    match ledger.apply(id, Event::Stray { mp3_fid }).await {
        Ok(_) => {
            tracing::info!(job = %id, %mp3_fid, "a second MP3 for a job that has its end is deleted");
            Ok(Received::Over)
        }
        Err(TransitionError::Refused(_) | TransitionError::Missing) => Ok(Received::Over),
        Err(error) => Err(error),
    }
}
