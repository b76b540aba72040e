//! Conversions in a process of their own: how to start one, feed it, end it. `parent` watches, `child` works, `wire` is what they say,
//! `confine` is what the child may do.
//! Where the video is no file, `serving` is how the parent reads it for the child, `served` how the child asks, `ranges` what they say.

mod child;
mod confine;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod parent;
mod ranges;
mod ready;
mod served;
mod serving;
mod spawn;
mod wire;

pub use child::{engine_main, engine_main_probing};
pub use confine::{Lack, Layer, Sandbox, UnknownSandbox};

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Code, Error, Limits, Options, Source};

/// Where the engine process reads the video.
#[non_exhaustive]
pub enum Input {
    /// A file, open for reading. The process inherits the descriptor and reads at offsets; it never learns a path.
    File(std::fs::File),
    /// Whatever can be read by range, such as a store across the network. A thread of the calling process reads it for the engine process,
    /// up to about 1 MiB at a time and never past the size that [`Source::len`] told at first; no byte is read that neither the conversion
    /// nor a short look ahead asks for.
    ///
    /// The source may block, and needs time limits of its own: time that it takes is never counted as a stall, so that one that hangs
    /// holds the conversion until [`Cancel`]. Whatever it does wrong (an error, a panic, an end before its size) ends the conversion as
    /// [`crate::Code::ReadFailed`] and is never taken for a fault of the video; it is not asked again, so that trying again is its own to
    /// do. It is dropped before [`Engine::convert`] returns, unless it hangs: then its thread ends once it returns.
    Ranges(Box<dyn Source + Send>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::File(file) => f.debug_tuple("File").field(file).finish(),
            Input::Ranges(_) => f.debug_tuple("Ranges").finish_non_exhaustive(),
        }
    }
}

/// Ends a conversion from any thread.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Asks the conversion to end; it does within half a second, unless it waits for its sink; a source that hangs is not
    /// waited for.
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
    sandbox: Sandbox,
    layers: Vec<Layer>,
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
        Engine {
            program: path.into(),
            args: args.into_iter().map(Into::into).collect(),
            sandbox: Sandbox::default(),
            layers: Layer::ALL.to_vec(),
        }
    }

    /// What its processes do where the machine lacks a layer of the sandbox; [`Sandbox::Required`] where nothing is said.
    #[must_use]
    pub fn with_sandbox(self, sandbox: Sandbox) -> Engine {
        Engine { sandbox, ..self }
    }

    /// For tests, which look at each layer by itself.
    #[doc(hidden)]
    #[must_use]
    pub fn with_layers(self, layers: &[Layer]) -> Engine {
        Engine { layers: layers.to_vec(), ..self }
    }

    /// The layers without which conversions go on by [`Sandbox::BestEffort`]: those that an engine process of this machine cannot enter.
    pub fn lacking(&self) -> Result<Vec<Lack>, Error> {
        let engine = self.clone().with_sandbox(Sandbox::Required);
        let mut lacking = Vec::new();
        for layer in [Layer::Landlock, Layer::Seccomp] {
            match engine.clone().with_layers(&[layer]).check() {
                Err(error) if error.code == Code::SandboxUnavailable => lacking.push(Lack::of(layer, &error)),
                checked => checked?,
            }
        }
        Ok(lacking)
    }

    /// Starts an engine process, which confines itself and finds nothing to convert: fails as every conversion on this machine would.
    pub fn check(&self) -> Result<(), Error> {
        let nothing: &[u8] = &[];
        let (mut sink, options, limits) = (Vec::new(), Options::default(), Limits::default());
        let input = Input::Ranges(Box::new(nothing));
        match self.convert(input, &mut sink, &options, &limits, &Cancel::new(), &mut |_| ()) {
            Err(error) if error.code == Code::EmptyFile => Ok(()),
            converted => converted.map(drop),
        }
    }
}
