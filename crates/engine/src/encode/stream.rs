//! One LAME and the frames that it makes, numbered as in the whole sound.

use std::collections::VecDeque;

use super::{Format, Lame};
use crate::mp3::unpack::{Frame, Unpacker};
use crate::{Code, Error};

/// Planar samples of a part of the sound.
#[derive(Clone, Default)]
pub(super) struct Samples {
    /// Where the part begins in the whole sound, in samples.
    pub start: u64,
    pub left: Vec<f32>,
    /// Empty where there is one channel.
    pub right: Vec<f32>,
}

impl Samples {
    pub fn end(&self) -> u64 {
        self.start + self.left.len() as u64
    }

    pub fn push(&mut self, left: &[f32], right: Option<&[f32]>) {
        self.left.extend_from_slice(left);
        self.right.extend_from_slice(right.unwrap_or_default());
    }

    /// The mean square of `count` samples of each channel, from sample `start` of the whole sound on.
    pub fn power(&self, start: u64, count: u64) -> f32 {
        let (at, count) = ((start - self.start) as usize, count as usize);
        let square = |channel: &[f32]| -> f32 {
            channel.get(at..at + count).unwrap_or_default().iter().map(|sample| sample * sample).sum()
        };
        let channels = if self.right.is_empty() { 1.0 } else { 2.0 };
        (square(&self.left) + square(&self.right)) / (channels * count as f32)
    }

    /// A copy of what lies from `start` on, in the memory of `spare`, with room for `capacity` samples.
    pub fn tail(&self, start: u64, capacity: usize, spare: Samples) -> Samples {
        let at = usize::try_from(start - self.start).unwrap_or(usize::MAX).min(self.left.len());
        let copy = |samples: &[f32], mut copy: Vec<f32>| {
            copy.clear();
            copy.reserve_exact(if samples.is_empty() { 0 } else { capacity });
            copy.extend_from_slice(samples.get(at..).unwrap_or_default());
            copy
        };
        Samples { start, left: copy(&self.left, spare.left), right: copy(&self.right, spare.right) }
    }
}

/// A LAME that was begun at a frame of the whole sound.
pub(super) struct Stream {
    lame: Lame,
    unpacker: Unpacker,
    /// Samples per frame.
    frame: u64,
    /// The next sample that it wants.
    fed: u64,
    /// What it made, from frame `first` of the whole sound on.
    pub first: u64,
    pub frames: VecDeque<Frame>,
}

impl Stream {
    pub fn new(format: &Format, first: u64) -> Result<Stream, Error> {
        let frame = format.samples_per_frame();
        let lame = Lame::bare(format)?;
        let unpacker = Unpacker::default();
        Ok(Stream { lame, unpacker, frame, fed: first * frame, first, frames: VecDeque::new() })
    }

    /// The frame behind the last one that is there.
    pub fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// Frame `number` of the whole sound, where it is there.
    pub fn get(&self, number: u64) -> Option<&Frame> {
        self.frames.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Takes samples, as many as it wants for frame `end` to be the next, or all that there are. Looks at `go_on` in between.
    pub fn feed(
        &mut self,
        samples: &Samples,
        end: u64,
        mut go_on: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        while self.end() < end && self.fed < samples.end() {
            go_on()?;
            // Many frames at once, then one by one: what LAME holds back is not known before.
            let frames = end.saturating_mul(self.frame).saturating_sub(self.fed) / self.frame;
            let count = (frames.clamp(1, 16) * self.frame).min(samples.end() - self.fed) as usize;
            let at = (self.fed - samples.start) as usize;
            let left = &samples.left[at..at + count];
            let right = samples.right.get(at..at + count);
            let (unpacker, frames) = (&mut self.unpacker, &mut self.frames);
            self.lame.encode(left, right, |mp3| unpacker.push(mp3, frames).map_err(broken))?;
            self.fed += count as u64;
        }
        Ok(())
    }

    /// Ends the sound: all frames are there afterwards.
    pub fn finish(&mut self) -> Result<(), Error> {
        let mp3 = self.lame.finish()?;
        self.unpacker.push(mp3, &mut self.frames).map_err(broken)
    }

    /// Takes the frames before `end` away, in order.
    pub fn take(&mut self, end: u64, mut with: impl FnMut(Frame)) {
        while self.first < end {
            let Some(frame) = self.frames.pop_front() else { break };
            self.first += 1;
            with(frame);
        }
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::EngineCrashed, "The encoder failed. This is a fault of the server, not of the video.")
        .because(error)
}
