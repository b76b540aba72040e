//! Writes a file: chunks in batches, one batch on its way while the next one fills; chunk 0 last of them, since its bytes may still
//! change; then the files document, which is the commit.
//!
//! Every writer has a name of its own, and its draft bears it. Whoever deletes the file or begins it anew takes the draft away; a
//! writer that does not find its draft any more takes back what it wrote.

use super::{
    attempt::{FOR_FILES, FOR_LONG_WORK, Failure, call, long_call, patiently},
    bucket::{BY, CHUNK, GridBucket},
    object_id,
};
use async_trait::async_trait;
use bson::{
    Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId, raw::cstr, rawdoc, spec::BinarySubtype,
};
use bytes::Bytes;
use services::{
    failpoints,
    id::Id,
    ports::{Blob, BlobWriter, Bucket, HEAD, PortError, PortErrorKind, PortResult},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How many chunks go in one message: about 4 MiB.
const BATCH: usize = 16;

/// How often a writer shows by its draft that it lives, while it writes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// The name of a writer: the first nine bytes of the ids of its chunks, so that it knows its own from another's.
#[derive(Debug, Clone, Copy)]
struct Name([u8; 9]);

impl Name {
    fn new() -> Name {
        // The time first, as in every ObjectId, so that the index grows at its end.
        let mut name = [0; 9];
        name[..4].copy_from_slice(&ObjectId::new().bytes()[..4]);
        services::random(&mut name[4..]);
        Name(name)
    }

    /// The id of its chunk `n`.
    fn chunk(self, n: u32) -> ObjectId {
        let mut id = [0; 12];
        id[..9].copy_from_slice(&self.0);
        id[9..].copy_from_slice(&n.to_be_bytes()[1..]);
        ObjectId::from_bytes(id)
    }
}

impl From<Name> for Bson {
    fn from(name: Name) -> Bson {
        Bson::ObjectId(name.chunk(0))
    }
}

/// A file in the making.
pub(super) struct GridFsWriter {
    draft: Draft,
    /// Chunk 0.
    head: Vec<u8>,
    /// Chunk `next`, not whole yet.
    chunk: Vec<u8>,
    next: u32,
    full: Vec<RawDocumentBuf>,
    peaks: Option<Bytes>,
    sending: Option<AbortOnDropHandle<PortResult<()>>>,
    /// A batch is lost: what is left is no file any more.
    broken: bool,
    lived: Instant,
}

/// A writer's claim on an id.
#[derive(Clone)]
struct Draft {
    bucket: Arc<GridBucket>,
    id: Id,
    name: Name,
}

/// Claims `blob` for a new writer, and removes what an earlier one left.
pub(super) async fn create(bucket: Arc<GridBucket>, blob: Blob) -> PortResult<GridFsWriter> {
    let draft = Draft { bucket, id: blob.id, name: Name::new() };
    let what = format!("begin {blob}");
    patiently(&what, FOR_FILES, |_| draft.claim()).await?;
    draft.bucket.delete_chunks(blob.id).await?;
    Ok(GridFsWriter {
        draft,
        head: Vec::new(),
        chunk: Vec::new(),
        next: 1,
        full: Vec::new(),
        peaks: None,
        sending: None,
        broken: false,
        lived: Instant::now(),
    })
}

impl GridBucket {
    /// Deletes all chunks of a file, whoever wrote them.
    pub(super) async fn delete_chunks(&self, id: Id) -> PortResult<()> {
        patiently("delete a file's chunks", FOR_LONG_WORK, |_| async move {
            long_call(self.chunks.delete_many(doc! { "files_id": object_id(id) })).await.map(|_| ())
        })
        .await
    }
}

impl Draft {
    fn blob(&self) -> Blob {
        Blob { bucket: self.bucket.bucket, id: self.id }
    }

    /// The draft while it is this writer's.
    fn ours(&self) -> Document {
        doc! { "_id": object_id(self.id), "writer": self.name }
    }

    async fn claim(&self) -> Result<(), Failure> {
        let key = doc! { "_id": object_id(self.id) };
        if call(self.bucket.files.find_one(key.clone()).projection(doc! { "_id": 1 })).await?.is_some() {
            return Err(Failure::refused(format!("begin {}", self.blob()), "it is there already, whole"));
        }
        let claim = doc! { "$set": { "writer": self.name, "since": DateTime::now() } };
        call(self.bucket.drafts.update_one(key, claim).upsert(true)).await.map(|_| ())
    }

    fn lost(&self) -> Failure {
        let why = "it was deleted, or another writer began it anew";
        Failure::refused(format!("write {}", self.blob()), why)
    }

    /// Renews the draft; fails where it is another's, or gone.
    async fn renew(&self) -> Result<(), Failure> {
        let renewed =
            self.bucket.drafts.update_one(self.ours(), doc! { "$set": { "since": DateTime::now() } });
        if call(renewed).await?.matched_count > 0 { Ok(()) } else { Err(self.lost()) }
    }

    fn document(&self, n: u32, bytes: &[u8]) -> PortResult<RawDocumentBuf> {
        let number = i32::try_from(n).ok().filter(|n| *n < 1 << 24).ok_or_else(|| {
            PortError::new(
                PortErrorKind::Refused,
                format!("write {}", self.blob()),
                "it has more than 2^24 chunks (4 TiB)",
            )
        })?;
        let bytes = bson::RawBinaryRef { subtype: BinarySubtype::Generic, bytes };
        let mut document = rawdoc! { "_id": self.name.chunk(n), "files_id": object_id(self.id), "n": number };
        document.append(cstr!("data"), bytes);
        Ok(document)
    }

    /// Stores chunks, however often it takes: those that an earlier attempt of ours stored are known by their ids.
    async fn store(&self, chunks: &[RawDocumentBuf]) -> PortResult<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let what = format!("write {}", self.blob());
        patiently(&what, FOR_FILES, |_| async move {
            match call(self.bucket.chunks.insert_many(chunks).ordered(false)).await {
                Ok(_) => Ok(()),
                Err(failure) if failure.is_duplicate() => self.make_way(chunks).await,
                Err(failure) => Err(failure),
            }
        })
        .await
    }

    /// Some of these chunks are there already: by us, or by an earlier writer whose last message came late. Where all are ours, it
    /// is done; another's are removed if the draft is ours, and the next attempt finds room.
    async fn make_way(&self, chunks: &[RawDocumentBuf]) -> Result<(), Failure> {
        let ids: Vec<ObjectId> = chunks.iter().filter_map(|chunk| chunk.get_object_id("_id").ok()).collect();
        let numbers: Vec<i32> = chunks.iter().filter_map(|chunk| chunk.get_i32("n").ok()).collect();
        let stored = call(self.bucket.chunks.count_documents(doc! { "_id": { "$in": &ids } })).await?;
        if stored == chunks.len() as u64 {
            return Ok(());
        }
        self.renew().await?;
        let strangers =
            doc! { "files_id": object_id(self.id), "n": { "$in": numbers }, "_id": { "$nin": ids } };
        call(self.bucket.chunks.delete_many(strangers)).await?;
        Err(Failure::Obstacle("another writer's chunks were in the way"))
    }

    /// Removes what an earlier writer's late message left beyond the end. Within it, each place is taken by a chunk of ours.
    async fn trim(&self, count: u32) -> Result<(), Failure> {
        self.renew().await?;
        let beyond = doc! { "files_id": object_id(self.id), "n": { "$gte": i64::from(count) } };
        call(self.bucket.chunks.delete_many(beyond)).await.map(|_| ())
    }

    /// Adds the files document, then takes the draft away.
    async fn publish(&self, length: u64, peaks: Option<&Bytes>) -> PortResult<()> {
        let what = format!("commit {}", self.blob());
        let files = &self.bucket.files.clone_with_type::<Document>();
        let document = &self.files_document(length, peaks);
        patiently(&what, FOR_FILES, |_| async move {
            match call(files.insert_one(document)).await {
                Err(failure) if failure.is_duplicate() => {
                    let ours = doc! { "_id": object_id(self.id), "metadata.writer": self.name };
                    call(files.find_one(ours)).await?.map(|_| ()).ok_or_else(|| self.lost())
                }
                done => done.map(|_| ()),
            }
        })
        .await?;
        failpoints::reach(if self.bucket.bucket == Bucket::Videos { "video.visible" } else { "mp3.visible" });
        // Marked first, deleted then: a deletion whose answer is lost would not be told from somebody else's.
        patiently(&what, FOR_FILES, |_| async move {
            let marked = self.bucket.drafts.update_one(self.ours(), doc! { "$set": { "committed": true } });
            if call(marked).await?.matched_count > 0 { Ok(()) } else { Err(self.lost()) }
        })
        .await?;
        let deleted =
            patiently(&what, FOR_FILES, |_| async { call(self.bucket.drafts.delete_one(self.ours())).await })
                .await;
        if let Err(error) = deleted {
            // The file is there. A draft beside it harms nobody, and is collected with the orphans.
            tracing::warn!(error = %error.source, "the draft of {} stays", self.blob());
        }
        Ok(())
    }

    fn files_document(&self, length: u64, peaks: Option<&Bytes>) -> Document {
        let mut document = doc! {
            "_id": object_id(self.id),
            "length": i64::try_from(length).unwrap_or(i64::MAX),
            "chunkSize": CHUNK as i32,
            "uploadDate": DateTime::now(),
        };
        if self.bucket.bucket == Bucket::Mp3s {
            document.insert("filename", format!("{}.mp3", self.id));
            document.insert("contentType", "audio/mpeg");
        }
        let mut metadata = doc! { "by": BY, "writer": self.name };
        if let Some(peaks) = peaks {
            let peaks = bson::Binary { subtype: BinarySubtype::Generic, bytes: peaks.to_vec() };
            metadata.insert("peaks", peaks);
        }
        document.insert("metadata", metadata);
        document
    }

    /// Takes back what this writer wrote, and nothing of another's.
    async fn take_back(&self) -> PortResult<()> {
        let what = format!("take back {}", self.blob());
        patiently(&what, FOR_FILES, |_| async move {
            call(
                self.bucket
                    .files
                    .delete_one(doc! { "_id": object_id(self.id), "metadata.writer": self.name }),
            )
            .await?;
            let (first, last) = (self.name.chunk(0), self.name.chunk(0xff_ffff));
            let chunks = doc! { "files_id": object_id(self.id), "_id": { "$gte": first, "$lte": last } };
            long_call(self.bucket.chunks.delete_many(chunks)).await?;
            call(self.bucket.drafts.delete_one(self.ours())).await.map(|_| ())
        })
        .await
    }
}

