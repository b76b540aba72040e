//! The ports on one machine, with nothing to install: SQLite for records and users, files for videos and MP3s, channels
//! for wake-ups, an outbox folder for mails. All of it lies in one data folder.
//!
//! There is no network in this crate. Several processes may share a data folder: SQLite serialises their writes, and the
//! services poll, so no wake-up has to cross from one process to another.

mod blobs;
mod folder;
mod jobs;
mod outbox;
mod store;
mod users;
mod wake;

pub use blobs::FileBlobs;
pub use folder::{DataFolder, Tenancy};
pub use jobs::SqliteJobs;
pub use outbox::Outbox;
pub use store::Store;
pub use users::SqliteUsers;
pub use wake::LocalWake;

use services::ports::{PortError, PortErrorKind};
use std::io;

/// An I/O failure as the ports speak of it.
fn io_failed(what: impl Into<String>, error: io::Error) -> PortError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PortErrorKind::Full,
        _ => PortErrorKind::Unavailable,
    };
    PortError::new(kind, what, error)
}

/// Runs blocking file work off the async threads.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| io_failed(what, error)),
        Err(panic) => Err(PortError::unavailable(what, panic)),
    }
}
