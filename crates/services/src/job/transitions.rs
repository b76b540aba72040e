//! What may happen to a job, and what it does to the record.

use super::{Failure, Failures, Job, Lease, Mail, MailState, Mp3, Neighbour, Passage, Policy, State, Video};
use crate::{id::Id, message::Queue, ports::Blob};
use jiff::{SignedDuration, Timestamp};

/// So many passages a history keeps: a record stays small whatever somebody does to its job.
const MOST_PASSAGES: usize = 100;

/// What may happen to a job. A `fence` is the one that the sender was given with its claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The whole video is stored: the job is accepted.
    Accept {
        /// What was stored.
        video: Video,
    },
    /// The upload broke off or was refused: nothing was promised, nothing shall stay.
    Abandon,
    /// The worker lives; for a conversion, this far.
    Beat {
        /// The worker's fence.
        fence: u64,
        /// Progress, `0.0..=1.0`.
        progress: f64,
    },
    /// A converter takes the job.
    Claim {
        /// The process that takes it.
        worker: String,
        /// It has the job's queue message in hand.
        by_message: bool,
    },
    /// The converter is about to write this MP3.
    Intend {
        /// The converter's fence.
        fence: u64,
        /// The id that the MP3 will have.
        mp3_fid: Id,
    },
    /// The MP3 is stored and verified.
    Converted {
        /// The converter's fence.
        fence: u64,
        /// The MP3's id.
        mp3_fid: Id,
        /// What was verified.
        mp3: Mp3,
    },
    /// A converter that is not ours has made the MP3; it was looked at, and its owner is to be told by us.
    ConvertedElsewhere {
        /// The MP3's id.
        mp3_fid: Id,
        /// What was seen.
        mp3: Mp3,
    },
    /// A converter that is not ours has made an MP3 that nobody needs: the job has its end already.
    Stray {
        /// The MP3's id.
        mp3_fid: Id,
    },
    /// A converter that is not ours has had its time: the wake-up is to be published again.
    PublishAgain,
    /// The attempt failed.
    Fail {
        /// The converter's fence.
        fence: u64,
        /// Why, for the owner.
        failure: Failure,
        /// What to make of it.
        verdict: Verdict,
    },
    /// The converter shuts down before it is done: somebody else shall do it, at no cost to the job.
    HandBack {
        /// The converter's fence.
        fence: u64,
    },
    /// A sweeper saw fence and beat unchanged for too long.
    LeaseLost {
        /// The fence that it saw.
        fence: u64,
        /// The beat that it saw.
        beat: u64,
    },
    /// The owner stops it.
    Cancel,
    /// The owner wants another try.
    Retry,
    /// The owner (or the owner's removal) deletes it.
    Delete,
    /// The present state's time is up.
    TimeUp,
    /// A wake-up was published.
    Published {
        /// On this queue.
        queue: Queue,
    },
    /// The deletion of a file is confirmed.
    Deleted {
        /// The file.
        blob: Blob,
    },
    /// A notifier takes the mail.
    ClaimMail {
        /// The process that takes it.
        worker: String,
        /// It has the mail's queue message in hand.
        by_message: bool,
    },
    /// The notifier lives.
    BeatMail {
        /// The notifier's fence.
        fence: u64,
    },
    /// The mail server has the mail.
    MailSent {
        /// The notifier's fence.
        fence: u64,
    },
    /// The mail was not taken.
    MailFailed {
        /// The notifier's fence.
        fence: u64,
        /// Why.
        text: String,
        /// It will never be taken.
        permanent: bool,
    },
    /// A sweeper saw the notifier's beat unchanged for too long.
    MailLeaseLost {
        /// The fence that it saw.
        fence: u64,
        /// The beat that it saw.
        beat: u64,
    },
}

