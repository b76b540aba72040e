//! A circuit breaker: where a server fails again and again, sends fail at once for a while instead of each waiting for it.

use super::failure::{Failure, Stage};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone)]
pub struct Patience {
    /// So many failures in a row open it.
    pub failures: u32,
    /// The first pause.
    pub pause: Duration,
    /// Each pause after a try that failed is twice as long, up to this.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { failures: 5, pause: Duration::from_secs(30), longest: Duration::from_secs(300) }
    }
}

/// The breaker. Closed at first.
pub(super) struct Breaker {
    patience: Patience,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    open: Option<Open>,
}

/// After the pause one is let through; if it is not done, nobody else is.
struct Open {
    until: Instant,
    pause: Duration,
    trying: bool,
    why: String,
}

/// The right to try. Dropped without a verdict it changes nothing.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    is_the_try: bool,
}

impl Breaker {
    pub fn new(patience: Patience) -> Breaker {
        Breaker { patience, state: Mutex::default() }
    }

    /// May a mail try now?
    pub fn admit(&self, now: Instant) -> Result<Pass<'_>, Failure> {
        let mut state = self.state();
        let Some(open) = &mut state.open else {
            return Ok(Pass { breaker: self, is_the_try: false });
        };
        if now >= open.until && !open.trying {
            open.trying = true;
            return Ok(Pass { breaker: self, is_the_try: true });
        }
        let seconds = open.until.saturating_duration_since(now).as_secs() + 1;
        let text = format!("the mail server has been failing ({}); next try in {seconds} seconds", open.why);
        Err(Failure::new(Stage::Turn, text))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The server is well: the breaker closes.
    pub fn succeeded(self) {
        *self.breaker.state() = State::default();
    }

    /// The server failed. If that opens the breaker, or keeps it open: for how long.
    pub fn failed(self, now: Instant, why: &str) -> Option<Duration> {
        let patience = &self.breaker.patience;
        let mut state = self.breaker.state();
        state.failures += 1;
        let pause = match &state.open {
            Some(open) if self.is_the_try => (open.pause * 2).min(patience.longest),
            // It was let in before the breaker opened, and comes late.
            Some(_) => return None,
            None if state.failures >= patience.failures => patience.pause,
            None => return None,
        };
        state.open = Some(Open { until: now + pause, pause, trying: false, why: why.to_owned() });
        Some(pause)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_the_try
            && let Some(open) = &mut self.breaker.state().open
        {
            open.trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(Patience::default());
        for failure in 1..=5 {
            let pause = breaker.admit(now).ok().unwrap().failed(now, "refused");
            assert_eq!(pause.is_some(), failure == 5);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_between_them_does_not_let_them_add_up() {
        let now = Instant::now();
        let breaker = Breaker::new(Patience::default());
        for round in 0..20 {
            let pass = breaker.admit(now).ok().unwrap();
            if round % 5 == 4 { pass.succeeded() } else { assert_eq!(pass.failed(now, "refused"), None) }
        }
        let breaker = opened(now);
        let error = breaker.admit(now + SECOND).err().unwrap().to_string();
        assert!(error.contains("refused") && error.contains("next try in 30 seconds"), "{error}");
    }

    #[test]
    fn after_the_pause_one_tries_and_success_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        let pass = breaker.admit(now + 30 * SECOND).ok().unwrap();
        assert!(breaker.admit(now + 30 * SECOND).is_err(), "one at a time");
        pass.succeeded();
        for _ in 0..4 {
            assert_eq!(
                breaker.admit(now).ok().unwrap().failed(now, "refused"),
                None,
                "it counts from the start"
            );
        }
    }

    #[test]
    fn each_failed_try_doubles_the_pause_up_to_the_longest() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for pause in [30, 60, 120, 240, 300, 300] {
            assert!(breaker.admit(now + (pause - 1) * SECOND).is_err(), "{pause}");
            now += pause * SECOND;
            let next = breaker.admit(now).ok().unwrap().failed(now, "refused");
            assert_eq!(next, Some((2 * pause * SECOND).min(300 * SECOND)));
        }
    }

    #[test]
    fn a_try_that_was_given_up_makes_room_for_another_and_latecomers_change_nothing() {
        let now = Instant::now();
        let breaker = Breaker::new(Patience { failures: 1, ..Patience::default() });
        let late = breaker.admit(now).ok().unwrap();
        assert_eq!(breaker.admit(now).ok().unwrap().failed(now, "refused"), Some(30 * SECOND));
        assert_eq!(late.failed(now + SECOND, "refused"), None);
        drop(breaker.admit(now + 30 * SECOND).ok().unwrap());
        assert!(breaker.admit(now + 30 * SECOND).is_ok());
    }
}