impl GridFsWriter {
    fn length(&self) -> u64 {
        let whole = u64::from(self.next - 1) * CHUNK as u64;
        self.head.len() as u64 + whole + self.chunk.len() as u64
    }

    fn end_chunk(&mut self) -> PortResult<()> {
        self.full.push(self.draft.document(self.next, &self.chunk)?);
        self.chunk.clear();
        self.next += 1;
        Ok(())
    }

    /// Waits for the batch that is on its way.
    async fn sent(&mut self) -> PortResult<()> {
        let what = || format!("write {}", self.draft.blob());
        if self.broken {
            return Err(PortError::unavailable(what(), "a part of it could not be stored before"));
        }
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let sent = sending.await.unwrap_or_else(|error| Err(PortError::unavailable(what(), error)));
        self.broken = sent.is_err();
        sent
    }

    /// Sends the batch that is full.
    async fn send(&mut self) -> PortResult<()> {
        self.sent().await?;
        let (draft, batch) = (self.draft.clone(), std::mem::take(&mut self.full));
        let renew = self.lived.elapsed() > SIGN_OF_LIFE;
        if renew {
            self.lived = Instant::now();
        }
        self.sending = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if renew {
                patiently("renew a draft", FOR_FILES, |_| draft.renew()).await?;
            }
            draft.store(&batch).await
        })));
        Ok(())
    }

    async fn finish(&mut self) -> PortResult<()> {
        let length = self.length();
        if !self.chunk.is_empty() {
            self.end_chunk()?;
        }
        self.send().await?;
        self.sent().await?;
        let draft = &self.draft;
        let mut count = 0;
        if !self.head.is_empty() {
            draft.store(&[draft.document(0, &self.head)?]).await?;
            count = self.next;
        }
        patiently(&format!("commit {}", draft.blob()), FOR_FILES, |_| draft.trim(count)).await?;
        failpoints::reach(if draft.bucket.bucket == Bucket::Videos {
            "video.durable"
        } else {
            "mp3.durable"
        });
        draft.publish(length, self.peaks.as_ref()).await
    }
}

