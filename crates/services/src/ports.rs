//! The ports: what the services ask of the world. Each has one contract suite (`ports::contract`) that every adapter passes.
//!
//! Callers mint the ids. Writes are idempotent where it is said so. Deleting what is not there is `Ok`.

#[cfg(feature = "contract")]
pub mod contract;

use crate::{
    id::Id,
    job::{Job, State, Task},
    message::{Message, Queue},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, ops::Range};

/// A backend failed. Code branches on the kind; people read the source.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct PortError {
    /// What to make of it.
    pub kind: PortErrorKind,
    /// What was being done.
    pub what: String,
    /// What the backend said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What to make of a backend's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortErrorKind {
    /// It may work later.
    Unavailable,
    /// There is no room left.
    Full,
    /// It will never work: the request itself is at fault.
    Refused,
}

impl PortError {
    /// A failure that may pass.
    pub fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        PortError { kind: PortErrorKind::Unavailable, what: what.into(), source: source.into() }
    }

    /// A failure of this kind.
    pub fn new(
        kind: PortErrorKind,
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        PortError { kind, what: what.into(), source: source.into() }
    }
}

/// What a port answers.
pub type PortResult<T> = Result<T, PortError>;

/// Did a compare-and-swap win?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lost swap means that nothing was written"]
pub enum Swap {
    /// It is written, durably.
    Won,
    /// Somebody else was faster, or the record is gone. Nothing is written.
    Lost,
}

/// What an owner's list of jobs is known again by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The newest's id.
    pub newest: Option<Id>,
    /// How many are listed.
    pub count: u64,
    /// The sum of their versions, which only grow.
    pub versions: u64,
}

/// What all records together say: for metrics, and for whoever decides how many workers there should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// How many records are in each state; states that no record is in may be missing.
    pub states: BTreeMap<State, u64>,
    /// Since when the longest waiting job that is due has been waiting.
    pub oldest_due: Option<Timestamp>,
    /// How many mails are due.
    pub mails_due: u64,
    /// How many wake-ups are to be published.
    pub unpublished: u64,
}

/// The job records. Every write is durable when it returns. An owner is the same whatever the case of its letters.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Is the store within reach?
    async fn ping(&self) -> PortResult<()>;
    /// Counts all records.
    async fn census(&self, now: Timestamp) -> PortResult<Census>;
    /// Adds a record. `Lost` where the id is taken.
    async fn insert(&self, job: &Job) -> PortResult<Swap>;
    /// The record with this id.
    async fn get(&self, id: Id) -> PortResult<Option<Job>>;
    /// The record whose `mp3_fid` this is. No two have the same.
    async fn by_mp3(&self, mp3_fid: Id) -> PortResult<Option<Job>>;
    /// Puts `job` in the place of the stored record if that one's version is `job.version - 1`.
    async fn replace(&self, job: &Job) -> PortResult<Swap>;
    /// Removes the record if its version is this one. `Lost` where it is another; `Won` where there is none.
    async fn remove(&self, id: Id, version: u64) -> PortResult<Swap>;
    /// Records of this owner that are not `deleted`, newest first; with `before`, only older ones than that id.
    async fn by_owner(&self, owner: &str, before: Option<Id>, limit: usize) -> PortResult<Vec<Job>>;
    /// A value that is another one whenever [`Jobs::by_owner`] would answer otherwise; cheap, to be asked for often.
    async fn stamp(&self, owner: &str) -> PortResult<Stamp>;
    /// How many of this owner's records are not ended.
    async fn count_active(&self, owner: &str) -> PortResult<u64>;
    /// Records for which `task` is due at `now` ([`Job::due`]), the longest due first.
    async fn due(&self, task: Task, now: Timestamp, limit: usize) -> PortResult<Vec<Job>>;
}

/// A place for files: videos and MP3s live apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    /// Uploaded videos.
    Videos,
    /// Finished MP3s, and those in the making.
    Mp3s,
}

/// The name of a file: its bucket and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Where.
    pub bucket: Bucket,
    /// Which.
    pub id: Id,
}

impl Blob {
    /// The video with this id.
    pub const fn video(id: Id) -> Blob {
        Blob { bucket: Bucket::Videos, id }
    }

    /// The MP3 with this id.
    pub const fn mp3(id: Id) -> Blob {
        Blob { bucket: Bucket::Mp3s, id }
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bucket {
            Bucket::Videos => write!(f, "videos/{}", self.id),
            Bucket::Mp3s => write!(f, "mp3s/{}", self.id),
        }
    }
}

/// The files. A file exists for readers from its commit on, whole; never before, never in part.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Begins a file. What an earlier writer of the same name left uncommitted is replaced.
    async fn create(&self, blob: Blob) -> PortResult<Box<dyn BlobWriter>>;
    /// A committed file's length; `None` where there is none.
    async fn size(&self, blob: Blob) -> PortResult<Option<u64>>;
    /// Was this file made by a Tapedeck? What is not there was not.
    async fn is_ours(&self, blob: Blob) -> PortResult<bool>;
    /// These bytes of a committed file, in order. A file that is not there, or ends early, is an error in the stream.
    async fn read(&self, blob: Blob, range: Range<u64>) -> PortResult<BoxStream<'static, PortResult<Bytes>>>;
    /// A committed file as the engine takes it; `None` where there is none.
    async fn engine_input(&self, blob: Blob) -> PortResult<Option<engine::Input>>;
    /// The peaks that were committed with a file; `None` where there are none, or no such file.
    async fn peaks(&self, blob: Blob) -> PortResult<Option<Bytes>>;
    /// Deletes the file with its peaks, and all that an unfinished writer left of it. Deleting what is not there is `Ok`.
    async fn delete(&self, blob: Blob) -> PortResult<()>;
    /// All that is stored in a bucket, committed or not, for audits.
    async fn list(&self, bucket: Bucket) -> PortResult<Vec<Id>>;
}

