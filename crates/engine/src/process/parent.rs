//! The parent's side of a conversion: bytes to the sink, progress to the watcher, and an eye on the child.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::serving::{Fault, Serving};
use super::spawn::Process;
use super::wire::{self, Message};
use super::{Cancel, Engine, Input, ready};
use crate::error::words;
use crate::io::HEAD;
use crate::pulse::INTERVAL;
use crate::{Code, Error, Limits, Options, Progress, Sink, Summary};

/// How often to look whether the conversion was cancelled.
const TICK: Duration = Duration::from_millis(100);
const CHUNK: usize = 64 * 1024;

impl Engine {
    /// Converts in a child process; blocks until that process has ended, on every path.
    ///
    /// The child sees the video's descriptor (or, for [`Input::Ranges`], a socket to ask a thread of ours for it), a pipe for the MP3 and a
    /// control socket, has no environment, and dies with the calling thread. `watch` is called four times a second at most, and at the end. After an
    /// error, what the sink holds is to be thrown away. A slow sink or source slows the child down and is never taken for a stall; a
    /// slow sink does delay a cancellation, a slow source does not.
    pub fn convert(
        &self,
        input: Input,
        sink: &mut dyn Sink,
        options: &Options,
        limits: &Limits,
        cancel: &Cancel,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Summary, Error> {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let mut process =
            Process::start(self, input, options, limits).map_err(|error| not_started().because(error))?;
        let (heard, chunk) = (Heard::default(), vec![0; CHUNK]);
        let mut watcher = Watcher { sink, watch, limits, heard, told: None, chunk };
        let summary = watcher.listen(&mut process, cancel).and_then(|()| {
            let status = process.end().map_err(|error| crashed().because(error))?;
            watcher.conclude(status)
        });
        let Some(serving) = &process.serving else { return summary };
        match (summary, serving.check()) {
            (Err(error), _) if cancel.is_cancelled() => Err(error),
            // Whatever the child made of it: it did not get its video.
            (_, Err(fault)) => Err(not_served(fault)),
            (summary, Ok(())) => summary.map(|summary| Summary { bytes_read: serving.bytes(), ..summary }),
        }
    }
}

/// What the child has said so far.
#[derive(Default)]
struct Heard {
    ready: bool,
    fraction: f64,
    converted: Duration,
    /// The watcher does not know how far it is by now.
    is_news: bool,
    bytes: u64,
    head: Option<(u64, Vec<u8>)>,
    done: Option<Summary>,
    /// Control bytes that make no line yet.
    line: Vec<u8>,
    /// The end of stderr.
    errors: Vec<u8>,
}

struct Watcher<'a> {
    sink: &'a mut dyn Sink,
    watch: &'a mut dyn FnMut(Progress),
    limits: &'a Limits,
    heard: Heard,
    /// When the watcher was told last.
    told: Option<Instant>,
    chunk: Vec<u8>,
}