#[async_trait]
impl BlobWriter for GridFsWriter {
    async fn write(&mut self, bytes: Bytes) -> PortResult<()> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let filling = if self.head.len() < CHUNK { &mut self.head } else { &mut self.chunk };
            let (taken, left) = rest.split_at(rest.len().min(CHUNK - filling.len()));
            filling.extend_from_slice(taken);
            rest = left;
            if self.chunk.len() == CHUNK {
                self.end_chunk()?;
            }
            if self.full.len() == BATCH {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn rewrite_head(&mut self, offset: u64, bytes: Bytes) -> PortResult<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        let place =
            usize::try_from(offset).ok().and_then(|at| self.head.get_mut(at..at.checked_add(bytes.len())?));
        let Some(place) = place else {
            let text = format!(
                "bytes {offset}..{end} are not within the head (at most {HEAD} bytes) of {}",
                self.draft.blob()
            );
            return Err(PortError::new(PortErrorKind::Refused, "rewrite a file's head", text));
        };
        place.copy_from_slice(&bytes);
        Ok(())
    }

    async fn set_peaks(&mut self, peaks: Bytes) -> PortResult<()> {
        self.peaks = Some(peaks);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> PortResult<()> {
        let done = self.finish().await;
        if done.as_ref().is_err_and(|error| error.kind == PortErrorKind::Refused) {
            // Another has the file, or it is to be none. Where this fails, too, the chunks are orphans.
            if let Err(error) = self.draft.take_back().await {
                tracing::warn!(error = %error.source, "{} stays, to be collected as an orphan", self.draft.blob());
            }
        }
        done
    }
}
