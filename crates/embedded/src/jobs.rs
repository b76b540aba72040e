//! Job records in SQLite: the record as JSON, beside it the columns that are searched.

use crate::store::{Store, failed};
use async_trait::async_trait;
use jiff::Timestamp;
use services::{
    id::Id,
    job::{Job, Task},
    ports::{Census, Jobs, PortError, PortErrorKind, PortResult, Stamp, Swap},
};
use sqlx::{Row, Sqlite, query::Query, sqlite::SqliteArguments, sqlite::SqliteRow};

/// The records in this database.
#[derive(Debug, Clone)]
pub struct SqliteJobs {
    store: Store,
}

impl SqliteJobs {
    /// The records in `store`.
    pub fn new(store: Store) -> SqliteJobs {
        SqliteJobs { store }
    }

    async fn rows(&self, what: &str, query: Query<'_, Sqlite, SqliteArguments>) -> PortResult<Vec<Job>> {
        let rows = query.fetch_all(&self.store.readers).await.map_err(|error| failed(what, error))?;
        // One record that cannot be read (written by a newer version, damaged) must not stop the work on all others.
        let readable = |row| {
            parse(row)
                .inspect_err(|error| tracing::error!(error = %error.source, "a job record is skipped"))
                .ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    async fn row(&self, what: &str, query: Query<'_, Sqlite, SqliteArguments>) -> PortResult<Option<Job>> {
        let row = query.fetch_optional(&self.store.readers).await.map_err(|error| failed(what, error))?;
        row.as_ref().map(parse).transpose()
    }
}

fn parse(row: &SqliteRow) -> PortResult<Job> {
    let record: String = row.try_get(0).map_err(|error| failed("read a job record", error))?;
    serde_json::from_str(&record).map_err(|error| {
        // Its head has the id, for whoever is to mend it.
        let head: String = record.chars().take(60).collect();
        PortError::new(PortErrorKind::Refused, "understand a job record", format!("{error} in {head}…"))
    })
}

/// Binds a record's columns in the order: owner, listed, active, mp3_fid, the four times, record.
fn bind<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    job: &Job,
) -> PortResult<Query<'q, Sqlite, SqliteArguments>> {
    let record = serde_json::to_string(job)
        .map_err(|error| PortError::new(PortErrorKind::Refused, "write a job record", error))?;
    let query = query
        .bind(job.owner.clone())
        .bind(!job.deleted)
        .bind(!job.state.is_ended())
        .bind(job.mp3_fid.map(|id| id.to_string()));
    let query =
        Task::ALL.iter().fold(query, |query, task| query.bind(job.due(*task).map(Timestamp::as_millisecond)));
    Ok(query.bind(record))
}

fn version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn swap(changed: u64) -> Swap {
    if changed == 0 { Swap::Lost } else { Swap::Won }
}

#[async_trait]
impl Jobs for SqliteJobs {
    async fn ping(&self) -> PortResult<()> {
        self.store.ping().await
    }

