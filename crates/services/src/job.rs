//! The job: one video's record, from the first byte received to the last file deleted. Pure: no I/O, no clock.
//!
//! A transition is `(record, event, now) -> record | refused`. What remains to be done for a record ([`Job::due`],
//! [`Job::garbage`], [`Job::pending`]) is computed from the record alone, so that a process that dies between two
//! steps leaves nothing that the next one cannot see.

#[cfg(test)]
mod proofs;
mod transitions;

pub use transitions::{Event, Refused, Verdict};

use crate::{
    id::Id,
    message::{Message, Queue},
    ports::Blob,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt};

/// The record of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The video's id; the job's key everywhere.
    pub id: Id,
    /// The owner's e-mail, as the user's row stores it.
    pub owner: String,
    /// The uploaded file's name: its last part only.
    pub file_name: String,
    /// What was received, once all of it was.
    pub video: Option<Video>,
    /// What to convert to.
    pub options: engine::Options,
    /// Where the job stands.
    pub state: State,
    /// How often a conversion has begun, since the last retry by the owner.
    pub attempt: u32,
    /// Grows with every claim; whoever holds an older one, or one whose lease is gone, may change nothing.
    pub fence: u64,
    /// Who works on it (receives, converts), while somebody does.
    pub lease: Option<Lease>,
    /// Progress of the conversion, `0.0..=1.0`.
    pub progress: f64,
    /// How attempts have ended so far.
    pub failures: Failures,
    /// Files that may exist on this job's account beside the kept video and the MP3: written or not, won or lost.
    pub intents: Vec<Blob>,
    /// The MP3's id, once it is verified.
    pub mp3_fid: Option<Id>,
    /// The MP3, once it is verified.
    pub mp3: Option<Mp3>,
    /// Queues on which a wake-up is still to be published.
    pub pending: BTreeSet<Queue>,
    /// The mail about how it ended.
    pub mail: Mail,
    /// Why it failed.
    pub error: Option<Failure>,
    /// Every state it went through.
    pub history: Vec<Passage>,
    /// The id of the request that brought it.
    pub request_id: String,
    /// The W3C `traceparent` of the request that brought it: all that is done for the job is told under it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace: Option<String>,
    /// Keys of the message that brought it which we do not know; they pass through.
    #[serde(skip_serializing_if = "Map::is_empty", default)]
    pub others: Map<String, Value>,
    /// Until then a neighbour that is not ours may hold the wake-up: only who has the message takes the job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_over: Option<Timestamp>,
    /// Until then a neighbour that is not ours may look for the video: it stays, though nobody of ours needs it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub video_needed: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When the present state's time is up: a retry begins, an MP3 or a video goes, a tombstone goes.
    pub expires: Option<Timestamp>,
    /// The owner deleted it: it is shown no more.
    pub deleted: bool,
    /// Grows by one with every change: the compare in compare-and-swap.
    pub version: u64,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The video is being uploaded. Nothing has been promised yet.
    Receiving,
    /// Accepted; waits for a converter.
    Queued,
    /// A converter works on it.
    Converting,
    /// An attempt failed for a reason that may pass; waits for the next.
    RetryWait,
    /// The MP3 is there.
    Converted,
    /// It ended without an MP3, and the owner was told why.
    Failed,
    /// The owner stopped it.
    Cancelled,
    /// The MP3 was deleted: its time was up, or the owner wanted it so.
    Expired,
}

impl State {
    /// All of them.
    pub const ALL: [State; 8] = [
        State::Receiving,
        State::Queued,
        State::Converting,
        State::RetryWait,
        State::Converted,
        State::Failed,
        State::Cancelled,
        State::Expired,
    ];

    /// Its name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Receiving => "receiving",
            State::Queued => "queued",
            State::Converting => "converting",
            State::RetryWait => "retry_wait",
            State::Converted => "converted",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
        }
    }

    /// Nobody will work on it any more, unless its owner asks.
    pub fn is_ended(self) -> bool {
        matches!(self, State::Converted | State::Failed | State::Cancelled | State::Expired)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An uploaded video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Video {
    /// Bytes.
    pub size: u64,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
    /// Is the file still kept? It goes when the MP3 is verified.
    pub kept: bool,
}

/// A finished, verified MP3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mp3 {
    /// Bytes.
    pub size: u64,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
    /// Seconds of sound.
    pub duration: f64,
    /// Are there peaks of it? Older records do not say, and get no picture.
    #[serde(default)]
    pub peaks: bool,
}

/// Who works on a job, and the sign of life: a lease is lost when its beat is seen unchanged for too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The process that holds it.
    pub worker: String,
    /// Grows every second while the worker lives.
    pub beat: u64,
    /// The MP3 being written under this lease.
    pub writing: Option<Id>,
}