/// What to make of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It will fail again: the video is at fault.
    Permanent,
    /// It may pass: a store, a spawn.
    Transient,
    /// The engine process crashed or hung on it.
    Suspect,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not in this state.
    #[error("a job that is {0} does not allow it")]
    State(State),
    /// Somebody else has the job now.
    #[error("the job has changed hands")]
    Fence,
    /// The time has not come.
    #[error("its time has not come")]
    NotYet,
    /// The video is deleted.
    #[error("the video is deleted already")]
    VideoGone,
}

impl Job {
    /// The record after `event`, one version later; or why the event changes nothing.
    pub fn apply(&self, event: Event, now: Timestamp, policy: &Policy) -> Result<Job, Refused> {
        let mut job = self.clone();
        job.version += 1;
        job.updated = now;
        match event {
            Event::Accept { video } => job.accept(video, now, policy)?,
            Event::Abandon => job.abandon(now)?,
            Event::Beat { fence, progress } => job.beat(fence, progress)?,
            Event::Claim { worker, by_message } => job.claim(worker, by_message, now)?,
            Event::Intend { fence, mp3_fid } => job.intend(fence, mp3_fid)?,
            Event::Converted { fence, mp3_fid, mp3 } => job.converted(fence, mp3_fid, mp3, now, policy)?,
            Event::ConvertedElsewhere { mp3_fid, mp3 } => {
                job.converted_elsewhere(mp3_fid, mp3, now, policy)?;
            }
            Event::Stray { mp3_fid } => job.stray(mp3_fid)?,
            Event::PublishAgain => job.publish_again(now, policy)?,
            Event::Fail { fence, failure, verdict } => job.fail(fence, failure, verdict, now, policy)?,
            Event::HandBack { fence } => job.hand_back(fence, now, policy)?,
            Event::LeaseLost { fence, beat } => job.lease_lost(fence, beat, now, policy)?,
            Event::Cancel => job.cancel(now, policy)?,
            Event::Retry => job.retry(now, policy)?,
            Event::Delete => job.delete(now, policy),
            Event::TimeUp => job.time_up(now, policy)?,
            Event::Published { queue } => job.published(queue, now, policy)?,
            Event::Deleted { blob } => job.intents.retain(|intent| *intent != blob),
            Event::ClaimMail { worker, by_message } => job.claim_mail(worker, by_message, now)?,
            Event::BeatMail { fence } => job.mail_lease(fence)?.beat += 1,
            Event::MailSent { fence } => job.mail_ended(fence, MailState::Sent, None)?,
            Event::MailFailed { fence, text, permanent } => {
                job.mail_failed(fence, text, permanent, now, policy)?;
            }
            Event::MailLeaseLost { fence, beat } => job.mail_lease_lost(fence, beat)?,
        }
        if job.state != self.state {
            let why =
                job.error.as_ref().filter(|_| job.state != State::Queued).map(|error| error.code.clone());
            job.history.push(Passage { at: now, to: job.state, why });
            if job.history.len() > MOST_PASSAGES {
                // How it began stays, and what happened last.
                job.history.remove(1);
            }
        }
        Ok(job)
    }

    fn accept(&mut self, video: Video, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        self.require(&[State::Receiving])?;
        self.video = Some(video);
        self.lease = None;
        self.intents.clear();
        self.queue(now, policy);
        Ok(())
    }

    fn abandon(&mut self, now: Timestamp) -> Result<(), Refused> {
        self.require(&[State::Receiving])?;
        self.state = State::Cancelled;
        self.lease = None;
        self.deleted = true;
        self.expires = Some(now);
        Ok(())
    }

    fn beat(&mut self, fence: u64, progress: f64) -> Result<(), Refused> {
        self.held(fence)?.beat += 1;
        self.progress = progress.clamp(self.progress, 1.0);
        Ok(())
    }

