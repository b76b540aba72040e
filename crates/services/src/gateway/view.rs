//! A job as its owner sees it.

use crate::{
    id::Id,
    job::{Action, Failure, Job, MailState, State},
};
use jiff::Timestamp;
use serde::Serialize;

/// A job in the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobView {
    /// The video's id.
    pub id: Id,
    /// Where it stands.
    pub state: State,
    /// Progress of the conversion, 0 to 1.
    pub progress: f64,
    /// The uploaded file's name.
    pub file_name: String,
    /// The name that the MP3 is offered under.
    pub mp3_name: String,
    /// Bytes of the video, once received.
    pub size: Option<u64>,
    /// Why it failed, or why the last attempt did.
    pub error: Option<Failure>,
    /// The MP3's id, while there is an MP3.
    pub mp3_fid: Option<Id>,
    /// The MP3.
    pub mp3: Option<Mp3View>,
    /// The mail about how it ended, if there is one to send.
    pub mail: Option<MailView>,
    /// How often a conversion has begun.
    pub attempt: u32,
    /// What the owner may do now.
    pub actions: Vec<Action>,
    /// When the upload began.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When the next attempt begins, or the MP3 or the video goes.
    pub expires: Option<Timestamp>,
}

/// A mail in the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MailView {
    /// Where it stands.
    pub state: MailState,
    /// Why it could not be delivered, or why the last attempt failed.
    pub error: Option<String>,
}

/// An MP3 in the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mp3View {
    /// Bytes.
    pub size: u64,
    /// Seconds.
    pub duration: f64,
    /// SHA-256, hex.
    pub sha256: String,
    /// Are there peaks to be asked for?
    pub peaks: bool,
}

impl From<&Job> for JobView {
    fn from(job: &Job) -> JobView {
        let mp3 = job.mp3.as_ref();
        JobView {
            id: job.id,
            state: job.state,
            progress: job.progress,
            file_name: job.file_name.clone(),
            mp3_name: job.mp3_name(),
            size: job.video.as_ref().map(|video| video.size),
            error: job.error.clone(),
            mp3_fid: mp3.and(job.mp3_fid),
            mp3: mp3.map(|mp3| Mp3View {
                size: mp3.size,
                duration: mp3.duration,
                sha256: mp3.sha256.clone(),
                peaks: mp3.peaks,
            }),
            mail: (job.mail.state != MailState::None)
                .then(|| MailView { state: job.mail.state, error: job.mail.error.clone() }),
            attempt: job.attempt,
            actions: job.actions(),
            created: job.created,
            updated: job.updated,
            expires: job.expires,
        }
    }
}
