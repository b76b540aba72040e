//! Joins the streams of many LAMEs into one, so that nobody hears where.
//!
//! Neighbours overlap: they encode some frames both. Where both made the same of two frames in a row, their states are the same, and the
//! output goes on with the successor as if it had never been another encoder. Where there is no such place, what happens depends on how
//! much a frame hears of those before it.
//!
//! At a constant bit rate, each frame's bits depend on the reservoir, and so on all that was before: there the predecessor goes on into
//! its successor's segment, and into the one behind, until both have the same reservoir. So the output is what one LAME makes. It is slow
//! where that takes long: white noise at 256 kbit/s, some 250 frames each time.
//!
//! Else each frame takes the bits that it needs. The reservoir only matters to frames for which the top rate is not enough, and two
//! reservoirs that differ go on to do so. Where the successor has many of these frames, it is joined as at a constant bit rate. Where it has not,
//! a frame is good enough at which windows fit and the successor asks for no more of the reservoir than there is; both encode
//! the same sound, and a decoder adds their halves. Only where there is none of these either, the predecessor goes on until there is.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use super::Quality;
use super::segments::Cut;
use super::stream::{Samples, Stream};
use crate::Error;
use crate::mp3::Tally;
use crate::mp3::pack::{self, Packer};
use crate::mp3::unpack::Frame;

/// What the encoder of a segment made, and its samples.
pub(super) struct Encoded {
    pub stream: Stream,
    /// The segment's first frame.
    pub begin: u64,
    /// The frame behind its last one; `None` for the sound's last segment.
    pub end: Option<u64>,
    pub samples: Samples,
}

/// The streams so far, as one.
pub(super) struct Merger {
    cut: Cut,
    quality: Quality,
    packer: Packer,
    pub tally: Tally,
    /// The stream that the output goes on with.
    last: Option<Stream>,
    pub joins: Joins,
}

/// How segments were joined, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joins {
    /// Both encoders were in the same state.
    pub exact: u64,
    /// At a frame where one could take over from the other.
    pub fitting: u64,
    /// Only after the predecessor had gone on into the segment, or through it.
    pub bridged: u64,
    /// So many frames it encoded a second time for that.
    pub frames: u64,
}

/// How well the successor continues its predecessor; the best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fit {
    /// Both made the same of the frames before and behind the join, with the same reservoir.
    Same,
    /// Both made the same of them.
    Exact,
    /// Windows fit, and there is as much reservoir as the successor had.
    Room,
    /// Windows fit, and the reservoir is made up for by higher bit rates.
    Raised,
}

impl Fit {
    /// Where the reservoir does not matter.
    const FREE: [Fit; 3] = [Fit::Exact, Fit::Room, Fit::Raised];
}

impl Merger {
    pub fn new(cut: Cut, quality: Quality) -> Merger {
        let (packer, tally) = (Packer::default(), Tally::new());
        Merger { cut, quality, packer, tally, last: None, joins: Joins::default() }
    }

    /// Takes the bytes away that are done, in order.
    pub fn take(&mut self, mut sink: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let (packer, tally) = (&mut self.packer, &mut self.tally);
        let mut done = Ok(());
        packer.take(|bytes| {
            tally.written(bytes);
            done = sink(bytes);
        });
        done
    }

    /// The sound is over: its last bytes are ready to be taken.
    pub fn finish(&mut self) {
        self.packer.finish();
    }

