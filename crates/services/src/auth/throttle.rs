//! The brake on guessing: failed sign-ins are counted for an e-mail from a client, and for an e-mail from anywhere.

use crate::ports::AuthError;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Of an e-mail, from anywhere, so many times as many failures are allowed as from one client: a stranger
/// cannot lock an owner out cheaply, and many machines together still cannot guess.
const FROM_ANYWHERE: u32 = 10;

/// How many keys are worth a first tidying.
const TIDY: usize = 10_000;

/// Counts failures; success costs nothing.
pub(super) struct Throttle {
    one_client: Brake,
    anywhere: Brake,
}

/// A sign-in that is under way.
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    email: String,
    client: String,
}

impl Throttle {
    /// Allows so many failures a minute for one e-mail from one client.
    pub(super) fn new(failures_per_minute: u32) -> Throttle {
        let one = NonZeroU32::new(failures_per_minute).unwrap_or(NonZeroU32::MIN);
        let many = one.saturating_mul(NonZeroU32::new(FROM_ANYWHERE).unwrap_or(NonZeroU32::MIN));
        Throttle { one_client: Brake::new(one), anywhere: Brake::new(many) }
    }

    /// Begins a sign-in, unless too many have failed.
    pub(super) fn attempt(&self, email: &str, client: &str) -> Result<Attempt<'_>, AuthError> {
        let email = email.to_lowercase();
        let client = format!("{client} {email}");
        let wait = self.one_client.wait(&client).max(self.anywhere.wait(&email));
        match wait {
            None => Ok(Attempt { throttle: self, email, client }),
            Some(wait) => Err(AuthError::TooManyAttempts { seconds: wait.as_secs() + 1 }),
        }
    }
}

impl Attempt<'_> {
    /// It failed.
    pub(super) fn failed(self) {
        self.throttle.one_client.failed(self.client);
        self.throttle.anywhere.failed(self.email);
    }
}

/// One kind of key: a leaky bucket of failures for each, and who has overflowed until when.
struct Brake {
    failures: DefaultKeyedRateLimiter<String>,
    closed: Mutex<HashMap<String, Instant>>,
    /// Forget those that are free again when there are so many.
    tidy_at: AtomicUsize,
}

impl Brake {
    fn new(per_minute: NonZeroU32) -> Brake {
        Brake {
            failures: RateLimiter::keyed(Quota::per_minute(per_minute)),
            closed: Mutex::default(),
            tidy_at: AtomicUsize::new(TIDY),
        }
    }

    fn wait(&self, key: &str) -> Option<Duration> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.get(key)?.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
    }

    fn failed(&self, key: String) {
        if let Err(not_until) = self.failures.check_key(&key) {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            closed.retain(|_, until| *until > Instant::now());
            closed.insert(key, Instant::now() + wait);
        }
        if self.failures.len() > self.tidy_at.load(Ordering::Relaxed) {
            self.failures.retain_recent();
            self.tidy_at.store((self.failures.len() * 2).max(TIDY), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_failures_close_the_door_to_that_client_and_to_no_other() {
        let throttle = Throttle::new(3);
        for _ in 0..4 {
            throttle.attempt("a@b.c", "192.0.2.1").unwrap().failed();
        }
        assert!(matches!(
            throttle.attempt("A@B.c", "192.0.2.1"),
            Err(AuthError::TooManyAttempts { seconds: 1..=21 })
        ));
        assert!(throttle.attempt("a@b.c", "192.0.2.2").is_ok());
        assert!(throttle.attempt("d@b.c", "192.0.2.1").is_ok());
    }

    #[test]
    fn success_costs_nothing() {
        let throttle = Throttle::new(1);
        for _ in 0..1000 {
            assert!(throttle.attempt("a@b.c", "192.0.2.1").is_ok());
        }
    }
}
