//! Job records in MongoDB: the record as a readable subdocument, beside it the fields that are searched.
//!
//! `{_id, version, swap, owner_key, listed, active, state, mp3_fid?, convert_at?, publish_at?, mail_at?, sweep_at?, record}`.
//! `_id` is the video's id, `swap` is minted anew by every write: by it a write whose answer was lost knows itself again.

use super::{
    Mongo,
    attempt::{FOR_RECORDS, Failure, call, once, patiently},
    id_of, make_indexes, object_id,
};
use async_trait::async_trait;
use bson::{DateTime, Document, RawDocumentBuf, doc, oid::ObjectId};
use futures_util::{TryStreamExt, future::try_join4};
use jiff::Timestamp;
use mongodb::{Collection, IndexModel, options::IndexOptions};
use serde::Deserialize;
use services::{
    id::Id,
    job::{Job, State, Task},
    ports::{Census, Jobs, PortError, PortErrorKind, PortResult, Stamp, Swap},
};
use std::collections::BTreeMap;

/// The records in the collection `jobs` of a database.
#[derive(Debug, Clone)]
pub struct MongoJobs {
    mongo: Mongo,
    jobs: Collection<RawDocumentBuf>,
}

/// What of a document is understood again.
#[derive(Deserialize)]
struct Stored {
    record: Job,
}

impl MongoJobs {
    /// The records in `database`.
    pub fn new(mongo: &Mongo, database: &str) -> MongoJobs {
        MongoJobs { mongo: mongo.clone(), jobs: mongo.database(database).collection("jobs") }
    }

    /// Makes the indexes where they are missing. Without them every search reads all records, and two jobs could have one MP3.
    pub async fn ensure_indexes(&self) -> PortResult<()> {
        let index =
            |keys: Document, options: IndexOptions| IndexModel::builder().keys(keys).options(options).build();
        let partial = |filter: Document| IndexOptions::builder().partial_filter_expression(filter).build();
        let mut mp3 = partial(doc! { "mp3_fid": { "$exists": true } });
        mp3.unique = Some(true);
        let mut models = vec![
            // In this order `stamp` is answered from the index alone.
            index(doc! { "owner_key": 1, "listed": 1, "_id": -1, "version": 1 }, IndexOptions::default()),
            index(doc! { "owner_key": 1, "active": 1 }, partial(doc! { "active": true })),
            index(doc! { "state": 1 }, IndexOptions::default()),
            index(doc! { "mp3_fid": 1 }, mp3),
        ];
        models.extend(Task::ALL.map(|task| {
            let field = due_field(task);
            index(doc! { field: 1 }, partial(doc! { field: { "$exists": true } }))
        }));
        make_indexes(&self.jobs, &models).await
    }

    async fn one(&self, filter: Document) -> PortResult<Option<Job>> {
        let found =
            once("read a job record", self.jobs.find_one(filter).projection(doc! { "record": 1 })).await?;
        found.as_ref().map(parse).transpose()
    }

    async fn many(
        &self,
        what: &str,
        filter: Document,
        order: Document,
        limit: usize,
    ) -> PortResult<Vec<Job>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let found = self.jobs.find(filter).sort(order).limit(limit).projection(doc! { "record": 1 });
        let found: Vec<RawDocumentBuf> = once(what, async { found.await?.try_collect().await }).await?;
        // One record that cannot be read (written by a newer version, damaged) must not stop the work on all others.
        let readable = |document| {
            parse(document)
                .inspect_err(|error| tracing::error!(error = %error.source, "a job record is skipped"))
                .ok()
        };
        Ok(found.iter().filter_map(readable).collect())
    }

    async fn count(&self, what: &str, filter: Document) -> PortResult<u64> {
        once(what, self.jobs.count_documents(filter)).await
    }

    async fn aggregate(&self, what: &str, stages: [Document; 2]) -> PortResult<Vec<Document>> {
        let groups = self.jobs.aggregate(stages);
        once(what, async { groups.await?.try_collect().await }).await
    }

    /// What became of a write of `job` under the name `swap` that did not say so itself, after `before` attempts.
    async fn outcome(&self, job: &Job, swap: ObjectId, before: u32) -> Result<Option<Swap>, Failure> {
        #[derive(Deserialize)]
        struct Standing {
            version: i64,
            swap: Option<ObjectId>,
        }
        let standing = self.jobs.clone_with_type::<Standing>();
        let filter = doc! { "_id": object_id(job.id) };
        let standing = call(standing.find_one(filter).projection(doc! { "version": 1, "swap": 1 })).await?;
        Ok(match standing {
            None => None,
            Some(standing) if standing.swap == Some(swap) => Some(Swap::Won),
            // Somebody went on from our version, or from another's of the same number: it cannot be told any more.
            Some(standing) if before > 0 && standing.version > version(job.version) => {
                let why = "the answer was lost on the way, and the record has moved on since";
                return Err(Failure::Final(PortError::unavailable("learn what became of a job record", why)));
            }
            Some(_) => Some(Swap::Lost),
        })
    }
}

