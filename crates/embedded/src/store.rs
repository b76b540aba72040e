//! The SQLite database: one writer connection, a few readers, write-ahead log, every commit synced to the disk.

use rustix::fs::{FlockOperation, flock};
use services::ports::{PortError, PortErrorKind};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{fs::File, path::Path, time::Duration};

/// Applied in order; the database's `user_version` counts those that it has.
const MIGRATIONS: [&str; 2] = [include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// The database, open.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
}

impl Store {
    /// Opens the database at `path`; makes it, or brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Store, PortError> {
        // Several processes may start at once: one of them makes the tables, the others wait for it.
        let gate = File::create(path.with_extension("db.lock"))
            .map_err(|error| crate::io_failed("open the database", error))?;
        let gate = crate::blocking("wait for the database", move || {
            Ok(flock(&gate, FlockOperation::LockExclusive).map(|()| gate)?)
        })
        .await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let pool = |connections| {
            SqlitePoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(15))
        };
        let writer = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(|error| failed("open the database", error))?;
        migrate(&writer).await?;
        drop(gate);
        let readers = pool(4).connect_with(options.read_only(true)).await;
        Ok(Store { writer, readers: readers.map_err(|error| failed("open the database", error))? })
    }

    /// Is the database within reach?
    pub async fn ping(&self) -> Result<(), PortError> {
        sqlx::query("SELECT 1")
            .execute(&self.readers)
            .await
            .map_err(|error| failed("reach the database", error))?;
        Ok(())
    }

    /// Closes all connections, so that the write-ahead log is folded in.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

async fn migrate(writer: &SqlitePool) -> Result<(), PortError> {
    let wrong = |error| failed("bring the database's tables up to date", error);
    let done: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(writer).await.map_err(wrong)?;
    let done = usize::try_from(done).unwrap_or_default();
    if done > MIGRATIONS.len() {
        let text = format!(
            "it was written by a newer Tapedeck (tables {done}, this one knows {})",
            MIGRATIONS.len()
        );
        return Err(PortError::new(PortErrorKind::Refused, "open the database", text));
    }
    for migration in &MIGRATIONS[done..] {
        // Each ends by setting `user_version`, in the same transaction.
        let mut transaction = writer.begin().await.map_err(wrong)?;
        sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(wrong)?;
        transaction.commit().await.map_err(wrong)?;
    }
    Ok(())
}

/// A database failure as the ports speak of it.
pub(crate) fn failed(what: &str, error: sqlx::Error) -> PortError {
    // SQLITE_FULL is 13; extended codes keep it in their low byte.
    let code =
        error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    let kind = if code.is_some_and(|code| code & 0xff == 13) {
        PortErrorKind::Full
    } else {
        PortErrorKind::Unavailable
    };
    PortError::new(kind, what, error)
}
