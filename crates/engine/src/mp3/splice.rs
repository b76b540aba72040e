//! Makes one stream of copied frames, of which a player hears exactly what it would hear in the source.
//!
//! What is not heard at the two ends is said by the Info frame, as encoder delay and padding (<http://gabriel.mp3-tech.org/mp3infotag.html>).
//! It can say neither less than the 529 samples by which a decoder is late nor more than 4,095 beyond: so a silent frame is put before a
//! sound of which less is dropped, and frames that are far outside of what is heard are left out.

use std::collections::VecDeque;
use std::ops::Range;

use super::foreign::Uncopyable;
use super::frame::{Header, rate_index, with_room};
use super::info::{Tally, blank};
use super::pack::{Packer, after};
use super::unpack::Frame;

/// A decoder's own delay: what delay and padding count from.
const DECODER_DELAY: u64 = 529;
/// The largest delay or padding that the Info frame has bits for.
const MOST: u64 = 4095;
/// Frames of so many samples are kept before the first one that is heard, where not all can be: a frame's windows overlap with the granule
/// before it, and the filter bank looks back into that one. A silent frame fits before them, too.
const LEAD: u64 = 2304;

/// A stream of copied frames in the making.
pub(crate) struct Splice {
    packer: Packer,
    tally: Tally,
    part: Part,
    /// The last frames before the first that is heard, and how many there were in all.
    before: VecDeque<Frame>,
    unheard: u64,
    /// Frames behind the last one that is heard, as many as the padding can say.
    behind: Vec<Frame>,
    /// Samples at the end of the last frame that is heard, which are not.
    over: u64,
    delay: u64,
    samples: u64,
    first: Option<[u8; 4]>,
    is_constant: bool,
}

/// Where in the sound the next frame lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    Within,
    Behind,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spliced {
    /// The frame that stands before what was copied.
    pub info: Vec<u8>,
    /// Samples per channel that are heard.
    pub samples: u64,
    pub sample_rate: u32,
    pub channels: u8,
}

impl Splice {
    pub fn new() -> Splice {
        Splice {
            packer: Packer::default(),
            tally: Tally::new(),
            part: Part::Before,
            before: VecDeque::new(),
            unheard: 0,
            behind: Vec::new(),
            over: 0,
            delay: 0,
            samples: 0,
            first: None,
            is_constant: true,
        }
    }

    /// Adds a frame, of whose samples these are heard.
    pub fn push(&mut self, frame: Frame, heard: Range<u64>) -> Result<(), Uncopyable> {
        let samples = u64::from(frame.parsed().samples);
        match self.part {
            Part::Before if heard.is_empty() => {
                self.before.push_back(frame);
                self.unheard += 1;
                if self.before.len() as u64 * samples > MOST + DECODER_DELAY {
                    self.before.pop_front();
                }
            }
            Part::Before => {
                self.begin(&frame, samples, heard.start)?;
                self.hear(&frame, samples, &heard)?;
            }
            Part::Within if heard.start == 0 && !heard.is_empty() => self.hear(&frame, samples, &heard)?,
            Part::Within | Part::Behind if heard.is_empty() => {
                self.part = Part::Behind;
                let padding = self.over + (self.behind.len() as u64 + 1) * samples + DECODER_DELAY;
                if padding <= MOST {
                    self.behind.push(frame);
                }
            }
            Part::Within | Part::Behind => return Err(Uncopyable("what is heard has a hole")),
        }
        Ok(())
    }

    /// Puts what is needed before `frame`, the first that is heard, from its sample `start` on.
    fn begin(&mut self, frame: &Frame, samples: u64, start: u64) -> Result<(), Uncopyable> {
        let there = self.before.len() as u64;
        if self.unheard > there || there * samples + start > MOST + DECODER_DELAY {
            self.before.drain(..(there - LEAD / samples) as usize);
        }
        let first = self.before.front().unwrap_or(frame);
        let mut dropped = self.before.len() as u64 * samples + start;
        // The first frame's main data may begin in frames that are left out: then it finds room for it in a silent one.
        if dropped < DECODER_DELAY || first.main_data_begin > 0 {
            let silent = silent(first).ok_or(Uncopyable("no frame has room for the reservoir"))?;
            dropped += samples;
            self.pack(&silent)?;
        }
        self.delay = dropped - DECODER_DELAY;
        for frame in std::mem::take(&mut self.before) {
            self.pack(&frame)?;
        }
        Ok(())
    }

    fn hear(&mut self, frame: &Frame, samples: u64, heard: &Range<u64>) -> Result<(), Uncopyable> {
        self.over = samples - heard.end;
        self.samples += heard.end - heard.start;
        self.part = if self.over > 0 { Part::Behind } else { Part::Within };
        self.pack(frame)
    }

    fn pack(&mut self, frame: &Frame) -> Result<(), Uncopyable> {
        if after(self.packer.reservoir(), frame).is_none() {
            return Err(Uncopyable("a frame needs more of a decoder's buffer than there is"));
        }
        let first = self.first.get_or_insert(frame.header);
        self.is_constant &= rate_index(*first) == rate_index(frame.header);
        self.tally.frame(frame.parsed().size);
        self.packer.push(frame);
        Ok(())
    }

    /// The bytes that are done, in order; they are taken away.
    pub fn take<E>(&mut self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let Splice { packer, tally, .. } = self;
        let mut done = Ok(());
        packer.take(|bytes| {
            tally.written(bytes);
            done = sink(bytes);
        });
        done
    }

    /// Ends the stream; its last bytes are ready to be taken then.
    pub fn finish(&mut self) -> Result<(), Uncopyable> {
        for frame in std::mem::take(&mut self.behind) {
            self.pack(&frame)?;
        }
        self.packer.finish();
        Ok(())
    }

    /// What the stream is, once all of it is taken.
    pub fn spliced(&self) -> Result<Spliced, Uncopyable> {
        let like = self.first.ok_or(Uncopyable("nothing is heard"))?;
        let header = Header::parse(like).ok_or(Uncopyable("a frame is none"))?;
        let delay = u16::try_from(self.delay).map_err(|_| Uncopyable("too much is dropped"))?;
        let info = blank(like, self.is_constant, delay);
        let mut info = info.ok_or(Uncopyable("no frame has room for the Info frame"))?;
        self.tally.fill_in(&mut info, self.samples).map_err(Uncopyable)?;
        Ok(Spliced {
            info,
            samples: self.samples,
            sample_rate: header.sample_rate,
            channels: header.channels,
        })
    }
}

/// A frame without sound, in whose room the main data of `next` may begin.
fn silent(next: &Frame) -> Option<Frame> {
    Some(Frame {
        header: with_room(next.header, next.main_data_begin.into())?,
        side: vec![0; next.side.len()].into(),
        main: Box::default(),
        main_data_begin: 0,
    })
}