fn parse(document: &RawDocumentBuf) -> PortResult<Job> {
    let stored: Result<Stored, _> = bson::deserialize_from_slice(document.as_bytes());
    stored.map(|stored| stored.record).map_err(|error| {
        // The id is for whoever is to mend it.
        let id = document.get_object_id("_id").map_or_else(|_| "?".into(), |id| id.to_hex());
        PortError::new(PortErrorKind::Refused, "understand a job record", format!("{error} in jobs/{id}"))
    })
}

/// The document of a record, to be written under the name `swap`.
fn document(job: &Job, swap: ObjectId) -> PortResult<RawDocumentBuf> {
    let wrong = |error| PortError::new(PortErrorKind::Refused, "write a job record", error);
    let mut document = doc! {
        "_id": object_id(job.id),
        "version": version(job.version),
        "swap": swap,
        "owner_key": job.owner.to_ascii_lowercase(),
        "listed": !job.deleted,
        "active": !job.state.is_ended(),
        "state": job.state.as_str(),
    };
    if let Some(id) = job.mp3_fid {
        document.insert("mp3_fid", object_id(id));
    }
    for task in Task::ALL {
        if let Some(at) = job.due(task) {
            document.insert(due_field(task), date(at));
        }
    }
    document.insert("record", bson::serialize_to_document(job).map_err(wrong)?);
    bson::serialize_to_raw_document_buf(&document).map_err(wrong)
}

fn due_field(task: Task) -> &'static str {
    match task {
        Task::Convert => "convert_at",
        Task::Publish => "publish_at",
        Task::Mail => "mail_at",
        Task::Sweep => "sweep_at",
    }
}

fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.as_millisecond())
}

fn version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn mp3_taken(job: &Job) -> Failure {
    let why = format!("another job has the MP3 of {} already: no two jobs may have one", job.id);
    Failure::refused("write a job record", why)
}

#[async_trait]
impl Jobs for MongoJobs {
    async fn ping(&self) -> PortResult<()> {
        self.mongo.ping().await
    }

    async fn census(&self, now: Timestamp) -> PortResult<Census> {
        let what = "count the job records";
        let due = |task| doc! { due_field(task): { "$lte": date(now) } };
        // The match, which all records pass, lets the server count in the index.
        let by_state = [
            doc! { "$match": { "state": { "$gt": "" } } },
            doc! { "$group": { "_id": "$state", "count": { "$sum": 1_i64 } } },
        ];
        let waiting = self.jobs.clone_with_type::<Document>();
        let waiting = waiting
            .find_one(due(Task::Convert))
            .sort(doc! { "convert_at": 1 })
            .projection(doc! { "convert_at": 1 });
        let (states, waiting, mails_due, unpublished) = try_join4(
            self.aggregate(what, by_state),
            once(what, waiting),
            self.count(what, due(Task::Mail)),
            self.count(what, due(Task::Publish)),
        )
        .await?;
        let oldest = waiting.and_then(|found| found.get_datetime("convert_at").ok().copied());
        Ok(Census {
            states: states.iter().filter_map(state_count).collect::<BTreeMap<State, u64>>(),
            oldest_due: oldest.and_then(|at| Timestamp::from_millisecond(at.timestamp_millis()).ok()),
            mails_due,
            unpublished,
        })
    }