    /// Adds the next segment; gives back its samples, which are not needed any more.
    pub fn add(&mut self, segment: Encoded) -> Result<Samples, Error> {
        let Encoded { mut stream, begin, end, samples } = segment;
        let Some(mut last) = self.last.take() else {
            self.go_on_with(stream, end);
            return Ok(samples);
        };
        let mut from = begin - self.cut.usable;
        let mut bridged = false;
        let wanted = self.wanted(&stream);
        loop {
            self.pack(&mut last, from);
            if let Some((at, fit)) = self.find(&last, &stream, begin, wanted) {
                self.pack(&mut last, at);
                stream.take(at, drop);
                pack::make_up(self.packer.reservoir(), stream.frames.make_contiguous());
                match fit {
                    _ if bridged => self.joins.bridged += 1,
                    Fit::Same | Fit::Exact => self.joins.exact += 1,
                    Fit::Room | Fit::Raised => self.joins.fitting += 1,
                }
                self.go_on_with(stream, end);
                return Ok(samples);
            }
            bridged = true;
            let (before, wanted) = (last.end(), last.end() + BRIDGE);
            last.feed(&samples, wanted.min(stream.end()), || Ok(()))?;
            self.joins.frames += last.end() - before;
            // There was no place before, and there will be none.
            from = before.saturating_sub(1);
            if last.end() == before {
                // One LAME for both segments: always legal, only slower.
                self.joins.bridged += 1;
                last.feed(&samples, u64::MAX, || Ok(()))?;
                if end.is_none() {
                    last.finish()?;
                }
                self.go_on_with(last, end);
                return Ok(samples);
            }
        }
    }

    fn go_on_with(&mut self, mut stream: Stream, end: Option<u64>) {
        self.pack(&mut stream, end.map_or(u64::MAX, |end| end - self.cut.usable));
        self.last = Some(stream);
    }

    /// Puts the frames before `end` into the output.
    fn pack(&mut self, stream: &mut Stream, end: u64) {
        let Merger { packer, tally, .. } = self;
        stream.take(end, |frame| {
            packer.push(&frame);
            tally.frame(frame.parsed().size);
        });
    }

    /// The best frame to begin with `next`, near `begin`.
    fn find(&self, last: &Stream, next: &Stream, begin: u64, wanted: &[Fit]) -> Option<(u64, Fit)> {
        let mut places: Vec<u64> = (last.first..last.end()).collect();
        places.sort_by_key(|place| place.abs_diff(begin));
        let place = |fit: Fit| places.iter().find(|at| self.fits(last, next, **at, fit));
        wanted.iter().find_map(|fit| place(*fit).map(|at| (*at, *fit)))
    }

    fn is_constant(&self) -> bool {
        matches!(self.quality, Quality::Cbr(_))
    }

    /// How `next` may be joined: is it what this reservoir made of the sound, or have most of its frames been free to take what they need?
    fn wanted(&self, next: &Stream) -> &'static [Fit] {
        let is_full = |frame: &&Frame| {
            let header = frame.parsed();
            frame.header[2] >> 4 == TOP_RATE && (header.content() + frame.main.len()) * 20 >= header.size * 19
        };
        let full = next.frames.iter().filter(is_full).count();
        let is_low = next.frames.front().is_some_and(|frame| frame.parsed().granules() == 1);
        // So many full frames are too many; at low sample rates, where nothing costs much, and near an average, any.
        let too_many = match self.quality {
            Quality::Cbr(_) => 0,
            Quality::Vbr(_) if !is_low => next.frames.len() / 20 + 1,
            Quality::Vbr(_) | Quality::Abr(_) => 1,
        };
        if full >= too_many { &[Fit::Same] } else { &Fit::FREE }
    }

    fn fits(&self, last: &Stream, next: &Stream, at: u64, fit: Fit) -> bool {
        let before = at.checked_sub(1).and_then(|before| last.get(before));
        let (Some(before), Some(first)) = (before, next.get(at)) else { return false };
        let Some(reservoir) = self.reservoir_at(last, at) else { return false };
        let enough = reservoir >= usize::from(first.main_data_begin);
        let enough_when_raised = || enough || (!self.is_constant() && self.makes_up(reservoir, next, at));
        let same = || {
            let of_next = next.get(at - 1).is_some_and(|next| next.says_the_same(before));
            last.get(at).filter(|instead| of_next && instead.says_the_same(first))
        };
        match fit {
            Fit::Same => {
                same().is_some_and(|instead| instead.main_data_begin == first.main_data_begin)
                    && enough_when_raised()
            }
            Fit::Exact => same().is_some() && enough_when_raised(),
            Fit::Room => before.may_be_followed_by(first) && enough,
            Fit::Raised => before.may_be_followed_by(first) && enough_when_raised(),
        }
    }

    /// What the output's reservoir would be at frame `at`.
    fn reservoir_at(&self, last: &Stream, at: u64) -> Option<usize> {
        let mut before = last.frames.iter().take((at - last.first) as usize);
        before.try_fold(self.packer.reservoir(), pack::after)
    }

    /// Could bit rates be raised so that `next` goes on at `at` with this reservoir?
    fn makes_up(&self, reservoir: usize, next: &Stream, at: u64) -> bool {
        let skipped = (at - next.first) as usize;
        let mut frames: Vec<Frame> = next.frames.iter().skip(skipped).take(MADE_UP_WITHIN).cloned().collect();
        pack::make_up(reservoir, &mut frames).is_some()
    }
}