    fn claim(&mut self, worker: String, by_message: bool, now: Timestamp) -> Result<(), Refused> {
        self.require(&[State::Queued, State::RetryWait])?;
        if !by_message && self.handed_over.is_some_and(|until| until > now) {
            return Err(Refused::NotYet);
        }
        if self.state == State::RetryWait && self.expires.is_some_and(|at| at > now) {
            return Err(Refused::NotYet);
        }
        self.state = State::Converting;
        self.attempt += 1;
        self.fence += 1;
        self.lease = Some(Lease { worker, beat: 0, writing: None });
        self.progress = 0.0;
        self.expires = None;
        self.handed_over = None;
        // Whoever claims it knows of it: a wake-up would only be noise.
        self.pending.remove(&Queue::Video);
        Ok(())
    }

    fn intend(&mut self, fence: u64, mp3_fid: Id) -> Result<(), Refused> {
        self.require(&[State::Converting])?;
        self.held(fence)?.writing = Some(mp3_fid);
        self.intents.push(Blob::mp3(mp3_fid));
        Ok(())
    }

    fn converted(
        &mut self,
        fence: u64,
        mp3_fid: Id,
        mp3: Mp3,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<(), Refused> {
        self.require(&[State::Converting])?;
        self.held(fence)?;
        self.end_converted(mp3_fid, mp3, now, policy);
        self.pending.insert(Queue::Mp3);
        self.tell();
        if policy.neighbours.notification != Neighbour::Ours {
            self.mail.state = MailState::HandedOver;
        }
        Ok(())
    }

    /// The MP3 is there, whoever made it.
    pub(super) fn end_converted(&mut self, mp3_fid: Id, mp3: Mp3, now: Timestamp, policy: &Policy) {
        self.state = State::Converted;
        self.lease = None;
        self.progress = 1.0;
        self.error = None;
        self.pending.clear();
        self.handed_over = None;
        self.intents.retain(|intent| *intent != Blob::mp3(mp3_fid));
        self.mp3_fid = Some(mp3_fid);
        self.mp3 = Some(mp3);
        self.drop_video();
        if policy.neighbours.converter != Neighbour::Ours {
            // Its message may come again, to a converter that dies where the video is gone.
            self.video_needed = Some(later(now, policy.neighbours.handover));
        }
        self.expires = Some(later(now, policy.mp3_kept));
    }

    fn converted_elsewhere(
        &mut self,
        mp3_fid: Id,
        mp3: Mp3,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<(), Refused> {
        self.require(&[State::Queued, State::Converting, State::RetryWait, State::Failed])?;
        self.end_converted(mp3_fid, mp3, now, policy);
        self.tell();
        Ok(())
    }

    fn stray(&mut self, mp3_fid: Id) -> Result<(), Refused> {
        let blob = Blob::mp3(mp3_fid);
        if !self.state.is_ended() || self.mp3_fid == Some(mp3_fid) || self.intents.contains(&blob) {
            return Err(Refused::State(self.state));
        }
        self.intents.push(blob);
        Ok(())
    }

    fn publish_again(&mut self, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        self.require(&[State::Queued])?;
        if self.handed_over.is_some_and(|until| until > now) {
            return Err(Refused::NotYet);
        }
        self.queue(now, policy);
        Ok(())
    }

    fn fail(
        &mut self,
        fence: u64,
        failure: Failure,
        verdict: Verdict,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<(), Refused> {
        self.require(&[State::Converting])?;
        self.held(fence)?;
        self.attempt_ended(failure, verdict, now, policy);
        Ok(())
    }

    fn attempt_ended(&mut self, failure: Failure, verdict: Verdict, now: Timestamp, policy: &Policy) {
        let (count, limit) = match verdict {
            Verdict::Permanent => (1, 1),
            Verdict::Transient => (bump(&mut self.failures.transient), policy.transient_attempts),
            Verdict::Suspect => (bump(&mut self.failures.suspect), policy.suspect_attempts),
        };
        self.lease = None;
        self.error = Some(failure);
        if count < limit {
            self.state = State::RetryWait;
            self.expires = Some(later(now, policy.wait(count, self.id)));
        } else {
            if let (Verdict::Transient, Some(error)) = (verdict, &mut self.error) {
                error.text = format!(
                    "This failed {count} times and was given up. The fault is the server's, not your video's: \
                     try again later, or tell the operator this job's id."
                );
            }
            self.state = State::Failed;
            self.tell();
            self.expires = Some(later(now, policy.failed_video_kept));
        }
    }

    fn hand_back(&mut self, fence: u64, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        self.require(&[State::Converting])?;
        self.held(fence)?;
        self.lease = None;
        self.attempt = self.attempt.saturating_sub(1);
        self.queue(now, policy);
        Ok(())
    }

    fn lease_lost(&mut self, fence: u64, beat: u64, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        if self.held(fence)?.beat != beat {
            return Err(Refused::Fence);
        }
        if self.state == State::Receiving {
            return self.abandon(now);
        }
        self.lease = None;
        if bump(&mut self.failures.lost) < policy.lost_attempts {
            self.queue(now, policy);
        } else {
            let failure = Failure {
                code: "worker-lost".into(),
                text: format!(
                    "The conversion was interrupted {} times and was given up. \
                     Try again later; if it happens again, tell the operator this job's id.",
                    self.failures.lost
                ),
            };
            self.attempt_ended(failure, Verdict::Permanent, now, policy);
        }
        Ok(())
    }

    fn cancel(&mut self, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        self.require(&[State::Queued, State::Converting, State::RetryWait])?;
        self.state = State::Cancelled;
        self.lease = None;
        self.error = None;
        self.pending.clear();
        self.expires = Some(later(now, policy.failed_video_kept));
        Ok(())
    }

    fn retry(&mut self, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        self.require(&[State::Failed, State::Cancelled])?;
        if !self.video_is_kept() {
            return Err(Refused::VideoGone);
        }
        self.attempt = 0;
        self.failures = Failures::default();
        self.error = None;
        self.progress = 0.0;
        // A mail about the earlier end that has not left yet would only confuse.
        self.mail = self.mail.anew();
        self.queue(now, policy);
        Ok(())
    }

    fn delete(&mut self, now: Timestamp, policy: &Policy) {
        match self.state {
            State::Receiving | State::Queued | State::Converting | State::RetryWait => {
                self.state = State::Cancelled
            }
            State::Converted => self.state = State::Expired,
            State::Failed | State::Cancelled | State::Expired => {}
        }
        self.lease = None;
        self.deleted = true;
        self.file_name.clear();
        self.pending.clear();
        self.mail = self.mail.anew();
        self.drop_video();
        self.drop_mp3();
        self.expires = Some(later(now, policy.tombstone_kept));
    }

    fn time_up(&mut self, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        self.require(&[State::Converted, State::Failed, State::Cancelled])?;
        if self.expires.is_none_or(|at| at > now) {
            return Err(Refused::NotYet);
        }
        match self.state {
            State::Converted => {
                self.state = State::Expired;
                self.drop_mp3();
            }
            _ if self.video_is_kept() => self.drop_video(),
            // Nothing is left to go but the record itself.
            state => return Err(Refused::State(state)),
        }
        self.expires = Some(later(now, policy.tombstone_kept));
        Ok(())
    }

    fn published(&mut self, queue: Queue, now: Timestamp, policy: &Policy) -> Result<(), Refused> {
        let was_pending = self.pending.remove(&queue);
        let theirs = queue == Queue::Video && policy.neighbours.converter != Neighbour::Ours;
        if theirs {
            let until = later(now, policy.neighbours.handover);
            self.video_needed = Some(until);
            if self.state == State::Queued {
                self.handed_over = Some(until);
            }
        }
        if was_pending || theirs { Ok(()) } else { Err(Refused::State(self.state)) }
    }

    fn claim_mail(&mut self, worker: String, by_message: bool, now: Timestamp) -> Result<(), Refused> {
        let ours = self.mail.state == MailState::Pending;
        let theirs = self.mail.state == MailState::HandedOver;
        if !(ours || theirs && by_message) {
            return Err(Refused::State(self.state));
        }
        if self.mail.not_before.is_some_and(|at| at > now) {
            return Err(Refused::NotYet);
        }
        self.mail.state = MailState::Sending;
        self.mail.attempt += 1;
        self.mail.fence += 1;
        self.mail.not_before = None;
        self.mail.lease = Some(Lease { worker, beat: 0, writing: None });
        Ok(())
    }

    fn mail_ended(&mut self, fence: u64, state: MailState, error: Option<String>) -> Result<(), Refused> {
        self.mail_lease(fence)?;
        self.mail.state = state;
        self.mail.lease = None;
        self.mail.error = error;
        Ok(())
    }

    fn mail_failed(
        &mut self,
        fence: u64,
        text: String,
        permanent: bool,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<(), Refused> {
        let attempt = self.mail.attempt;
        if permanent || attempt >= policy.mail_attempts {
            return self.mail_ended(fence, MailState::Undeliverable, Some(text));
        }
        self.mail_ended(fence, MailState::Pending, Some(text))?;
        self.mail.not_before = Some(later(now, policy.wait(attempt, self.id)));
        Ok(())
    }

    fn mail_lease_lost(&mut self, fence: u64, beat: u64) -> Result<(), Refused> {
        if self.mail_lease(fence)?.beat != beat {
            return Err(Refused::Fence);
        }
        self.mail_ended(fence, MailState::Pending, None)
    }

    /// Into the queue, with a wake-up pending.
    fn queue(&mut self, now: Timestamp, policy: &Policy) {
        let neighbours = &policy.neighbours;
        // Where others take from the queue too, the wake-up comes first: a little while for it to be published.
        self.handed_over = (neighbours.converter != Neighbour::Ours)
            .then(|| later(now, neighbours.handover.min(SignedDuration::from_mins(1))));
        self.state = State::Queued;
        self.expires = None;
        self.progress = 0.0;
        self.pending.insert(Queue::Video);
    }

    /// The owner is to be told how it ended.
    pub(super) fn tell(&mut self) {
        self.mail = Mail { state: MailState::Pending, round: self.mail.round + 1, ..self.mail.anew() };
    }

    fn drop_video(&mut self) {
        if let Some(video) = self.video.as_mut().filter(|video| video.kept) {
            video.kept = false;
            self.intents.push(Blob::video(self.id));
        }
    }

    fn drop_mp3(&mut self) {
        if self.mp3.take().is_some()
            && let Some(mp3_fid) = self.mp3_fid
        {
            self.intents.push(Blob::mp3(mp3_fid));
        }
    }

    fn require(&self, states: &[State]) -> Result<(), Refused> {
        if states.contains(&self.state) { Ok(()) } else { Err(Refused::State(self.state)) }
    }

    fn held(&mut self, fence: u64) -> Result<&mut Lease, Refused> {
        match &mut self.lease {
            Some(lease) if self.fence == fence => Ok(lease),
            _ => Err(Refused::Fence),
        }
    }

    fn mail_lease(&mut self, fence: u64) -> Result<&mut Lease, Refused> {
        match &mut self.mail.lease {
            Some(lease) if self.mail.fence == fence => Ok(lease),
            _ => Err(Refused::Fence),
        }
    }
}

impl Mail {
    /// Nothing to tell, and nothing that an earlier round's notifier could still change.
    fn anew(&self) -> Mail {
        Mail { round: self.round, fence: self.fence, ..Mail::default() }
    }
}

/// A time so much later, or the end of time.
fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

impl Policy {
    /// The wait after the `count`th failure: doubling, capped, and spread by up to half so that jobs do not march in step.
    fn wait(&self, count: u32, id: Id) -> SignedDuration {
        let doubled = self.retry_wait.saturating_mul(2_i32.saturating_pow(count.saturating_sub(1).min(20)));
        let capped = doubled.min(self.retry_wait_max);
        capped - capped.mul_f64(id.spread() / 2.0)
    }
}

fn bump(count: &mut u32) -> u32 {
    *count = count.saturating_add(1);
    *count
}
