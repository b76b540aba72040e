//! Collects what writers left behind who died before their commit. That is normal: chunks come first, the files document last.

use super::{
    attempt::{FOR_LONG_WORK, Failure, call, patiently},
    bucket::GridBucket,
    id_of, object_id,
};
use bson::{DateTime, doc, oid::ObjectId};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use services::{
    id::Id,
    ports::{Blob, PortResult},
};
use std::collections::BTreeSet;

impl GridBucket {
    /// Every id that has a files document, a draft or a chunk.
    pub(super) async fn all(&self) -> PortResult<BTreeSet<Id>> {
        patiently("list a GridFS bucket", FOR_LONG_WORK, |_| async {
            let ids = doc! { "$project": { "_id": 1 } };
            let mut all: BTreeSet<Id> = self.ids(&self.files, [ids.clone()]).await?.into_iter().collect();
            all.extend(self.ids(&self.drafts, [ids]).await?);
            all.extend(self.with_chunks(ObjectId::from_bytes([0xff; 12])).await?);
            Ok(all)
        })
        .await
    }

    /// The ids below `end` that have chunks.
    async fn with_chunks(&self, end: ObjectId) -> Result<Vec<Id>, Failure> {
        // Sorted as the index is: the server jumps from file to file in it, and reads no chunk.
        let stages = [
            doc! { "$match": { "files_id": { "$lt": end } } },
            doc! { "$sort": { "files_id": 1, "n": 1 } },
            doc! { "$group": { "_id": "$files_id", "n": { "$first": "$n" } } },
        ];
        self.ids(&self.chunks, stages).await
    }

    /// Deletes drafts and chunks of files that were begun before `time` and have no files document; says how many such files.
    pub(super) async fn collect_orphans(&self, time: Timestamp) -> PortResult<u64> {
        let mut collected = self.collect_drafts(time).await?;
        let seconds = u32::try_from(time.as_second().max(0)).unwrap_or(u32::MAX);
        let end = ObjectId::from_parts(seconds, [0; 5], [0; 3]);
        let candidates =
            patiently("look for orphans in GridFS", FOR_LONG_WORK, |_| self.with_chunks(end)).await?;
        for id in candidates {
            let orphaned = patiently("look for orphans in GridFS", FOR_LONG_WORK, |_| async move {
                // In this order: a commit adds the files document before it takes the draft away.
                Ok(!self.has(&self.drafts, id).await? && !self.has(&self.files, id).await?)
            });
            if orphaned.await? {
                self.delete_chunks(id).await?;
                tracing::info!(blob = %Blob { bucket: self.bucket, id }, "orphaned chunks are deleted");
                collected += 1;
            }
        }
        Ok(collected)
    }

    /// Drafts whose writers have given no sign of life since `time`.
    async fn collect_drafts(&self, time: Timestamp) -> PortResult<u64> {
        let silent = doc! { "since": { "$lt": DateTime::from_millis(time.as_millisecond()) } };
        let what = "look for abandoned drafts in GridFS";
        let found: Vec<(ObjectId, ObjectId)> = patiently(what, FOR_LONG_WORK, |_| async {
            let found = self.drafts.find(silent.clone());
            let found: Vec<_> = call(async { found.await?.try_collect().await }).await?;
            Ok(found
                .iter()
                .filter_map(|draft: &bson::RawDocumentBuf| {
                    Some((draft.get_object_id("_id").ok()?, draft.get_object_id("writer").ok()?))
                })
                .collect())
        })
        .await?;
        let mut collected = 0;
        for (id, writer) in found {
            let committed = patiently(what, FOR_LONG_WORK, |_| async move {
                let committed = self.has(&self.files, id_of(id)).await?;
                // A writer that is alive after all has renewed its draft: `silent` is part of the filter.
                let draft = doc! { "_id": id, "writer": writer, "since": { "$lt": DateTime::from_millis(time.as_millisecond()) } };
                call(self.drafts.delete_one(draft)).await?;
                Ok(committed)
            });
            if !committed.await? && !patiently(what, FOR_LONG_WORK, |_| self.has_any(id_of(id))).await? {
                self.delete_chunks(id_of(id)).await?;
                collected += 1;
            }
        }
        Ok(collected)
    }

    async fn has_any(&self, id: Id) -> Result<bool, Failure> {
        Ok(self.has(&self.drafts, id).await? || self.has(&self.files, id).await?)
    }

    async fn has(
        &self,
        collection: &mongodb::Collection<bson::RawDocumentBuf>,
        id: Id,
    ) -> Result<bool, Failure> {
        let found = collection.find_one(doc! { "_id": object_id(id) }).projection(doc! { "_id": 1 });
        Ok(call(found).await?.is_some())
    }
}