impl Watcher<'_> {
    /// Until the child has closed everything.
    fn listen(&mut self, process: &mut Process, cancel: &Cancel) -> Result<(), Error> {
        let mut fds: [RawFd; 3] =
            [process.output.as_raw_fd(), process.control.as_raw_fd(), process.errors.as_raw_fd()];
        // Counted in short steps: a machine that stood still has seen nobody stall.
        let (mut quiet, mut looked) = (Duration::ZERO, Instant::now());
        while fds[0] >= 0 || fds[1] >= 0 {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            process.serving.as_ref().map_or(Ok(()), Serving::check).map_err(not_served)?;
            // While the source reads, the child may be waiting for it.
            if !process.serving.as_ref().is_some_and(Serving::is_reading) {
                quiet += looked.elapsed().min(TICK * 3);
            }
            looked = Instant::now();
            if quiet >= self.limits.stall {
                return Err(stalled(self.limits.stall).because_heard(&self.heard));
            }
            let [output, control, errors] = ready::wait(fds, TICK.min(self.limits.stall));
            if errors && !self.hear_errors(&mut process.errors) {
                fds[2] = -1;
            }
            // Control first: an error that the child has told is worth more than the bytes before it.
            if control && !self.hear(&mut process.control)? {
                fds[1] = -1;
            }
            if output && !self.pass_on(&mut process.output)? {
                fds[0] = -1;
            }
            self.tell_in_time(); // What came too early to be told.
            if output || control {
                (quiet, looked) = (Duration::ZERO, Instant::now()); // After the sink has had its time.
            }
        }
        while fds[2] >= 0
            && ready::wait([fds[2]], Duration::ZERO) == [true]
            && self.hear_errors(&mut process.errors)
        {}
        self.tell();
        Ok(())
    }

    /// MP3 bytes; false at their end.
    fn pass_on(&mut self, output: &mut impl Read) -> Result<bool, Error> {
        let n = read(output, &mut self.chunk);
        self.heard.bytes += n as u64;
        if self.heard.bytes > self.limits.output {
            return Err(Error::output_too_large(self.limits.output));
        }
        if n > 0 {
            self.sink.write(&self.chunk[..n]).map_err(Error::write_failed)?;
        }
        Ok(n > 0)
    }

    /// Control messages; false at their end.
    fn hear(&mut self, control: &mut impl Read) -> Result<bool, Error> {
        let n = read(control, &mut self.chunk);
        // Only what is new is looked at: a child that sends byte by byte shall not have us look at all of a long line each time.
        let end =
            self.chunk[..n].iter().rposition(|&byte| byte == b'\n').map(|last| self.heard.line.len() + last);
        self.heard.line.extend_from_slice(&self.chunk[..n]);
        if let Some(end) = end {
            let rest = self.heard.line.split_off(end + 1);
            let lines = std::mem::replace(&mut self.heard.line, rest);
            for line in lines[..end].split(|&byte| byte == b'\n') {
                let message = serde_json::from_slice(line).map_err(|error| crashed().because(error))?;
                self.understand(message)?;
            }
        }
        if self.heard.line.len() > wire::LONGEST {
            return Err(crashed().because("the engine process sent a message without end"));
        }
        Ok(n > 0)
    }

    fn understand(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Ready => self.heard.ready = true,
            Message::Progress { fraction, converted } => {
                self.heard.fraction = self.heard.fraction.max(fraction.clamp(0.0, 1.0));
                let converted = Duration::try_from_secs_f64(converted).unwrap_or_default();
                self.heard.converted = converted;
                self.heard.is_news = true;
                self.tell_in_time();
            }
            Message::Head { offset, bytes } => self.heard.head = Some((offset, bytes)),
            Message::Done(summary) => self.heard.done = Some(summary),
            Message::Failed { code, text, detail } => {
                return Err(Error { code, text, source: detail.map(Into::into) });
            }
        }
        Ok(())
    }

    /// Tells the watcher what is new, if it is time to: the child keeps that pace as well, but may have been taken over.
    fn tell_in_time(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= INTERVAL) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        if std::mem::take(&mut self.heard.is_news) {
            self.told = Some(Instant::now());
            (self.watch)(Progress { fraction: self.heard.fraction, converted: self.heard.converted });
        }
    }

    /// The child's stderr; false at its end.
    fn hear_errors(&mut self, errors: &mut impl Read) -> bool {
        const KEPT: usize = 4096;
        let n = read(errors, &mut self.chunk);
        let kept = &mut self.heard.errors;
        kept.extend_from_slice(&self.chunk[..n]);
        kept.drain(..kept.len().saturating_sub(KEPT));
        n > 0
    }

    /// The child has ended: as it should, with all that it announced?
    fn conclude(self, status: ExitStatus) -> Result<Summary, Error> {
        let Heard { ready, bytes, head, done, .. } = &self.heard;
        let fault = match (done, head) {
            (Some(summary), Some((offset, head))) if status.success() => {
                let fits = offset.saturating_add(head.len() as u64) <= HEAD.min(*bytes);
                let peaks = summary.peaks.as_ref();
                if peaks.is_some_and(|peaks| !peaks.fit(summary.samples, summary.sample_rate)) {
                    return Err(crashed().because("the engine process sent peaks that are not of its sound"));
                }
                if fits && summary.bytes == *bytes && summary.samples > 0 {
                    self.sink.rewrite_head(*offset, head).map_err(Error::write_failed)?;
                    return Ok(summary.clone());
                }
                crashed()
                    .because(format!("the engine process announced {} bytes and sent {bytes}", summary.bytes))
            }
            _ if status.signal() == Some(libc::SIGXCPU) => cpu_limit(self.limits.cpu),
            _ if String::from_utf8_lossy(&self.heard.errors).contains("memory allocation of") => {
                Error::out_of_memory().because_heard(&self.heard)
            }
            _ if status.signal() == Some(libc::SIGSYS) => breached().because_ended(status, &self.heard),
            _ if !ready => not_started().because_ended(status, &self.heard),
            _ => crashed().because_ended(status, &self.heard),
        };
        Err(fault)
    }
}

/// Reads what is there; an error of a pipe is its end.
fn read(from: &mut impl Read, buffer: &mut [u8]) -> usize {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result.unwrap_or(0),
        }
    }
}

fn not_started() -> Error {
    Error::new(
        Code::EngineNotStarted,
        "The conversion could not be started. The fault is not the video's: try again later.",
    )
}

