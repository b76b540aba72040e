//! One GridFS bucket: its three collections, and how a file is looked up and its chunks are read.
//!
//! Files of other writers are read as they are: without a file name, with another chunk size, with numbers of any BSON type.

use super::{
    attempt::{FOR_FILES, Failure, call, patiently},
    make_indexes, object_id,
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, doc};
use bytes::Bytes;
use futures_util::TryStreamExt;
use mongodb::{Collection, Database, IndexModel, options::IndexOptions};
use services::ports::{Blob, Bucket, HEAD, PortResult};
use std::ops::Range;

/// What a files document's metadata says in `by` where a writer of ours made it.
pub(super) const BY: &str = "tapedeck";

/// The chunk size of every driver and of the original services, and so of ours.
pub(super) const CHUNK: usize = 255 * 1024;
/// Chunk 0 is what [`services::ports::BlobWriter::rewrite_head`] reaches.
const _: () = assert!(CHUNK as u64 == HEAD);

/// How much one query fetches, about. A slow reader holds twice as much; more is hardly faster.
const BATCH: u64 = 2 * 1024 * 1024;
/// How many chunks one query fetches at most, however small they are.
const BATCH_CHUNKS: u64 = 1000;

/// The collections of a bucket.
#[derive(Debug, Clone)]
pub(super) struct GridBucket {
    pub(super) bucket: Bucket,
    /// `{_id, length, chunkSize, uploadDate}` and more: a file exists from this document on.
    pub(super) files: Collection<RawDocumentBuf>,
    /// `{_id, files_id, n, data}`.
    pub(super) chunks: Collection<RawDocumentBuf>,
    /// `{_id, writer, since}`: files in the making. Not of GridFS; other drivers do not look at it.
    pub(super) drafts: Collection<RawDocumentBuf>,
}

/// What a files document says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) blob: Blob,
    pub(super) length: u64,
    chunk_size: u64,
}

impl GridBucket {
    pub(super) fn new(database: &Database, bucket: Bucket) -> GridBucket {
        GridBucket {
            bucket,
            files: database.collection("fs.files"),
            chunks: database.collection("fs.chunks"),
            drafts: database.collection("fs.drafts"),
        }
    }

    /// Makes the indexes that every GridFS driver makes, where they are missing.
    pub(super) async fn ensure_indexes(&self) -> PortResult<()> {
        let unique = IndexOptions::builder().unique(true).build();
        let parts = IndexModel::builder().keys(doc! { "files_id": 1, "n": 1 }).options(unique).build();
        make_indexes(&self.chunks, &[parts]).await?;
        make_indexes(
            &self.files,
            &[IndexModel::builder().keys(doc! { "filename": 1, "uploadDate": 1 }).build()],
        )
        .await
    }

    /// What is known of a committed file.
    pub(super) async fn facts(&self, blob: Blob) -> PortResult<Option<Facts>> {
        let what = format!("look for {blob}");
        let found = patiently(&what, FOR_FILES, |_| async {
            let found = self.files.find_one(doc! { "_id": object_id(blob.id) });
            call(found.projection(doc! { "length": 1, "chunkSize": 1 })).await
        });
        let Some(found) = found.await? else { return Ok(None) };
        let number = |key| found.get(key).ok().flatten().and_then(whole);
        match (number("length"), number("chunkSize")) {
            (Some(length), Some(chunk_size)) if chunk_size > 0 || length == 0 => {
                Ok(Some(Facts { blob, length, chunk_size: chunk_size.max(1) }))
            }
            _ => Err(damaged(blob, "its files document has no length and chunkSize that make sense")),
        }
    }

    /// Does the metadata say that a writer of ours made it?
    pub(super) async fn is_ours(&self, blob: Blob) -> PortResult<bool> {
        let what = format!("look who made {blob}");
        let ours = doc! { "_id": object_id(blob.id), "metadata.by": BY };
        let ours = &ours;
        let found = patiently(&what, FOR_FILES, |_| async move {
            call(self.files.find_one(ours.clone()).projection(doc! { "_id": 1 })).await
        });
        Ok(found.await?.is_some())
    }

    /// The peaks in the metadata of a committed file; `None` where another writer made it, or has put something else there.
    pub(super) async fn peaks(&self, blob: Blob) -> PortResult<Option<Bytes>> {
        let what = format!("read the peaks of {blob}");
        let found = patiently(&what, FOR_FILES, |_| async {
            let found = self.files.find_one(doc! { "_id": object_id(blob.id) });
            call(found.projection(doc! { "metadata.peaks": 1 })).await
        });
        let Some(found) = found.await? else { return Ok(None) };
        let peaks = found.get_document("metadata").ok().and_then(|about| about.get_binary("peaks").ok());
        Ok(peaks.map(|peaks| Bytes::copy_from_slice(peaks.bytes)))
    }