/// How attempts ended, by kind; each kind has its own limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// A store or a spawn failed.
    pub transient: u32,
    /// The engine process crashed or hung.
    pub suspect: u32,
    /// The worker vanished.
    pub lost: u32,
}

/// Why a job failed: the code is stable, the text is for the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable kebab-case code.
    pub code: String,
    /// What failed, why, and what to do.
    pub text: String,
}

/// The mail that tells the owner how the job ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Where it stands.
    pub state: MailState,
    /// How often it was tried, this round.
    pub attempt: u32,
    /// Grows with every claim and in no round starts again: a notifier that holds an older one may change nothing.
    pub fence: u64,
    /// How often the job has ended: each ending has its own mail and its own Message-ID.
    pub round: u32,
    /// The notifier at work on it.
    pub lease: Option<Lease>,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// Why it could not be delivered.
    pub error: Option<String>,
}

/// Where a mail stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailState {
    /// There is nothing to tell.
    #[default]
    None,
    /// To be sent.
    Pending,
    /// A notifier has it.
    Sending,
    /// A neighbour that is not ours was told of it by its queue message: it is that one's, or whose hands the message comes into.
    HandedOver,
    /// The mail server took it.
    Sent,
    /// It was refused for good.
    Undeliverable,
}

/// An entry of a job's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// When.
    pub at: Timestamp,
    /// Into which state.
    pub to: State,
    /// Why, where the state alone does not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// Who converts, and who notifies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Neighbour {
    /// Our own services alone.
    #[default]
    Ours,
    /// An original service alone.
    Original,
    /// Both take from one queue.
    Mixed,
}

/// The services of others beside ours. What they hold of a queue, we cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbours {
    /// Who converts.
    pub converter: Neighbour,
    /// Who notifies.
    pub notification: Neighbour,
    /// A message that the broker has taken is theirs for so long.
    pub handover: SignedDuration,
}

impl Default for Neighbours {
    fn default() -> Neighbours {
        Neighbours {
            converter: Neighbour::Ours,
            notification: Neighbour::Ours,
            handover: SignedDuration::from_hours(6),
        }
    }
}

/// How long, how often: the times and counts of a job's life.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How often a reason that may pass is tried.
    pub transient_attempts: u32,
    /// How often a video that crashes the engine is tried.
    pub suspect_attempts: u32,
    /// How often a job may lose its worker.
    pub lost_attempts: u32,
    /// How often a mail is tried.
    pub mail_attempts: u32,
    /// The first wait before a retry; it doubles from there.
    pub retry_wait: SignedDuration,
    /// The longest wait before a retry.
    pub retry_wait_max: SignedDuration,
    /// How long an MP3 is kept.
    pub mp3_kept: SignedDuration,
    /// How long the video of a failed or cancelled job is kept, for a retry.
    pub failed_video_kept: SignedDuration,
    /// How long an ended record is kept, so that a late message finds its end.
    pub tombstone_kept: SignedDuration,
    /// The services of others.
    pub neighbours: Neighbours,
}

impl Default for Policy {
    fn default() -> Policy {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        Policy {
            // More than half an hour of a full disk, hours of an absent mail server.
            transient_attempts: 16,
            suspect_attempts: 2,
            lost_attempts: 20,
            mail_attempts: 48,
            retry_wait: SignedDuration::from_secs(2),
            retry_wait_max: SignedDuration::from_mins(5),
            mp3_kept: days(30),
            failed_video_kept: days(7),
            tombstone_kept: days(30),
            neighbours: Neighbours::default(),
        }
    }
}

/// What a service looks for in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// A job to convert.
    Convert,
    /// A wake-up to publish.
    Publish,
    /// A mail to send.
    Mail,
    /// A lease to watch, a file to delete, a time that is up.
    Sweep,
}

impl Task {
    /// All four.
    pub const ALL: [Task; 4] = [Task::Convert, Task::Publish, Task::Mail, Task::Sweep];
}

/// What one may ask of a job through page and API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Stop it.
    Cancel,
    /// Try once more.
    Retry,
    /// Remove it with all its files.
    Delete,
    /// Listen to the MP3.
    Listen,
}

impl Job {
    /// A new record, made before the first byte of the video is written. The receiver holds fence 1.
    pub fn receiving(
        id: Id,
        owner: String,
        file_name: String,
        worker: String,
        request_id: String,
        now: Timestamp,
    ) -> Job {
        Job {
            id,
            owner,
            file_name,
            video: None,
            options: engine::Options::default(),
            state: State::Receiving,
            attempt: 0,
            fence: 1,
            lease: Some(Lease { worker, beat: 0, writing: None }),
            progress: 0.0,
            failures: Failures::default(),
            intents: vec![Blob::video(id)],
            mp3_fid: None,
            mp3: None,
            pending: BTreeSet::new(),
            mail: Mail::default(),
            error: None,
            history: vec![Passage { at: now, to: State::Receiving, why: None }],
            request_id,
            trace: None,
            others: Map::new(),
            handed_over: None,
            video_needed: None,
            created: now,
            updated: now,
            expires: None,
            deleted: false,
            version: 1,
        }
    }

