//! Reads a file as a stream: the chunks of a range, batch by batch, the next one fetched while the last is passed on.

use super::bucket::{Facts, GridBucket};
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use services::ports::{PortError, PortResult};
use std::{ops::Range, sync::Arc};
use tokio_util::task::AbortOnDropHandle;

/// These bytes of a file, which has as many.
pub(super) fn stream(
    bucket: Arc<GridBucket>,
    facts: Facts,
    bytes: Range<u64>,
) -> BoxStream<'static, PortResult<Bytes>> {
    if bytes.is_empty() {
        return stream::empty().boxed();
    }
    let wanted = facts.holding(&bytes);
    let mut reading = Reading { bucket, facts, wanted, ahead: None };
    reading.fetch();
    let batches = stream::try_unfold(reading, Reading::next);
    let pieces = batches.flat_map(|batch| match batch {
        Ok((first, chunks)) => stream::iter((first..).zip(chunks)).map(Ok).left_stream(),
        Err(error) => stream::once(async { Err(error) }).right_stream(),
    });
    pieces.map(move |piece: PortResult<_>| piece.map(|(n, chunk)| part(&facts, n, &chunk, &bytes))).boxed()
}

/// A batch: the number of its first chunk, and its chunks.
type Batch = (u64, Vec<Bytes>);

struct Reading {
    bucket: Arc<GridBucket>,
    facts: Facts,
    /// Chunks that are not fetched yet.
    wanted: Range<u64>,
    ahead: Option<AbortOnDropHandle<PortResult<Batch>>>,
}

impl Reading {
    fn fetch(&mut self) {
        if self.wanted.is_empty() {
            return;
        }
        let first = self.wanted.start;
        let end = self.wanted.end.min(first.saturating_add(self.facts.batch()));
        self.wanted.start = end;
        let (bucket, facts) = (Arc::clone(&self.bucket), self.facts);
        let fetched = async move { bucket.chunks(&facts, first..end).await.map(|chunks| (first, chunks)) };
        self.ahead = Some(AbortOnDropHandle::new(tokio::spawn(fetched)));
    }

    async fn next(mut self) -> PortResult<Option<(Batch, Reading)>> {
        let Some(ahead) = self.ahead.take() else { return Ok(None) };
        let batch = ahead
            .await
            .map_err(|error| PortError::unavailable(format!("read {}", self.facts.blob), error))??;
        self.fetch();
        Ok(Some((batch, self)))
    }
}

/// What of chunk `n` lies within `bytes`.
fn part(facts: &Facts, n: u64, chunk: &Bytes, bytes: &Range<u64>) -> Bytes {
    let at = facts.bytes_of(n);
    let within =
        |offset: u64| usize::try_from(offset.clamp(at.start, at.end) - at.start).unwrap_or(chunk.len());
    chunk.slice(within(bytes.start)..within(bytes.end))
}