/// A file in the making. Dropped without a commit it leaves nothing that a reader could see.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends.
    async fn write(&mut self, bytes: Bytes) -> PortResult<()>;
    /// Overwrites bytes at the head, within the first [`HEAD`] bytes and within what was written.
    async fn rewrite_head(&mut self, offset: u64, bytes: Bytes) -> PortResult<()>;
    /// Gives an MP3 its peaks, a few KiB, to be committed with it; those of an earlier call are replaced.
    async fn set_peaks(&mut self, peaks: Bytes) -> PortResult<()>;
    /// Makes it durable, then visible. An error leaves it in doubt: delete it.
    async fn commit(self: Box<Self>) -> PortResult<()>;
}

/// How far into a file [`BlobWriter::rewrite_head`] reaches: one GridFS chunk.
pub const HEAD: u64 = 255 * 1024;

/// Queue messages: wake-ups, no more. A message may be lost, doubled or late without harm.
#[async_trait]
pub trait Wake: Send + Sync {
    /// Publishes; `Ok` when the queue has taken it and keeps it over a restart. `trace` is the W3C `traceparent` of whoever began
    /// the job.
    async fn publish(&self, queue: Queue, message: &Message, trace: Option<&str>) -> PortResult<()>;
    /// The next message, whenever it comes. Cancel-safe. What is no message at all never comes: it goes to the dead letters.
    async fn next(&self, queue: Queue) -> Delivery;
}

/// A message in hand. One that is dropped unsettled comes again, to somebody, some time.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The sender's `traceparent`, if there was one.
    pub trace: Option<String>,
    /// Tells the queue what became of it.
    pub settle: Box<dyn FnOnce(Settled) + Send>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is done with.
    Done,
    /// It could not be looked at just now: again, after a while.
    Later,
    /// It can never be followed: to the dead letters, with the reason.
    Dead(String),
}

/// A user's role. It decides what page and API allow; the `admin` claim of the wire contract does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Uploads, listens.
    User,
    /// An administrator; page and API make no difference yet.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::User => "user",
            Role::Admin => "admin",
        })
    }
}

/// A user's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The e-mail, as it was first written; found without regard to case.
    pub email: String,
    /// The password's hash, a PHC string; in a table that original services wrote, the password itself.
    pub password: String,
    /// What the user may do.
    pub role: Role,
}

/// The users.
#[async_trait]
pub trait Users: Send + Sync {
    /// Is the table within reach?
    async fn ping(&self) -> PortResult<()>;
    /// The user with this e-mail, upper or lower case alike.
    async fn find(&self, email: &str) -> PortResult<Option<User>>;
    /// Adds a user. `Lost` where the e-mail is taken.
    async fn add(&self, user: &User) -> PortResult<Swap>;
    /// Adds a user if there is none at all yet. `Lost` where there is one.
    async fn add_first(&self, user: &User) -> PortResult<Swap>;
    /// Sets a password's hash. `Lost` where there is no such user.
    async fn set_password(&self, email: &str, hash: &str) -> PortResult<Swap>;
    /// Puts a hash in the place of what is stored as the password now, if that is `known`. `Lost` where it is not.
    async fn replace_password(&self, email: &str, known: &str, hash: &str) -> PortResult<Swap>;
    /// All users, by e-mail.
    async fn list(&self) -> PortResult<Vec<User>>;
    /// Removes a user. Removing one who is not there is `Ok`.
    async fn remove(&self, email: &str) -> PortResult<()>;
}

/// A mail, ready to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The Message-ID without its angle brackets: the same mail has the same at every attempt.
    pub message_id: String,
    /// The recipient's address.
    pub to: String,
    /// The whole message, RFC 5322.
    pub text: Vec<u8>,
}

/// Where mails go.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands a mail over; `Ok` when the other side has taken it. Handing over the same `message_id` again may deliver it twice
    /// where the other side cannot tell, and never where it can. `Refused` means that no later attempt will be taken either.
    async fn send(&self, letter: &Letter) -> PortResult<()>;
}

/// A token's holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The e-mail, as the user's row stores it: the owner of jobs.
    pub email: String,
    /// What the user may do.
    pub role: Role,
}

/// Why there is no token, or no identity.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// E-mail or password are wrong; which one is not told.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// Too many wrong passwords lately.
    #[error("too many wrong passwords; try again in {seconds} seconds")]
    TooManyAttempts {
        /// Seconds to wait.
        seconds: u64,
    },
    /// The token is forged, expired, foreign, or its user is gone.
    #[error("not authorized")]
    NotAuthorized,
    /// Set-up is over, or its token is wrong.
    #[error("this set-up link is used up")]
    SetUpOver,
    /// What was given cannot be an account.
    #[error("{0}")]
    Unfit(String),
    /// The auth service or its store failed.
    #[error("sign-in is not available just now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<PortError> for AuthError {
    fn from(error: PortError) -> AuthError {
        AuthError::Unavailable(error.into())
    }
}

/// Auth, as the gateway sees it: a call, or HTTP.
#[async_trait]
pub trait Auth: Send + Sync {
    /// A token for e-mail and password. `client` (the peer's address) is whom failed attempts are counted against.
    async fn login(&self, email: &str, password: &str, client: &str) -> Result<String, AuthError>;
    /// Who holds this token.
    async fn validate(&self, token: &str) -> Result<Identity, AuthError>;
    /// Makes the first user, an admin, for the holder of the set-up token; answers with a token as `login` does.
    async fn set_up(&self, set_up_token: &str, email: &str, password: &str) -> Result<String, AuthError>;
}
