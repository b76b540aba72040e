//! Puts frames into a stream: each one's main data as early as there is room for it, and no earlier than where it came from.
//!
//! Of the reservoir, a frame gets at most as much as it had in the stream that it was taken out of. So a stream that was taken apart
//! is put together with the very same layout, and a decoder's buffer is never asked for more than LAME asked of it.

use std::collections::VecDeque;
use std::ops::Range;

use super::frame::{Header, with_rate_index};
use super::unpack::{Frame, put_main_data_begin};

/// LAME's limit of what a decoder must hold: a frame and the reservoir before it have no more bytes than this for each granule.
const DECODER_BUFFER: usize = 960;

/// A stream in the making.
#[derive(Default)]
pub(crate) struct Packer {
    /// Frames whose room is not all filled yet, and what stands before them and was not taken.
    bytes: Vec<u8>,
    /// The room in `bytes`, in order: what the next frame finds in the reservoir.
    room: VecDeque<Range<usize>>,
    reservoir: usize,
}

impl Packer {
    /// The bytes that the next frame's main data may begin before it.
    pub fn reservoir(&self) -> usize {
        self.reservoir
    }

    /// The bytes that wait for their room to be filled.
    #[cfg(any(test, fuzzing))]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a frame. It must fit: see [`after`].
    pub fn push(&mut self, frame: &Frame) {
        let header = frame.parsed();
        let begin = begin(self.reservoir, frame, &header);
        self.skip(self.reservoir - begin);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&frame.header);
        self.bytes.extend_from_slice(&frame.side);
        put_main_data_begin(&header, &mut self.bytes[at + 4..], begin);
        self.bytes.resize(at + header.size, 0);
        self.room.push_back(at + header.content()..at + header.size);
        self.reservoir += header.size - header.content();
        self.fill(&frame.main);
    }

    /// The bytes that will not change any more; they are taken away.
    pub fn take(&mut self, mut sink: impl FnMut(&[u8])) {
        let done = self.room.front().map_or(self.bytes.len(), |room| room.start);
        sink(&self.bytes[..done]);
        self.bytes.drain(..done);
        for room in &mut self.room {
            *room = room.start - done..room.end - done;
        }
    }

    /// Ends the stream: room that is left stays empty.
    pub fn finish(&mut self) {
        self.skip(self.reservoir);
    }

    /// Leaves room unused: zeros, which no decoder looks at.
    fn skip(&mut self, count: usize) {
        self.each_room(count, |_, _| {});
    }

    fn fill(&mut self, main: &[u8]) {
        let mut rest = main;
        self.each_room(main.len(), |bytes, room| {
            let (now, later) = rest.split_at(room.len());
            bytes[room].copy_from_slice(now);
            rest = later;
        });
    }

    fn each_room(&mut self, mut count: usize, mut with: impl FnMut(&mut [u8], Range<usize>)) {
        assert!(count <= self.reservoir, "a frame was pushed that does not fit");
        self.reservoir -= count;
        while let Some(room) = self.room.front_mut() {
            let now = count.min(room.len());
            with(&mut self.bytes, room.start..room.start + now);
            room.start += now;
            count -= now;
            if room.start < room.end {
                break;
            }
            self.room.pop_front();
        }
    }
}

/// Where the main data begins: with all of the reservoir, as far as the frame had as much where it came from.
fn begin(reservoir: usize, frame: &Frame, header: &Header) -> usize {
    let limit = (DECODER_BUFFER * header.granules()).saturating_sub(header.size);
    reservoir.min(frame.main_data_begin.into()).min(limit)
}

/// The reservoir after `frame` where it was `reservoir` before; `None` where the frame does not fit.
pub(crate) fn after(reservoir: usize, frame: &Frame) -> Option<usize> {
    let header = frame.parsed();
    (begin(reservoir, frame, &header) + header.size - header.content()).checked_sub(frame.main.len())
}

