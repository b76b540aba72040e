//! The engine process: reads a request, converts what descriptor 0 gives to descriptor 1, reports on descriptor 3, ends.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::served::Served;
use super::wire::{self, CONTROL, Message, Request, Video};
use super::{confine, ready};
use crate::{Code, Error, Sink, Source, Summary, convert};

/// What the engine process runs: `main` returns what this returns, and has opened nothing and started no thread before.
///
/// It expects to be started by [`crate::Engine::convert`]; started by hand, it says so on stderr and fails.
pub fn engine_main() -> ExitCode {
    return_memory();
    run(None)
}

/// One arena for all threads, which allocate little in a conversion's course, and large blocks given back when they are freed: what one
/// thread freed is of use to another, and what an index took to be read is not kept.
fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets numbers in the allocator, before any thread is started.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
    }
}

/// For tests of the sandbox: `probe` runs where a conversion would, confined as it would be, and what it answers fails the conversion.
#[doc(hidden)]
pub fn engine_main_probing(probe: &dyn Fn() -> String) -> ExitCode {
    run(Some(probe))
}

fn run(probe: Option<&dyn Fn() -> String>) -> ExitCode {
    let Some(control) = inherited_control() else {
        eprintln!("this is an engine process; it is started by tapedeck itself, not by hand");
        return ExitCode::from(2);
    };
    // A panic has printed itself by then; the parent takes an end without a last word for a crash.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(control, probe)));
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("the engine process ends early: {error}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::from(101),
    }
}

/// Descriptor 3, when it is a socket.
fn inherited_control() -> Option<UnixStream> {
    // SAFETY: a zeroed stat is valid, and fstat writes it.
    let is_socket = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(CONTROL, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
    };
    // SAFETY: the descriptor is open, was inherited for this, and nothing else here knows it.
    is_socket.then(|| unsafe { UnixStream::from(OwnedFd::from_raw_fd(CONTROL)) })
}

fn serve(control: UnixStream, probe: Option<&dyn Fn() -> String>) -> io::Result<()> {
    let request: Request = wire::receive(&control)?;
    if let Err(error) = confine::confine(&request.limits, &request.layers, request.sandbox) {
        return wire::send(&control, &last_word(Err(error)));
    }
    // SAFETY: standard input and output are inherited for this, and used through these two only.
    let (video, output) = unsafe { (OwnedFd::from_raw_fd(0), File::from_raw_fd(1)) };
    let source: Box<dyn Source> = match request.video {
        Video::File => Box::new(File::from(video)),
        Video::Ranges => Box::new(Served::new(UnixStream::from(video))),
    };
    wire::send(&control, &Message::Ready)?;

    let mut sink = ParentSink { output, control: &control };
    let mut watch = |progress: crate::Progress| {
        let told = wire::send(&control, &Message::from(progress));
        if told.is_err() || ready::hung_up(control.as_raw_fd()) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let result = match probe {
        None => convert(&*source, &mut sink, &request.options, &request.limits, &mut watch),
        Some(probe) => Err(Error::new(Code::Corrupt, probe())),
    };
    wire::send(&control, &last_word(result))
}

fn last_word(result: Result<Summary, Error>) -> Message {
    match result {
        Ok(summary) => Message::Done(summary),
        Err(error) => {
            let mut detail = Vec::new();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                detail.push(cause.to_string());
                source = cause.source();
            }
            let detail = (!detail.is_empty()).then(|| detail.join(": "));
            Message::Failed { code: error.code, text: error.text, detail }
        }
    }
}

/// MP3 bytes go down the pipe; the head, which a pipe cannot rewrite, goes to the parent as a message.
struct ParentSink<'a> {
    output: File,
    control: &'a UnixStream,
}

impl Sink for ParentSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    fn rewrite_head(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        wire::send(self.control, &Message::Head { offset, bytes: bytes.to_vec() })
    }
}
