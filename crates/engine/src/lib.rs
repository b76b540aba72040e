//! The engine: video bytes in, MP3 bytes out.
//!
//! libav reads the container and decodes the sound, LAME encodes it, and each conversion runs in a process of its own.
//! [`convert()`] does the work in the calling process; [`Engine::convert`] does the same work in a child that is given its
//! input, its output and a control socket, and no environment; the child runs [`engine_main`]. Its input is the file itself or, where
//! the video is no file, a socket on which it asks the parent for ranges ([`Input`]). It confines itself
//! before it touches the video: limits of memory, processor time and descriptors; Landlock without any path; a list of system calls
//! without sockets, processes or programs. Where the machine lacks a layer, nothing is converted, unless [`Sandbox::BestEffort`] allows it.
//!
//! There is no network in here, no async runtime, no database and no path: what is read and written arrives as
//! descriptors or through [`Source`] and [`Sink`]. There is no temporary file, and no video is ever decoded.
//! Linux only.

#![deny(unsafe_op_in_unsafe_fn)]

mod convert;
mod copy;
mod decode;
mod encode;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod io;
mod loudness;
pub mod mp3;
mod options;
mod pass;
mod peaks;
mod process;
mod pulse;

pub use convert::{Summary, convert};
pub use error::{Code, Error, Kind};
pub use io::{FileSink, Sink, Source};
pub use options::{Limits, Loudness, Options, Preset, Quality, Trim};
pub use peaks::Peaks;
#[doc(hidden)]
pub use process::engine_main_probing;
pub use process::{Cancel, Engine, Input, Lack, Layer, Sandbox, UnknownSandbox, engine_main};
pub use pulse::Progress;

/// FFmpeg's program, for tests: the one that FFMPEG names, or that is on PATH.
#[cfg(test)]
fn ffmpeg_program() -> std::process::Command {
    std::process::Command::new(std::env::var_os("FFMPEG").unwrap_or_else(|| "ffmpeg".into()))
}
