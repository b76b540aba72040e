//! Attempts: every call to MongoDB is bounded in time, and what fails for a reason that may pass is tried again for a while.

use mongodb::error::{Error, ErrorKind, InsertManyError, RETRYABLE_WRITE_ERROR, WriteFailure};
use services::ports::{PortError, PortErrorKind, PortResult};
use std::{error, time::Duration};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);
/// How long one call may take whose work grows with the file.
const LONG_CALL: Duration = Duration::from_secs(60);
/// How long a change of a record is tried.
pub(super) const FOR_RECORDS: Duration = Duration::from_secs(15);
/// How long reading or writing a piece of a file is tried: a server that starts anew in the midst of an upload costs nothing.
pub(super) const FOR_FILES: Duration = Duration::from_secs(25);
/// How long work is tried that grows with the file: removing it, making an index.
pub(super) const FOR_LONG_WORK: Duration = Duration::from_secs(90);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

const DUPLICATE_KEY: i32 = 11000;
/// IndexOptionsConflict, IndexKeySpecsConflict.
const OTHER_INDEX: [i32; 2] = [85, 86];
/// OutOfDiskSpace, and a quota's end.
const FULL: [i32; 2] = [14031, 12501];
/// The server is starting, stopping, or not (or no longer) the primary; the network failed behind it; it took too long.
const PASSING: [i32; 19] =
    [6, 7, 43, 50, 64, 79, 89, 91, 112, 134, 175, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436];

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The driver says so.
    Driver(Error),
    /// No answer came in time: it may have been done nevertheless.
    Silence,
    /// Something stood in the way that the next attempt will not find there.
    Obstacle(&'static str),
    /// No further attempt will do better.
    Final(PortError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Driver(error)
    }
}

impl Failure {
    /// It will never work: the request itself is at fault.
    pub(super) fn refused(
        what: impl Into<String>,
        why: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Failure {
        Failure::Final(PortError::new(PortErrorKind::Refused, what, why))
    }

    /// Something with this key is there already, and this is all that is wrong.
    pub(super) fn is_duplicate(&self) -> bool {
        let Failure::Driver(error) = self else { return false };
        match &*error.kind {
            ErrorKind::InsertMany(InsertManyError {
                write_errors: Some(errors),
                write_concern_error: None,
                ..
            }) => errors.iter().all(|error| error.code == DUPLICATE_KEY),
            _ => code(error) == Some(DUPLICATE_KEY),
        }
    }

    /// There is another index under this name, or of these keys.
    pub(super) fn is_other_index(&self) -> bool {
        matches!(self, Failure::Driver(error) if code(error).is_some_and(|code| OTHER_INDEX.contains(&code)))
    }

    /// May another attempt do better?
    fn may_pass(&self) -> bool {
        match self {
            Failure::Silence | Failure::Obstacle(_) => true,
            Failure::Final(_) => false,
            Failure::Driver(error) if error.contains_label(RETRYABLE_WRITE_ERROR) => true,
            Failure::Driver(error) => match &*error.kind {
                ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::ServerSelection { .. }
                | ErrorKind::InvalidResponse { .. }
                | ErrorKind::DnsResolve { .. }
                | ErrorKind::Write(WriteFailure::WriteConcernError(_))
                | ErrorKind::InsertMany(InsertManyError { write_errors: None, .. }) => true,
                _ => code(error).is_some_and(|code| PASSING.contains(&code)),
            },
        }
    }

    fn into_port_error(self, what: &str) -> PortError {
        match self {
            Failure::Final(error) => error,
            Failure::Silence => PortError::unavailable(what, "MongoDB did not answer in time"),
            Failure::Obstacle(why) => PortError::unavailable(what, why),
            Failure::Driver(error) => {
                let full = code(&error).is_some_and(|code| FULL.contains(&code));
                let bson = matches!(*error.kind, ErrorKind::Bson(_) | ErrorKind::InvalidArgument { .. });
                let kind = match (full, bson) {
                    (true, _) => PortErrorKind::Full,
                    (_, true) => PortErrorKind::Refused,
                    _ => PortErrorKind::Unavailable,
                };
                PortError::new(kind, what, error)
            }
        }
    }
}

/// The code that the server gave; of several write errors, of the first.
pub(super) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        ErrorKind::InsertMany(errors) => errors.write_errors.as_ref()?.first().map(|error| error.code),
        _ => None,
    }
}

/// One call, bounded in time.
pub(super) async fn call<T>(action: impl IntoFuture<Output = Result<T, Error>>) -> Result<T, Failure> {
    timeout(CALL, action.into_future()).await.map_err(|_| Failure::Silence)?.map_err(Failure::Driver)
}

/// One call whose work grows with the file, bounded in time.
pub(super) async fn long_call<T>(action: impl IntoFuture<Output = Result<T, Error>>) -> Result<T, Failure> {
    timeout(LONG_CALL, action.into_future()).await.map_err(|_| Failure::Silence)?.map_err(Failure::Driver)
}

/// One call, tried once.
pub(super) async fn once<T>(what: &str, action: impl IntoFuture<Output = Result<T, Error>>) -> PortResult<T> {
    call(action).await.map_err(|failure| failure.into_port_error(what))
}

/// Tries until it works, fails for good, or `patience` is over. `attempt` learns how many attempts went before it: from the second
/// on, an earlier one may have been followed by the server without our knowing.
pub(super) async fn patiently<T, F>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut(u32) -> F + Send,
) -> PortResult<T>
where
    F: Future<Output = Result<T, Failure>> + Send,
{
    let deadline = Instant::now() + patience;
    for before in 0.. {
        let failure = match timeout_at(deadline, attempt(before)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Silence,
        };
        if !failure.may_pass() || Instant::now() + PAUSE >= deadline {
            return Err(failure.into_port_error(what));
        }
        if before == 0 {
            tracing::warn!(what, ?failure, "MongoDB failed; trying again");
        }
        sleep(PAUSE).await;
    }
    unreachable!("the loop ends by its deadline")
}
