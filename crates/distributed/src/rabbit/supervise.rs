//! How a connection is kept up: tried again without end, ever less often, and told about without flooding the log.

use services::{clock::SystemClock, id::Id};
use std::time::Duration;
use tokio::time::Instant;

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A connection that lived for so long worked: the next failure is a first one.
const WORKED: Duration = Duration::from_secs(10);
/// How often a failure that goes on is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The attempts at one connection.
pub(super) struct Attempts {
    what: String,
    failures: u32,
    connected: Option<Instant>,
    told: Option<Instant>,
}

impl Attempts {
    /// None yet; `what` is being attempted, for the log.
    pub fn new(what: String) -> Attempts {
        Attempts { what, failures: 0, connected: None, told: None }
    }

    /// It is up.
    pub fn connected(&mut self) {
        self.connected = Some(Instant::now());
        if self.told.take().is_some() {
            tracing::info!("{}: connected again", self.what);
        } else {
            tracing::debug!("{}: connected", self.what);
        }
    }

    /// It failed, or was lost. How long to wait before the next attempt.
    pub fn failed(&mut self, error: &(dyn std::error::Error + 'static)) -> Duration {
        if self.connected.take().is_some_and(|since| since.elapsed() > WORKED) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if self.told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!("{}: {}; trying again", self.what, causes(error));
        }
        pause(self.failures, Id::mint(&SystemClock).spread())
    }
}

/// An error with all its causes.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Doubled with each failure, and spread over its upper half, so that not all come back at once.
fn pause(failures: u32, spread: f64) -> Duration {
    let (first, longest) = PAUSES;
    let full = first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest);
    full.mul_f64(0.5 + spread / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_few_seconds() {
        let longest = |failures| pause(failures, 1.0);
        assert_eq!(longest(1), Duration::from_millis(200));
        assert_eq!(longest(2), Duration::from_millis(400));
        assert_eq!(longest(6), Duration::from_secs(5));
        assert_eq!(longest(u32::MAX), Duration::from_secs(5));
        assert_eq!(pause(1, 0.0), Duration::from_millis(100));
    }
}
