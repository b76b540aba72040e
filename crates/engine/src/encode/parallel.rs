//! Encodes one sound on many threads: cuts it, hands the segments out, joins what comes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use super::merge::{Encoded, Merger};
use super::segments::{Cut, HELD_BACK};
use super::stream::{Samples, Stream};
use super::{Format, Lame};
use crate::{Code, Error};

/// So often whoever waits for an encoder looks whether to go on.
const LOOK: Duration = Duration::from_millis(50);

/// LAME takes what is audible in silence for higher after something loud, and forgets that by so much a frame (`adjust_ATH`).
const FADES: f32 = 0.925;

/// A mean square from which on all is equally loud for that.
const LOUD: f32 = 0.05;

/// What becomes of the MP3's bytes, and of the time spent waiting.
pub(crate) trait Outlet {
    /// The next bytes of the MP3, behind its Info frame.
    fn mp3(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// So many samples per channel are encoded; an error ends the conversion. Called often, also while nothing gets on.
    fn encoded(&mut self, samples: u64) -> Result<(), Error>;
}

/// Encodes samples in the order in which they come. Dropped before the end, it ends its threads.
pub(crate) struct Encoder {
    format: Format,
    cut: Cut,
    threads: usize,
    /// The samples of the segment that is next, from its lead on, as far as they have come.
    samples: Samples,
    /// Those of segments that are joined: their memory is used again.
    spare: Vec<Samples>,
    /// Its number, and its first frame.
    number: usize,
    begin: u64,
    merger: Merger,
    /// The number of the segment that the merger wants, and those that came before their turn.
    wanted: usize,
    early: BTreeMap<usize, Encoded>,
    info: Vec<u8>,
    work: Option<Sender<Segment>>,
    done: Receiver<(usize, Result<Encoded, Error>)>,
    stop: Arc<AtomicBool>,
}

/// What a thread gets.
struct Segment {
    number: usize,
    begin: u64,
    end: Option<u64>,
    samples: Samples,
}

impl Encoder {
    /// Starts so many threads, at least one.
    pub fn new<'scope>(
        scope: &'scope Scope<'scope, '_>,
        format: &Format,
        threads: usize,
    ) -> Result<Encoder, Error> {
        Encoder::with_cut(scope, format, threads, Cut::of(format.quality))
    }