fn crashed() -> Error {
    Error::new(
        Code::EngineCrashed,
        "The conversion ended unexpectedly. Something in this file may be the cause; saving the video in another format may help.",
    )
}

fn breached() -> Error {
    Error::new(
        Code::EngineCrashed,
        "The conversion tried what no conversion does, and was stopped. This file may be made to attack whoever opens it: do not open it.",
    )
}

fn not_served(fault: Fault) -> Error {
    match fault {
        Fault::Source(error) => Error::read_failed(error),
        Fault::Breach(asked) => {
            crashed().because(format!("the engine process asked for what it may not: {asked}"))
        }
    }
}

fn stalled(stall: Duration) -> Error {
    let text = format!(
        "The conversion made no progress for {} and was stopped. Something in this file may be the cause; saving the video in another format may help.",
        words(stall)
    );
    Error::new(Code::EngineStalled, text)
}

fn cpu_limit(cpu: Duration) -> Error {
    let text = format!(
        "The conversion took more than the limit of {} of processor time. Cut the video into parts and convert them one by one.",
        words(cpu)
    );
    Error::new(Code::CpuLimit, text)
}

impl Error {
    fn because_heard(self, heard: &Heard) -> Error {
        let said = String::from_utf8_lossy(&heard.errors);
        if said.trim().is_empty() { self } else { self.because(said.trim().to_owned()) }
    }

    fn because_ended(self, status: ExitStatus, heard: &Heard) -> Error {
        let said = String::from_utf8_lossy(&heard.errors);
        self.because(format!("the engine process ended with {status}\n{}", said.trim()).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that says these bytes, one by one.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    /// How far the parent says that a child is which says these bytes.
    fn heard(mut control: impl Read) -> Result<Vec<f64>, Error> {
        let (mut sink, limits, mut told) = (Vec::new(), Limits::default(), Vec::new());
        let mut watch = |progress: Progress| told.push(progress.fraction);
        let (heard, chunk) = (Heard::default(), vec![0; CHUNK]);
        let mut watcher =
            Watcher { sink: &mut sink, watch: &mut watch, limits: &limits, heard, told: None, chunk };
        while watcher.hear(&mut control)? {}
        watcher.tell();
        Ok(told)
    }

    const TWO: &[u8] = br#""ready"
{"progress":{"fraction":0.25,"converted":1.0}}
{"progress":{"fraction":0.5,"converted":2.0}}
{"progress":{"fraction":1.0,"#;

    #[test]
    fn messages_are_heard_in_whatever_pieces_they_come() {
        assert_eq!(heard(TWO).unwrap(), [0.25, 0.5]);
        assert_eq!(heard(Slow(TWO)).unwrap(), [0.25, 0.5]);
        assert_eq!(heard(&b"\n"[..]).unwrap_err().code, Code::EngineCrashed);
    }

    #[test]
    fn a_child_that_tells_its_progress_in_haste_is_passed_on_four_times_a_second() {
        let lines: String = (0..50_000)
            .map(|n| {
                format!("{{\"progress\":{{\"fraction\":{},\"converted\":1.0}}}}\n", f64::from(n) / 50_000.0)
            })
            .collect();
        let start = Instant::now();
        let told = heard(lines.as_bytes()).unwrap();
        let most = start.elapsed().div_duration_f64(INTERVAL) + 2.0;
        assert!(told.len() as f64 <= most, "{} times in {:?}", told.len(), start.elapsed());
        assert_eq!((told.first(), told.last()), (Some(&0.0), Some(&0.99998)), "the last one is not lost");
    }

    #[test]
    fn a_child_that_sends_more_than_the_limit_is_not_passed_on() {
        let limits = Limits { output: 100_000, ..Limits::default() };
        let (mut sink, mut watch) = (Vec::new(), |_| ());
        let (heard, chunk) = (Heard::default(), vec![0; CHUNK]);
        let mut watcher =
            Watcher { sink: &mut sink, watch: &mut watch, limits: &limits, heard, told: None, chunk };
        assert!(watcher.pass_on(&mut std::io::repeat(0)).unwrap());
        assert_eq!(watcher.pass_on(&mut std::io::repeat(0)).unwrap_err().code, Code::OutputTooLarge);
        assert_eq!(sink.len(), CHUNK);
    }

    #[test]
    fn a_message_without_end_that_comes_byte_by_byte_is_refused_and_takes_no_time() {
        let endless = vec![b' '; wire::LONGEST + 1];
        let start = Instant::now();
        assert_eq!(heard(Slow(&endless)).unwrap_err().code, Code::EngineCrashed);
        assert!(heard(Slow(&endless[..wire::LONGEST])).is_ok());
        assert!(start.elapsed() < Duration::from_secs(10), "each byte was looked at again and again");
    }
}