    /// Chunks of a file, in order.
    pub(super) async fn chunks(&self, facts: &Facts, wanted: Range<u64>) -> PortResult<Vec<Bytes>> {
        let what = format!("read {}", facts.blob);
        patiently(&what, FOR_FILES, |_| async { call(self.query(facts, wanted.clone())).await? }).await
    }

    async fn query(
        &self,
        facts: &Facts,
        wanted: Range<u64>,
    ) -> mongodb::error::Result<Result<Vec<Bytes>, Failure>> {
        let (first, end) = (signed(wanted.start), signed(wanted.end));
        let filter = doc! { "files_id": object_id(facts.blob.id), "n": { "$gte": first, "$lt": end } };
        let mut found = self
            .chunks
            .find(filter)
            .sort(doc! { "n": 1 })
            .projection(doc! { "_id": 0, "n": 1, "data": 1 })
            .await?;
        let mut chunks = Vec::new();
        for n in wanted {
            if !found.advance().await? {
                return Ok(Err(Failure::Final(damaged(facts.blob, format!("chunk {n} is missing")))));
            }
            match facts.chunk(n, found.current()) {
                Ok(chunk) => chunks.push(chunk),
                Err(why) => return Ok(Err(Failure::Final(damaged(facts.blob, why)))),
            }
        }
        Ok(Ok(chunks))
    }

    /// All ids that this search finds in a collection, under `field`.
    pub(super) async fn ids(
        &self,
        collection: &Collection<RawDocumentBuf>,
        stages: impl IntoIterator<Item = bson::Document> + Send,
    ) -> Result<Vec<services::id::Id>, Failure> {
        let found = collection.aggregate(stages);
        let found: Vec<bson::Document> =
            super::attempt::long_call(async { found.await?.try_collect().await }).await?;
        // Another writer may name its files otherwise than by an ObjectId: they are none of ours.
        Ok(found.iter().filter_map(|one| one.get_object_id("_id").ok().map(super::id_of)).collect())
    }
}

impl Facts {
    /// The chunks that hold these bytes.
    pub(super) fn holding(&self, bytes: &Range<u64>) -> Range<u64> {
        bytes.start / self.chunk_size..bytes.end.div_ceil(self.chunk_size)
    }

    /// How many chunks one query fetches.
    pub(super) fn batch(&self) -> u64 {
        (BATCH / self.chunk_size).clamp(1, BATCH_CHUNKS)
    }

    /// The bytes that chunk `n` holds.
    pub(super) fn bytes_of(&self, n: u64) -> Range<u64> {
        let start = n.saturating_mul(self.chunk_size);
        start..start.saturating_add(self.chunk_size).min(self.length)
    }

    /// The number of chunks.
    pub(super) fn count(&self) -> u64 {
        self.length.div_ceil(self.chunk_size)
    }

    fn chunk(&self, n: u64, found: &RawDocument) -> Result<Bytes, String> {
        if found.get("n").ok().flatten().and_then(whole) != Some(n) {
            return Err(format!("chunk {n} is missing"));
        }
        let bytes =
            found.get_binary("data").map_err(|error| format!("chunk {n} holds no bytes: {error}"))?.bytes;
        let expected = self.bytes_of(n);
        if bytes.len() as u64 != expected.end - expected.start {
            return Err(format!(
                "chunk {n} has {} bytes instead of {}",
                bytes.len(),
                expected.end - expected.start
            ));
        }
        Ok(Bytes::copy_from_slice(bytes))
    }
}

fn damaged(blob: Blob, why: impl Into<String>) -> services::ports::PortError {
    let why = format!("{}: it is damaged, or was deleted while it was read", why.into());
    services::ports::PortError::new(services::ports::PortErrorKind::Refused, format!("read {blob}"), why)
}

/// A whole number, of whichever type a driver or a shell wrote it.
fn whole(value: RawBsonRef<'_>) -> Option<u64> {
    match value {
        RawBsonRef::Int32(number) => u64::try_from(number).ok(),
        RawBsonRef::Int64(number) => u64::try_from(number).ok(),
        // Every whole number below 2^53 is exact; no file is longer.
        RawBsonRef::Double(number) if number.fract() == 0.0 && (0.0..9e15).contains(&number) => {
            Some(number as u64)
        }
        _ => None,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