    /// The file name that the MP3 is offered under.
    pub fn mp3_name(&self) -> String {
        let stem = self.file_name.rsplit_once('.').map_or(self.file_name.as_str(), |(stem, _)| stem);
        format!("{}.mp3", if stem.is_empty() { &self.file_name } else { stem })
    }

    /// A job whose video somebody else stored, and told of by a queue message: queued, and converted as the originals do.
    pub fn adopted(message: &Message, file_name: String, size: u64, now: Timestamp) -> Job {
        let new = Job::receiving(
            message.video_fid,
            message.username.clone(),
            file_name,
            String::new(),
            "adopted".into(),
            now,
        );
        Job {
            video: Some(Video { size, sha256: String::new(), kept: true }),
            options: engine::Options { preset: engine::Preset::Original, ..Default::default() },
            state: State::Queued,
            lease: None,
            intents: Vec::new(),
            history: vec![Passage { at: now, to: State::Queued, why: Some("adopted".into()) }],
            others: message.others.clone(),
            ..new
        }
    }

    /// A job that others did: video and MP3 are theirs, the MP3 is there and looked at. With `tell`, its owner is told by us.
    pub fn adopted_done(
        queued: Job,
        mp3_fid: Id,
        mp3: Mp3,
        tell: bool,
        now: Timestamp,
        policy: &Policy,
    ) -> Job {
        let mut job = queued;
        job.end_converted(mp3_fid, mp3, now, policy);
        if tell {
            job.tell();
        }
        job.history.push(Passage { at: now, to: job.state, why: None });
        job
    }

    /// Files that no one needs any more; each stays in `intents` until its deletion is confirmed.
    pub fn garbage(&self, now: Timestamp) -> Vec<Blob> {
        let live = match self.state {
            State::Receiving => Some(Blob::video(self.id)),
            State::Converting => self.lease.as_ref().and_then(|lease| lease.writing).map(Blob::mp3),
            _ => None,
        };
        let held = self.video_needed.filter(|until| *until > now).map(|_| Blob::video(self.id));
        self.intents.iter().copied().filter(|blob| Some(*blob) != live && Some(*blob) != held).collect()
    }

    /// All that this job's owner may do now.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.state {
            State::Receiving => {}
            State::Queued | State::Converting | State::RetryWait => actions.push(Action::Cancel),
            State::Converted => actions.extend([Action::Listen, Action::Delete]),
            State::Failed | State::Cancelled => {
                if self.video_is_kept() {
                    actions.push(Action::Retry);
                }
                actions.push(Action::Delete);
            }
            State::Expired => actions.push(Action::Delete),
        }
        actions
    }

    /// Is the uploaded file still there?
    pub fn video_is_kept(&self) -> bool {
        self.video.as_ref().is_some_and(|video| video.kept)
    }

    /// A promise was given for it: the upload was answered, or may have been.
    pub fn is_accepted(&self) -> bool {
        self.video.is_some()
    }

    /// When it came into its present state.
    pub fn since(&self) -> Timestamp {
        self.history.last().map_or(self.created, |passage| passage.at)
    }

    /// The Message-ID's left part: the same at every attempt, another for every ending.
    pub fn mail_id(&self) -> String {
        format!("{}.{}.{}", self.id, self.state, self.mail.round)
    }

    /// When this task falls due for this record, if it does. The start of time means: at once.
    pub fn due(&self, task: Task) -> Option<Timestamp> {
        const NOW: Option<Timestamp> = Some(Timestamp::UNIX_EPOCH);
        match task {
            Task::Convert => match self.state {
                State::Queued => self.handed_over.or(Some(self.since())),
                State::RetryWait => self.expires,
                _ => None,
            },
            Task::Publish if self.pending.is_empty() => None,
            Task::Publish => NOW,
            Task::Mail if self.mail.state == MailState::Pending => {
                self.mail.not_before.or(Some(self.since()))
            }
            Task::Mail => None,
            Task::Sweep => {
                let watched = self.lease.is_some() || self.mail.lease.is_some();
                let held = self.video_needed.filter(|_| self.intents.contains(&Blob::video(self.id)));
                if watched || self.is_discarded() || !self.garbage(Timestamp::MIN).is_empty() {
                    NOW
                } else if held.is_some() {
                    held
                } else if self.state.is_ended() {
                    self.expires
                } else {
                    None
                }
            }
        }
    }

    /// An upload that never was accepted and has left nothing behind: the record may go.
    pub fn is_discarded(&self) -> bool {
        self.state == State::Cancelled && !self.is_accepted() && self.intents.is_empty()
    }
}