/// So many frames the predecessor goes on before both are compared again.
const BRIDGE: u64 = 16;

/// The index of the highest bit rate.
const TOP_RATE: u8 = 14;

/// Within so many frames a reservoir that is too small must be made up for.
const MADE_UP_WITHIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Format;

    /// A frame of 44.1 kHz stereo at 128 kbit/s with so much reservoir, whose windows all are `window`.
    fn frame(main_data_begin: u16, window: u8) -> Frame {
        let mut side = vec![0; 32];
        for granule in 0..4 {
            // The window's flag and type, 33 bits into each granule's part.
            for (at, bit) in [(0, window > 0), (1, window & 2 > 0), (2, window & 1 > 0)] {
                let at = 20 + 59 * granule + 33 + at;
                side[at / 8] |= u8::from(bit) << (7 - at % 8);
            }
        }
        Frame {
            header: [0xff, 0xfb, 0x90, 0x64],
            side: side.into(),
            main: vec![7; 381].into(),
            main_data_begin,
        }
    }

    fn stream(quality: Quality, first: u64, frames: impl IntoIterator<Item = Frame>) -> Stream {
        let format = Format { sample_rate: 44_100, channels: 2, decoded_channels: 2, quality };
        let mut stream = Stream::new(&format, first).unwrap();
        stream.frames.extend(frames);
        stream
    }

    fn found(quality: Quality, last: [Frame; 3], next: [Frame; 3]) -> Option<(u64, Fit)> {
        let merger = Merger::new(Cut { usable: 1, ..Cut::of(quality) }, quality);
        let (last, next) = (stream(quality, 9, last), stream(quality, 9, next));
        merger.find(&last, &next, 10, merger.wanted(&next))
    }

    #[test]
    fn equal_frames_are_an_exact_join_and_the_nearest_is_taken() {
        let frames = || [frame(0, 0), frame(0, 0), frame(0, 0)];
        for (quality, fit) in [(Quality::Cbr(128), Fit::Same), (Quality::Vbr(2), Fit::Exact)] {
            assert_eq!(found(quality, frames(), frames()), Some((10, fit)), "{quality:?}");
        }
    }

    #[test]
    fn nobody_is_given_more_reservoir_than_there_is() {
        // The successor made the same with a reservoir that the output does not have.
        let (last, next) =
            (|| [frame(0, 0), frame(0, 0), frame(0, 0)], || [frame(9, 0), frame(9, 0), frame(9, 0)]);
        assert_eq!(found(Quality::Cbr(128), last(), next()), None);
        // A larger frame makes up for it.
        assert_eq!(found(Quality::Vbr(2), last(), next()), Some((10, Fit::Exact)));
    }

    #[test]
    fn windows_that_do_not_overlap_are_not_put_side_by_side() {
        let of = |windows: [u8; 3]| windows.map(|window| frame(0, window));
        let (normal, short) = (of([0, 0, 0]), of([2, 2, 2]));
        assert_eq!(found(Quality::Vbr(2), normal.clone(), short.clone()), None);
        assert_eq!(found(Quality::Vbr(2), short, normal.clone()), None);
        assert_eq!(found(Quality::Vbr(2), normal.clone(), of([1, 1, 2])), Some((10, Fit::Room)));
        // At a constant bit rate that is no reason to leave one LAME.
        assert_eq!(found(Quality::Cbr(128), normal, of([1, 1, 2])), None);
    }
}