    async fn insert(&self, job: &Job) -> PortResult<Swap> {
        let swap = ObjectId::new();
        let document = &document(job, swap)?;
        patiently("add a job record", FOR_RECORDS, |before| async move {
            match call(self.jobs.insert_one(document)).await {
                Ok(_) => Ok(Swap::Won),
                // Where no record has the id, it is the MP3's that is taken.
                Err(failure) if failure.is_duplicate() => {
                    self.outcome(job, swap, before).await?.ok_or_else(|| mp3_taken(job))
                }
                Err(failure) => Err(failure),
            }
        })
        .await
    }

    async fn get(&self, id: Id) -> PortResult<Option<Job>> {
        self.one(doc! { "_id": object_id(id) }).await
    }

    async fn by_mp3(&self, mp3_fid: Id) -> PortResult<Option<Job>> {
        self.one(doc! { "mp3_fid": object_id(mp3_fid) }).await
    }

    async fn replace(&self, job: &Job) -> PortResult<Swap> {
        let swap = ObjectId::new();
        let document = &document(job, swap)?;
        patiently("change a job record", FOR_RECORDS, |before| async move {
            let known = doc! { "_id": object_id(job.id), "version": version(job.version) - 1 };
            match call(self.jobs.replace_one(known, document)).await {
                Ok(done) if done.matched_count > 0 => Ok(Swap::Won),
                Ok(_) => Ok(self.outcome(job, swap, before).await?.unwrap_or(Swap::Lost)),
                Err(failure) if failure.is_duplicate() => Err(mp3_taken(job)),
                Err(failure) => Err(failure),
            }
        })
        .await
    }

    async fn remove(&self, id: Id, at: u64) -> PortResult<Swap> {
        patiently("remove a job record", FOR_RECORDS, |_| async move {
            let known = doc! { "_id": object_id(id), "version": version(at) };
            if call(self.jobs.delete_one(known)).await?.deleted_count > 0 {
                return Ok(Swap::Won);
            }
            let left =
                call(self.jobs.find_one(doc! { "_id": object_id(id) }).projection(doc! { "_id": 1 })).await?;
            Ok(if left.is_none() { Swap::Won } else { Swap::Lost })
        })
        .await
    }

    async fn by_owner(&self, owner: &str, before: Option<Id>, limit: usize) -> PortResult<Vec<Job>> {
        let mut filter = doc! { "owner_key": owner.to_ascii_lowercase(), "listed": true };
        if let Some(before) = before {
            filter.insert("_id", doc! { "$lt": object_id(before) });
        }
        self.many("list an owner's jobs", filter, doc! { "_id": -1 }, limit).await
    }

    async fn stamp(&self, owner: &str) -> PortResult<Stamp> {
        let stages = [
            doc! { "$match": { "owner_key": owner.to_ascii_lowercase(), "listed": true } },
            doc! { "$group": { "_id": null, "newest": { "$max": "$_id" },
            "count": { "$sum": 1_i64 }, "versions": { "$sum": "$version" } } },
        ];
        let groups = self.aggregate("look for changes of an owner's jobs", stages).await?;
        let Some(group) = groups.first() else {
            return Ok(Stamp { newest: None, count: 0, versions: 0 });
        };
        Ok(Stamp {
            newest: group.get_object_id("newest").ok().map(id_of),
            count: whole(group, "count"),
            versions: whole(group, "versions"),
        })
    }

    async fn count_active(&self, owner: &str) -> PortResult<u64> {
        self.count("count an owner's jobs", doc! { "owner_key": owner.to_ascii_lowercase(), "active": true })
            .await
    }

    async fn due(&self, task: Task, now: Timestamp, limit: usize) -> PortResult<Vec<Job>> {
        let field = due_field(task);
        self.many("look for work", doc! { field: { "$lte": date(now) } }, doc! { field: 1 }, limit).await
    }
}

/// A state and how many records are in it; a state that only a newer version knows is not counted.
fn state_count(group: &Document) -> Option<(State, u64)> {
    let state = bson::deserialize_from_bson(group.get("_id")?.clone()).ok()?;
    Some((state, whole(group, "count")))
}

/// A sum, of whichever width the server made it.
fn whole(group: &Document, field: &str) -> u64 {
    let sum = group.get_i64(field).or_else(|_| group.get_i32(field).map(i64::from));
    sum.map_or(0, i64::unsigned_abs)
}
