//! The parent's side of the video by range: a thread that reads the source for the child.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::ranges::{LONGEST, Range};
use crate::Source;

/// A source that is being served. Dropping it ends the thread and waits for that, unless the thread is inside the source: then it ends,
/// and drops the source, as soon as the source returns.
pub(super) struct Serving {
    state: Arc<Mutex<State>>,
    socket: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// Why nothing more is served.
#[derive(Debug)]
pub(super) enum Fault {
    /// The source failed, or is not what it said.
    Source(io::Error),
    /// The child asked for what it may not.
    Breach(String),
}

#[derive(Default)]
struct State {
    /// The thread is inside the source.
    reading: bool,
    /// Nobody waits for the source any more.
    closed: bool,
    bytes: u64,
    fault: Option<Fault>,
}

impl Serving {
    /// Serves `source` on `socket`.
    pub fn start(source: Box<dyn Source + Send>, socket: UnixStream) -> io::Result<Serving> {
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server { source, socket: socket.try_clone()?, state: Arc::clone(&state) };
        let thread = std::thread::Builder::new().name("video".to_owned()).spawn(move || server.run())?;
        Ok(Serving { state, socket, thread: Some(thread) })
    }

    /// Whether the source is at work now, so that the child may be waiting for it.
    pub fn is_reading(&self) -> bool {
        lock(&self.state).reading
    }

    /// Bytes that the source has given.
    pub fn bytes(&self) -> u64 {
        lock(&self.state).bytes
    }

    /// Fails once with the reason when the serving has ended before its time.
    pub fn check(&self) -> Result<(), Fault> {
        lock(&self.state).fault.take().map_or(Ok(()), Err)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let reading = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.reading
        };
        let _ = self.socket.shutdown(Shutdown::Both); // An error means that it is closed.
        if let Some(thread) = self.thread.take().filter(|_| !reading) {
            let _ = thread.join(); // It catches its own panics.
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread works with.
struct Server {
    source: Box<dyn Source + Send>,
    socket: UnixStream,
    state: Arc<Mutex<State>>,
}

/// How the serving ends.
enum End {
    /// The child wants no more, or nobody waits.
    Quiet,
    Fault(Fault),
}

impl Server {
    fn run(self) {
        let end = catch_unwind(AssertUnwindSafe(|| self.serve()))
            .unwrap_or_else(|_| Err(source_fault("the code that reads the video panicked")));
        let mut state = lock(&self.state);
        state.reading = false;
        if let Err(End::Fault(fault)) = end {
            state.fault = Some(fault);
        }
        drop(state);
        // Last: whoever sees this finds the fault recorded.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Answers until there is a reason to end.
    fn serve(&self) -> Result<Infallible, End> {
        let size = self.ask(|source| source.len())?;
        if i64::try_from(size).is_err() {
            return Err(source_fault(format!("its store says that the video has {size} bytes")));
        }
        self.send(&size.to_le_bytes())?;
        let mut rest = most(size);
        let mut buffer = Vec::new();
        loop {
            let range = Range::receive(&self.socket).map_err(|_| End::Quiet)?;
            if !range.may_be_asked(size) {
                return Err(breach(format!("{range:?} of a video of {size} bytes")));
            }
            rest = rest
                .checked_sub(range.length.into())
                .ok_or_else(|| breach(format!("more than {} bytes of a video of {size}", most(size))))?;
            buffer.resize(range.length as usize, 0);
            self.fill(range.offset, &mut buffer)?;
            self.send(&buffer)?;
        }
    }

    /// Reads all of `buffer`, in as many pieces as the source likes.
    fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<(), End> {
        let mut filled = 0;
        while filled < buffer.len() {
            let (at, rest) = (offset + filled as u64, &mut buffer[filled..]);
            let room = rest.len();
            let n = self.ask(|source| source.read_at(at, rest))?;
            if n == 0 {
                return Err(source_fault(format!(
                    "the video ends at byte {at}, before the size that its store says"
                )));
            }
            if n > room {
                return Err(source_fault(format!(
                    "the store says that it read {n} bytes where {room} were asked for"
                )));
            }
            filled += n;
            lock(&self.state).bytes += n as u64;
        }
        Ok(())
    }

    /// Calls the source, unless nobody waits for it any more.
    fn ask<T>(&self, call: impl FnOnce(&dyn Source) -> io::Result<T>) -> Result<T, End> {
        {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(End::Quiet);
            }
            state.reading = true;
        }
        let answer = call(&*self.source);
        lock(&self.state).reading = false;
        answer.map_err(|error| End::Fault(Fault::Source(error)))
    }

    fn send(&self, bytes: &[u8]) -> Result<(), End> {
        (&self.socket).write_all(bytes).map_err(|_| End::Quiet)
    }
}

/// What a conversion may read in all. It reads a video once, twice to measure it, some parts more often; one that is made to send a
/// decoder to and fro could have its store read for ever.
fn most(size: u64) -> u64 {
    size.saturating_mul(16).saturating_add(16 * LONGEST)
}

fn breach(asked: String) -> End {
    End::Fault(Fault::Breach(asked))
}

fn source_fault(why: impl Into<String>) -> End {
    End::Fault(Fault::Source(io::Error::other(why.into())))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_child_that_reads_on_and_on_is_served_no_more_after_a_multiple_of_the_video() {
        const SIZE: usize = 1 << 20;
        let (ours, theirs) = UnixStream::pair().unwrap();
        let serving = Serving::start(Box::new(&[7; SIZE][..]), ours).unwrap();
        let mut greeting = [0; 8];
        (&theirs).read_exact(&mut greeting).unwrap();
        assert_eq!(u64::from_le_bytes(greeting), SIZE as u64);
        let range = Range { offset: 1, length: 1_000_000 };
        let mut answer = vec![0; 1_000_000];
        let mut served = || range.send(&theirs).is_ok() && (&theirs).read_exact(&mut answer).is_ok();
        let count = (0..100).take_while(|_| served()).count();
        assert!((30..40).contains(&count), "{count}");
        assert_eq!(serving.bytes(), count as u64 * 1_000_000);
        assert!(matches!(serving.check(), Err(Fault::Breach(_))));
        assert!(serving.check().is_ok(), "told once");
    }
}
