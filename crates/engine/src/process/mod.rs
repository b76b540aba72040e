//! Conversions in a process of their own: how to start one, feed it, end it. `parent` watches, `child` works, `wire` is what they say.

mod child;
mod confine;
mod parent;
mod ready;
mod spawn;
mod wire;

pub use child::engine_main;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the engine process reads the video.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// A file, open for reading. The process inherits the descriptor and reads at offsets; it never learns a path.
    File(std::fs::File),
}

/// Ends a conversion from any thread.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Asks the conversion to end; it does within half a second, unless it waits for its sink.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True once [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How to start an engine process.
#[derive(Clone, Debug)]
pub struct Engine {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Engine {
    /// This very program, with the one argument `engine`; it must then call [`engine_main`].
    ///
    /// It is the file that runs now, even where an upgrade has put another in its place since.
    pub fn this_program() -> std::io::Result<Engine> {
        const SELF: &str = "/proc/self/exe";
        std::fs::symlink_metadata(SELF)?;
        Ok(Engine::program(SELF, ["engine"]))
    }

    /// Another program that calls [`engine_main`] when it is started with `args`.
    pub fn program(path: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Engine {
        Engine { program: path.into(), args: args.into_iter().map(Into::into).collect() }
    }
}