/// Makes up for a reservoir that is smaller than `first` had: raises the bit rates of `frames`, which begin with it, until one has as
/// much as where it came from. Returns how many were looked at; `None` where that cannot be done within these frames.
pub(crate) fn make_up(mut reservoir: usize, frames: &mut [Frame]) -> Option<usize> {
    for at in 0..frames.len() {
        let frame = &frames[at];
        if reservoir >= frame.main_data_begin.into() {
            return Some(at);
        }
        let aim = frames.get(at + 1).map_or(0, |next| next.main_data_begin.into());
        let raised = (super::frame::rate_index(frame.header)..=14).map(|index| {
            let raised = Frame { header: with_rate_index(frame.header, index), ..frame.clone() };
            after(reservoir, &raised).map(|next| (next, raised))
        });
        let fitting: Vec<_> = raised.flatten().collect();
        let enough = fitting.iter().position(|(next, _)| *next >= aim);
        let chosen = enough.or(fitting.len().checked_sub(1))?;
        let (next, raised) = fitting.into_iter().nth(chosen)?;
        frames[at] = raised;
        reservoir = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::unpack::Unpacker;
    use super::*;
    use crate::encode::{Format, Lame, Quality};

    /// What LAME makes of a sound with quiet and loud parts.
    fn lame(sample_rate: u32, channels: u8, quality: Quality) -> Vec<u8> {
        let format = Format { sample_rate, channels, decoded_channels: channels, quality };
        let mut lame = Lame::bare(&format).unwrap();
        let mut noise = 1_u32;
        let sound: Vec<f32> = (0..sample_rate * 4)
            .map(|i| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let envelope = if i / 5000 % 3 == 0 { 0.6 } else { 0.02 };
                ((i as f32 * 0.05).sin() * 0.3 + (noise >> 8) as f32 / 16_777_216.0 - 0.5) * envelope
            })
            .collect();
        let other: Vec<f32> = sound.iter().rev().copied().collect();
        let mut mp3 = Vec::new();
        lame.encode(&sound, Some(&other), |bytes| {
            mp3.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        mp3.extend_from_slice(lame.finish().unwrap());
        mp3
    }

    fn unpacked(mp3: &[u8]) -> Vec<Frame> {
        let (mut unpacker, mut frames) = (Unpacker::default(), Vec::new());
        for piece in mp3.chunks(777) {
            unpacker.push(piece, &mut frames).unwrap();
        }
        frames
    }

    fn packed(frames: &[Frame]) -> Vec<u8> {
        let (mut packer, mut mp3) = (Packer::default(), Vec::new());
        for frame in frames {
            assert!(after(packer.reservoir(), frame).is_some());
            packer.push(frame);
            packer.take(|bytes| mp3.extend_from_slice(bytes));
        }
        packer.finish();
        packer.take(|bytes| mp3.extend_from_slice(bytes));
        mp3
    }

    #[test]
    fn what_was_taken_apart_is_put_together_with_the_same_layout() {
        for (rate, channels) in [(44_100, 2), (48_000, 1), (32_000, 2), (22_050, 2), (24_000, 1), (8_000, 1)]
        {
            for quality in [Quality::Vbr(0), Quality::Vbr(4), Quality::Cbr(64), Quality::Abr(56)] {
                let mp3 = lame(rate, channels, quality);
                let frames = unpacked(&mp3);
                let again = packed(&frames);
                assert_eq!(again.len(), mp3.len(), "{rate} {channels} {quality:?}");
                // The same frames at the same places: headers, side information and all that a decoder reads.
                assert_eq!(unpacked(&again), frames, "{rate} {channels} {quality:?}");
                let some = frames.iter().filter(|frame| frame.main_data_begin > 0).count();
                assert!(some * 10 > frames.len(), "there is a reservoir at {rate} {channels} {quality:?}");
            }
        }
    }

    #[test]
    fn a_small_reservoir_is_made_up_for_by_larger_frames() {
        let mut frames = unpacked(&lame(44_100, 2, Quality::Vbr(2)));
        let first = frames.iter().position(|frame| frame.main_data_begin > 200).unwrap();
        let before = frames.clone();
        let count = make_up(0, &mut frames[first..]).unwrap();
        assert!(count > 0);
        assert!(frames.iter().zip(&before).all(|(now, before)| now.says_the_same(before)));
        assert_eq!(&frames[first + count..], &before[first + count..]);
        let again = unpacked(&packed(&frames[first..]));
        assert!(again.iter().zip(&frames[first..]).all(|(again, frame)| again.says_the_same(frame)));
        assert_eq!(again[count].main_data_begin, frames[first + count].main_data_begin);
    }
}
