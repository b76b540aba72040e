//! Videos and MP3s in GridFS, bucket `fs` of two databases, as every driver and the original services read and write them.
//!
//! `fs.files` is what exists. `fs.chunks` without a files document are a file in the making, which has a document in `fs.drafts`, or
//! orphans of a writer that died: [`GridFs::collect_orphans`] deletes them.

use super::{
    GridFsSource, Mongo,
    attempt::{FOR_FILES, call, patiently},
    bucket::{Facts, GridBucket},
    object_id, reading, writer,
};
use async_trait::async_trait;
use bson::doc;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use services::{
    id::Id,
    ports::{Blob, BlobWriter, Blobs, Bucket, PortError, PortErrorKind, PortResult},
};
use std::{ops::Range, sync::Arc};

/// The files of two databases.
#[derive(Debug, Clone)]
pub struct GridFs {
    videos: Arc<GridBucket>,
    mp3s: Arc<GridBucket>,
}

impl GridFs {
    /// The files in bucket `fs` of these databases; with the original services they are `videos` and `mp3s`.
    pub fn new(mongo: &Mongo, videos: &str, mp3s: &str) -> GridFs {
        let bucket = |name, bucket| Arc::new(GridBucket::new(&mongo.database(name), bucket));
        GridFs { videos: bucket(videos, Bucket::Videos), mp3s: bucket(mp3s, Bucket::Mp3s) }
    }

    /// Makes the indexes that every GridFS driver makes, where they are missing.
    pub async fn ensure_indexes(&self) -> PortResult<()> {
        self.videos.ensure_indexes().await?;
        self.mp3s.ensure_indexes().await
    }

    /// Deletes chunks and drafts of files that were begun before `time`, have no files document, and whose writers have given no
    /// sign of life since; says how many such files there were. What has a files document is not touched.
    ///
    /// A writer of ours gives a sign of life every minute; another driver's gives none, and when its file was begun is known by
    /// the id alone: `time` must lie further back than any upload takes.
    pub async fn collect_orphans(&self, time: Timestamp) -> PortResult<u64> {
        Ok(self.videos.collect_orphans(time).await? + self.mp3s.collect_orphans(time).await?)
    }

    /// A committed file, to be read at any offset from a plain thread; `None` where there is none.
    pub async fn source(&self, blob: Blob) -> PortResult<Option<GridFsSource>> {
        let bucket = self.bucket(blob.bucket);
        Ok(bucket.facts(blob).await?.map(|facts| GridFsSource::new(Arc::clone(bucket), facts)))
    }

    fn bucket(&self, bucket: Bucket) -> &Arc<GridBucket> {
        match bucket {
            Bucket::Videos => &self.videos,
            Bucket::Mp3s => &self.mp3s,
        }
    }
}

fn within(facts: Option<Facts>, blob: Blob, range: &Range<u64>) -> PortResult<Facts> {
    let why = match facts {
        Some(facts) if range.end <= facts.length => return Ok(facts),
        Some(facts) => format!("it has {} bytes, and {} are asked for", facts.length, range.end),
        None => "there is no such file".into(),
    };
    Err(PortError::new(PortErrorKind::Refused, format!("read {blob}"), why))
}

#[async_trait]
impl Blobs for GridFs {
    async fn create(&self, blob: Blob) -> PortResult<Box<dyn BlobWriter>> {
        Ok(Box::new(writer::create(Arc::clone(self.bucket(blob.bucket)), blob).await?))
    }

    async fn size(&self, blob: Blob) -> PortResult<Option<u64>> {
        Ok(self.bucket(blob.bucket).facts(blob).await?.map(|facts| facts.length))
    }

    async fn is_ours(&self, blob: Blob) -> PortResult<bool> {
        self.bucket(blob.bucket).is_ours(blob).await
    }

    async fn read(&self, blob: Blob, range: Range<u64>) -> PortResult<BoxStream<'static, PortResult<Bytes>>> {
        let bucket = self.bucket(blob.bucket);
        let facts = within(bucket.facts(blob).await?, blob, &range)?;
        Ok(reading::stream(Arc::clone(bucket), facts, range))
    }

    async fn engine_input(&self, blob: Blob) -> PortResult<Option<engine::Input>> {
        Ok(self.source(blob).await?.map(|source| engine::Input::Ranges(Box::new(source))))
    }

    async fn peaks(&self, blob: Blob) -> PortResult<Option<Bytes>> {
        self.bucket(blob.bucket).peaks(blob).await
    }

    async fn delete(&self, blob: Blob) -> PortResult<()> {
        let bucket = self.bucket(blob.bucket);
        let key = doc! { "_id": object_id(blob.id) };
        // The draft first: a writer that is still at it can then no longer commit. The files document before the chunks: a reader
        // finds all of it or nothing.
        for collection in [&bucket.drafts, &bucket.files] {
            patiently(&format!("delete {blob}"), FOR_FILES, |_| call(collection.delete_one(key.clone())))
                .await?;
        }
        bucket.delete_chunks(blob.id).await
    }

    async fn list(&self, bucket: Bucket) -> PortResult<Vec<Id>> {
        Ok(self.bucket(bucket).all().await?.into_iter().collect())
    }
}