    fn with_cut<'scope>(
        scope: &'scope Scope<'scope, '_>,
        format: &Format,
        threads: usize,
        cut: Cut,
    ) -> Result<Encoder, Error> {
        // First of all, and alone: see there.
        let info = Lame::info_frame(format)?;
        let ((work, queue), (told, done)) = (channel::<Segment>(), channel());
        let (queue, stop) = (Arc::new(Mutex::new(queue)), Arc::new(AtomicBool::new(false)));
        let threads = threads.max(1);
        for number in 0..threads {
            let (queue, told, stop, format) = (Arc::clone(&queue), told.clone(), Arc::clone(&stop), *format);
            let thread = std::thread::Builder::new().name(format!("encoder-{number}"));
            let started = thread.spawn_scoped(scope, move || encode_all(&format, cut, &queue, &told, &stop));
            started.map_err(no_thread)?;
        }
        Ok(Encoder {
            format: *format,
            cut,
            threads,
            samples: Samples::default(),
            spare: Vec::new(),
            number: 0,
            begin: 0,
            merger: Merger::new(cut, format.quality),
            wanted: 0,
            early: BTreeMap::new(),
            info,
            work: Some(work),
            done,
            stop,
        })
    }

    /// LAME's Info frame, whose lengths are not filled in yet: it stands before what [`Outlet::mp3`] gets.
    pub fn place_holder(&self) -> &[u8] {
        &self.info
    }

    /// Takes samples, within -1 to 1. `right` is `None` for mono, and where mono is to be doubled.
    pub fn push(
        &mut self,
        mut left: &[f32],
        mut right: Option<&[f32]>,
        outlet: &mut impl Outlet,
    ) -> Result<(), Error> {
        while !left.is_empty() {
            let wanted = self.end_of_samples() - self.samples.end();
            let count = left.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
            let (now, later) = left.split_at(count);
            self.samples.push(now, right.map(|right| &right[..count]));
            (left, right) = (later, right.map(|right| &right[count..]));
            if self.samples.end() == self.end_of_samples() {
                self.hand_out()?;
            }
            self.join(self.most_under_way(), outlet)?;
        }
        Ok(())
    }

    /// Ends the sound; returns the samples per channel, and the Info frame that belongs over its place holder.
    pub fn finish(mut self, outlet: &mut impl Outlet) -> Result<(u64, Vec<u8>), Error> {
        self.end(outlet)
    }

    fn end(&mut self, outlet: &mut impl Outlet) -> Result<(u64, Vec<u8>), Error> {
        let samples = self.samples.end();
        let last = std::mem::take(&mut self.samples);
        self.send(Segment { number: self.number, begin: self.begin, end: None, samples: last })?;
        self.number += 1;
        self.join(0, outlet)?;
        self.merger.finish();
        self.merger.take(|mp3| outlet.mp3(mp3))?;
        let mut info = std::mem::take(&mut self.info);
        self.merger.tally.fill_in(&mut info, samples).map_err(|why| crashed().because(why))?;
        Ok((samples, info))
    }

    /// The samples that the next segment's encoder gets end here.
    fn end_of_samples(&self) -> u64 {
        let frames = self.begin + self.cut.length(self.number) + self.cut.tail + HELD_BACK;
        frames * self.format.samples_per_frame()
    }

    /// So many segments may be handed out and not joined before the next is filled: one for each thread, and where there are many threads
    /// some that are done before their turn. With the one that is filled meanwhile, this is what memory is needed for.
    fn most_under_way(&self) -> usize {
        self.threads + self.threads / 4
    }

    /// Hands the segment out whose samples are there, and begins the next with those that it needs, too.
    fn hand_out(&mut self) -> Result<(), Error> {
        let (number, begin) = (self.number, self.begin);
        let end = begin + self.cut.length(number);
        (self.number, self.begin) = (number + 1, end);
        let start = (end - self.lead(end)) * self.format.samples_per_frame();
        let capacity = usize::try_from(self.end_of_samples() - start).unwrap_or_default();
        let next = self.samples.tail(start, capacity, self.spare.pop().unwrap_or_default());
        let samples = std::mem::replace(&mut self.samples, next);
        self.send(Segment { number, begin, end: Some(end), samples })
    }

    /// So many frames before a segment its encoder begins: after a loud passage before the loudest frame that LAME still hears.
    fn lead(&self, begin: u64) -> u64 {
        let frame = self.format.samples_per_frame();
        let first = begin.saturating_sub(self.cut.longest_lead).max(self.samples.start.div_ceil(frame));
        let mut heard = (0.0, begin);
        for number in first..begin {
            let power = self.samples.power(number * frame, frame).min(LOUD);
            let fades = heard.0 * FADES;
            heard = if power >= fades { (power, number) } else { (fades, heard.1) };
        }
        (begin - heard.1 + self.cut.usable).clamp(self.cut.lead, self.cut.longest_lead)
    }

    fn send(&self, segment: Segment) -> Result<(), Error> {
        self.work.as_ref().and_then(|work| work.send(segment).ok()).ok_or_else(crashed)
    }

    /// Joins what has come back, and waits until no more than `most` segments are under way.
    fn join(&mut self, most: usize, outlet: &mut impl Outlet) -> Result<(), Error> {
        loop {
            let wait = self.number - self.wanted > most;
            let came = match wait {
                true => self.done.recv_timeout(LOOK),
                false => self.done.try_recv().map_err(|_| RecvTimeoutError::Timeout),
            };
            match came {
                Ok((number, encoded)) => {
                    self.early.insert(number, encoded?);
                }
                Err(RecvTimeoutError::Timeout) if !wait => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(crashed()),
            }
            while let Some(segment) = self.early.remove(&self.wanted) {
                self.spare.push(self.merger.add(segment)?);
                self.wanted += 1;
                self.merger.take(|mp3| outlet.mp3(mp3))?;
            }
            outlet.encoded(self.merger.tally.frames() * self.format.samples_per_frame())?;
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Threads that wait for work wake up and end.
        self.work = None;
    }
}

/// What a thread does.
fn encode_all(
    format: &Format,
    cut: Cut,
    queue: &Mutex<Receiver<Segment>>,
    done: &Sender<(usize, Result<Encoded, Error>)>,
    stop: &AtomicBool,
) {
    loop {
        let segment = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(segment) = segment else { return };
        let number = segment.number;
        let encoded = std::panic::catch_unwind(|| encode(format, cut, segment, stop));
        if done.send((number, encoded.unwrap_or_else(|_| Err(crashed())))).is_err() {
            return;
        }
    }
}

fn encode(format: &Format, cut: Cut, segment: Segment, stop: &AtomicBool) -> Result<Encoded, Error> {
    let Segment { begin, end, samples, .. } = segment;
    let mut stream = Stream::new(format, samples.start / format.samples_per_frame())?;
    let wanted = end.map_or(u64::MAX, |end| end + cut.tail);
    stream.feed(&samples, wanted, || match stop.load(Ordering::Relaxed) {
        true => Err(Error::cancelled()),
        false => Ok(()),
    })?;
    if end.is_none() {
        stream.finish()?;
    }
    Ok(Encoded { stream, begin, end, samples })
}

fn crashed() -> Error {
    Error::new(Code::EngineCrashed, "The encoder failed. This is a fault of the server, not of the video.")
}

fn no_thread(error: std::io::Error) -> Error {
    Error::new(
        Code::OutOfMemory,
        "The conversion could not start all of its threads. The fault is not the video's: try again later.",
    )
    .because(error)
}

#[cfg(test)]
mod tests;
