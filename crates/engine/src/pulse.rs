//! How far a conversion is, told to its watcher four times a second at most, from wherever the work happens to be.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How far a conversion is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1, never backwards.
    pub fraction: f64,
    /// Sound converted so far.
    pub converted: Duration,
}

/// The watcher is told no more often.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// Carries the watcher. Shared by the decode loop and by reads from within libav, so that long searches in a file show life and can be
/// cancelled, too.
pub(crate) struct Pulse<'a> {
    watch: RefCell<&'a mut dyn FnMut(Progress) -> ControlFlow<()>>,
    progress: Cell<Progress>,
    told: Cell<Instant>,
    stopped: Cell<bool>,
}

impl<'a> Pulse<'a> {
    pub fn new(watch: &'a mut dyn FnMut(Progress) -> ControlFlow<()>) -> Pulse<'a> {
        Pulse {
            watch: RefCell::new(watch),
            progress: Cell::default(),
            told: Cell::new(Instant::now()),
            stopped: Cell::new(false),
        }
    }

    /// Notes how far the conversion is; a fraction that would go back is kept where it was.
    pub fn note(&self, fraction: f64, converted: Duration) {
        let before = self.progress.get().fraction;
        let fraction = if fraction > before { fraction.min(1.0) } else { before };
        self.progress.set(Progress { fraction, converted });
    }

    /// Tells the watcher if it is time to; `Break` once it has asked to stop.
    pub fn beat(&self) -> ControlFlow<()> {
        if !self.stopped.get() && self.told.get().elapsed() >= INTERVAL {
            self.tell();
        }
        if self.stopped.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Tells the watcher now.
    pub fn tell(&self) {
        self.told.set(Instant::now());
        let stop = (self.watch.borrow_mut())(self.progress.get()).is_break();
        self.stopped.set(stop || self.stopped.get());
    }

    pub fn progress(&self) -> Progress {
        self.progress.get()
    }

    pub fn stopped(&self) -> bool {
        self.stopped.get()
    }
}
