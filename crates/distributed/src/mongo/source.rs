//! A file in GridFS as the engine reads it: at any offset, from a plain thread.

use super::bucket::{Facts, GridBucket};
use bytes::Bytes;
use engine::Source;
use services::ports::PortResult;
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::Duration,
};
use tokio::runtime::Handle;

/// How many batches are kept: where a reader goes to and fro between two places, each keeps its own.
const KEPT: usize = 3;

/// Longer than a batch is tried for: a reader that gets no answer at all must not wait for ever.
const SILENCE: Duration = Duration::from_secs(40);

/// A committed file, read in batches, one of them ahead while it is read in order.
///
/// It may be read from any thread that is not the runtime's own: a read waits for the network. Where the runtime is gone, reading
/// is an error.
pub struct GridFsSource {
    bucket: Arc<GridBucket>,
    facts: Facts,
    runtime: Handle,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// The batches read last, each with its number; the latest used is at the back.
    batches: VecDeque<(u64, Vec<Bytes>)>,
    /// The batch being read ahead.
    ahead: Option<(u64, Receiver<PortResult<Vec<Bytes>>>)>,
}

impl GridFsSource {
    /// To be made on the runtime that is to do the reading.
    pub(super) fn new(bucket: Arc<GridBucket>, facts: Facts) -> GridFsSource {
        GridFsSource { bucket, facts, runtime: Handle::current(), cache: Mutex::default() }
    }

    fn fetch(&self, batch: u64) -> Receiver<PortResult<Vec<Bytes>>> {
        let (sender, receiver) = mpsc::channel();
        let (bucket, facts) = (Arc::clone(&self.bucket), self.facts);
        let first = batch * facts.batch();
        let wanted = first..facts.count().min(first + facts.batch());
        self.runtime.spawn(async move {
            // Nobody may be waiting any more.
            let _ = sender.send(bucket.chunks(&facts, wanted).await);
        });
        receiver
    }

    /// The chunk `n`; its batch is the latest used afterwards.
    fn chunk(&self, cache: &mut Cache, n: u64) -> io::Result<Bytes> {
        let (batch, within) =
            (n / self.facts.batch(), usize::try_from(n % self.facts.batch()).map_err(io::Error::other)?);
        if let Some(at) = cache.batches.iter().position(|(known, _)| *known == batch) {
            let known = cache.batches.remove(at);
            cache.batches.extend(known);
        } else {
            let in_order = cache.batches.back().is_some_and(|(last, _)| last + 1 == batch);
            let coming = match cache.ahead.take() {
                Some((known, coming)) if known == batch => coming,
                _ => self.fetch(batch),
            };
            let chunks = received(&coming)?;
            if in_order && (batch + 1) * self.facts.batch() < self.facts.count() {
                cache.ahead = Some((batch + 1, self.fetch(batch + 1)));
            }
            if cache.batches.len() == KEPT {
                cache.batches.pop_front();
            }
            cache.batches.push_back((batch, chunks));
        }
        let chunk = cache.batches.back().and_then(|(_, chunks)| chunks.get(within));
        chunk.cloned().ok_or_else(|| io::Error::other("a chunk is missing from its batch"))
    }
}

fn received(coming: &Receiver<PortResult<Vec<Bytes>>>) -> io::Result<Vec<Bytes>> {
    match coming.recv_timeout(SILENCE) {
        Ok(Ok(chunks)) => Ok(chunks),
        Ok(Err(error)) => Err(io::Error::other(format!("{error}: {}", error.source))),
        Err(RecvTimeoutError::Timeout) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "MongoDB did not answer in time"))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("this process is ending")),
    }
}

impl Source for GridFsSource {
    fn len(&self) -> io::Result<u64> {
        Ok(self.facts.length)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = self.facts.length.min(offset.saturating_add(buf.len() as u64));
        if offset >= end {
            return Ok(0);
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        for n in self.facts.holding(&(offset..end)) {
            let chunk = self.chunk(&mut cache, n)?;
            let start = self.facts.bytes_of(n).start;
            let at = offset.max(start) - start;
            let rest = chunk.get(usize::try_from(at).map_err(io::Error::other)?..).unwrap_or_default();
            let length = rest.len().min(buf.len() - done);
            buf[done..done + length].copy_from_slice(&rest[..length]);
            done += length;
        }
        Ok(done)
    }
}