    async fn census(&self, now: Timestamp) -> PortResult<Census> {
        let wrong = |error| failed("count the job records", error);
        let counts = "SELECT json_extract(record, '$.state'), count(*) FROM job GROUP BY 1";
        let rows = sqlx::query(counts).fetch_all(&self.store.readers).await.map_err(wrong)?;
        let mut census = Census::default();
        for row in &rows {
            let (state, count): (String, i64) =
                (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
            // A state that only a newer version knows is not counted.
            if let Ok(state) = serde_json::from_value(state.into()) {
                census.states.insert(state, count.unsigned_abs());
            }
        }
        let sums = sqlx::query(
            "SELECT (SELECT min(convert_at) FROM job WHERE convert_at <= ?1), (SELECT count(*) FROM job WHERE mail_at <= ?1),
             (SELECT count(*) FROM job WHERE publish_at <= ?1)",
        );
        let sums = sums.bind(now.as_millisecond()).fetch_one(&self.store.readers).await.map_err(wrong)?;
        let oldest: Option<i64> = sums.try_get(0).map_err(wrong)?;
        census.oldest_due = oldest.and_then(|at| Timestamp::from_millisecond(at).ok());
        census.mails_due = sums.try_get::<i64, usize>(1).map_err(wrong)?.unsigned_abs();
        census.unpublished = sums.try_get::<i64, usize>(2).map_err(wrong)?.unsigned_abs();
        Ok(census)
    }

    async fn insert(&self, job: &Job) -> PortResult<Swap> {
        let insert = sqlx::query(
            "INSERT INTO job (id, version, owner, listed, active, mp3_fid, convert_at, publish_at, mail_at, sweep_at, record)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        );
        let insert = bind(insert.bind(job.id.to_string()).bind(version(job.version)), job)?;
        let done =
            insert.execute(&self.store.writer).await.map_err(|error| failed("add a job record", error))?;
        Ok(swap(done.rows_affected()))
    }

    async fn get(&self, id: Id) -> PortResult<Option<Job>> {
        let query = sqlx::query("SELECT record FROM job WHERE id = ?").bind(id.to_string());
        self.row("read a job record", query).await
    }

    async fn by_mp3(&self, mp3_fid: Id) -> PortResult<Option<Job>> {
        let query = sqlx::query("SELECT record FROM job WHERE mp3_fid = ?").bind(mp3_fid.to_string());
        self.row("read a job record", query).await
    }

    async fn replace(&self, job: &Job) -> PortResult<Swap> {
        let update = sqlx::query(
            "UPDATE job SET version = ?, owner = ?, listed = ?, active = ?, mp3_fid = ?,
             convert_at = ?, publish_at = ?, mail_at = ?, sweep_at = ?, record = ? WHERE id = ? AND version = ?",
        );
        let update = bind(update.bind(version(job.version)), job)?;
        let update = update.bind(job.id.to_string()).bind(version(job.version) - 1);
        let done =
            update.execute(&self.store.writer).await.map_err(|error| failed("change a job record", error))?;
        Ok(swap(done.rows_affected()))
    }

    async fn remove(&self, id: Id, at: u64) -> PortResult<Swap> {
        let wrong = |error| failed("remove a job record", error);
        let delete = sqlx::query("DELETE FROM job WHERE id = ? AND version = ?")
            .bind(id.to_string())
            .bind(version(at));
        let done = delete.execute(&self.store.writer).await.map_err(wrong)?;
        if done.rows_affected() > 0 {
            return Ok(Swap::Won);
        }
        Ok(if self.get(id).await?.is_none() { Swap::Won } else { Swap::Lost })
    }

    async fn by_owner(&self, owner: &str, before: Option<Id>, limit: usize) -> PortResult<Vec<Job>> {
        // Ids grow with time; `g` is beyond every hex digit.
        let before = before.map_or("g".to_owned(), |id| id.to_string());
        let query = sqlx::query(
            "SELECT record FROM job WHERE listed = 1 AND owner = ? COLLATE NOCASE AND id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind(owner.to_owned())
        .bind(before)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.rows("list an owner's jobs", query).await
    }

    async fn stamp(&self, owner: &str) -> PortResult<Stamp> {
        let wrong = |error| failed("look for changes of an owner's jobs", error);
        let query = sqlx::query(
            "SELECT count(*), coalesce(sum(version), 0), max(id) FROM job WHERE listed = 1 AND owner = ? COLLATE NOCASE",
        );
        let row = query.bind(owner.to_owned()).fetch_one(&self.store.readers).await.map_err(wrong)?;
        let number = |column| row.try_get::<i64, usize>(column).map(i64::unsigned_abs).map_err(wrong);
        let newest: Option<String> = row.try_get(2).map_err(wrong)?;
        Ok(Stamp { newest: newest.and_then(|id| id.parse().ok()), count: number(0)?, versions: number(1)? })
    }

    async fn count_active(&self, owner: &str) -> PortResult<u64> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM job WHERE active = 1 AND owner = ? COLLATE NOCASE")
                .bind(owner.to_owned())
                .fetch_one(&self.store.readers)
                .await
                .map_err(|error| failed("count an owner's jobs", error))?;
        Ok(count.unsigned_abs())
    }

    async fn due(&self, task: Task, now: Timestamp, limit: usize) -> PortResult<Vec<Job>> {
        let text = match task {
            Task::Convert => "SELECT record FROM job WHERE convert_at <= ? ORDER BY convert_at LIMIT ?",
            Task::Publish => "SELECT record FROM job WHERE publish_at <= ? ORDER BY publish_at LIMIT ?",
            Task::Mail => "SELECT record FROM job WHERE mail_at <= ? ORDER BY mail_at LIMIT ?",
            Task::Sweep => "SELECT record FROM job WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ?",
        };
        let query =
            sqlx::query(text).bind(now.as_millisecond()).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.rows("look for work", query).await
    }
}
