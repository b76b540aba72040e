//! What a stored MP3 is, read back from the store frame by frame.

use crate::{
    id::Id,
    job::Mp3,
    ports::{Blob, Blobs, PortError},
};
use aws_lc_rs::digest;
use futures_util::StreamExt;
use std::io::{self, Read};
use tokio::task::spawn_blocking;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// An MP3 that was walked to its last frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its size, its hash, its length; whether it has peaks.
    pub mp3: Mp3,
    /// Samples of sound, exactly.
    pub samples: u64,
}

/// Why a stored MP3 cannot be vouched for.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// There is none of this id.
    #[error("it is not there")]
    Missing,
    /// It is none, or not all of it.
    #[error("{0}")]
    Defect(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] PortError),
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Our engine made it: every frame and every sum must be as the engine wrote it.
    Ours,
    /// Another encoder made it: it must be an MP3.
    Other,
}

/// Reads the MP3 from its first byte to its last.
pub async fn look_at(blobs: &dyn Blobs, mp3_fid: Id, maker: Maker) -> Result<Stored, Unsound> {
    let blob = Blob::mp3(mp3_fid);
    let size = blobs.size(blob).await?.ok_or(Unsound::Missing)?;
    let bytes = blobs.read(blob, 0..size).await?;
    let bytes = bytes.map(|bytes| bytes.map_err(io::Error::other));
    let reader = SyncIoBridge::new(StreamReader::new(Box::pin(bytes)));
    let (checked, sha256) = spawn_blocking(move || {
        let mut reader = Hashing { reader, digest: digest::Context::new(&digest::SHA256) };
        let checked = match maker {
            Maker::Ours => engine::mp3::check(&mut reader),
            Maker::Other => engine::mp3::measure(&mut reader),
        };
        (checked, crate::hex(reader.digest.finish().as_ref()))
    })
    .await
    .map_err(|panic| Unsound::Defect(panic.to_string()))?;
    let facts = checked.map_err(|defect| match defect.source {
        // The reader's own error is the store's.
        Some(error) => Unsound::Store(match error.downcast::<PortError>() {
            Ok(error) => error,
            Err(error) => PortError::unavailable(format!("read {blob} back"), error),
        }),
        None => Unsound::Defect(defect.to_string()),
    })?;
    let duration =
        if facts.sample_rate == 0 { 0.0 } else { facts.samples as f64 / f64::from(facts.sample_rate) };
    let peaks = blobs.peaks(blob).await?.is_some();
    Ok(Stored { mp3: Mp3 { size, sha256, duration, peaks }, samples: facts.samples })
}

/// Hashes all that passes.
struct Hashing<R> {
    reader: R,
    digest: digest::Context,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}
