//! What parent and child say to each other on the control socket: one JSON value a line.

use std::io::{self, BufRead, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Layer, Sandbox};
use crate::{Code, Limits, Options, Progress, Summary};

/// The descriptor that the child finds its end at.
pub(super) const CONTROL: i32 = 3;

/// No message is longer: a head of a few KiB as JSON numbers is the longest.
pub(super) const LONGEST: usize = 512 * 1024;

/// The one message of the parent; after it, the closing of the socket means: give up.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub video: Video,
    pub options: Options,
    pub limits: Limits,
    pub sandbox: Sandbox,
    pub layers: Vec<Layer>,
}

/// What the child finds at descriptor 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Video {
    /// The file itself.
    File,
    /// A socket, at whose other end the parent serves it: see `ranges`.
    Ranges,
}

/// A message of the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// The request is understood and the process is confined. Before this, nothing of the video is touched.
    Ready,
    /// How far it is, and a sign of life.
    Progress {
        fraction: f64,
        converted: f64,
    },
    /// Bytes to write over the head, once all are sent.
    Head {
        offset: u64,
        bytes: Vec<u8>,
    },
    Done(Summary),
    Failed {
        code: Code,
        text: String,
        detail: Option<String>,
    },
}

impl From<Progress> for Message {
    fn from(progress: Progress) -> Message {
        Message::Progress { fraction: progress.fraction, converted: progress.converted.as_secs_f64() }
    }
}

pub(super) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Blocks for one line.
pub(super) fn receive<T: DeserializeOwned>(from: impl io::Read) -> io::Result<T> {
    let mut line = Vec::new();
    io::BufReader::with_capacity(4096, from.take(LONGEST as u64)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}
