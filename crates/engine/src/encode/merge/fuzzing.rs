//! Fuzzing of the merger: neighbours that made of one sound what they like, as legal streams.

use std::collections::BTreeMap;

use super::super::Format;
use super::*;
use crate::fuzzing::Bytes;
use crate::mp3::fuzzing::{frame, unpacked, whole};
use crate::mp3::pack::after;

/// More frames would only be slower.
const MOST_FRAMES: u64 = 150;

/// The formats: sample rate, channels, the first two bytes of its headers, the third without the bit rate, the bit rate's index for 64 kbit/s.
const FORMATS: [(u32, u8, [u8; 3], u8); 6] = [
    (44_100, 2, [0xff, 0xfb, 0x00], 5),
    (44_100, 1, [0xff, 0xfb, 0x00], 5),
    (32_000, 2, [0xff, 0xfb, 0x08], 5),
    (22_050, 2, [0xff, 0xf3, 0x00], 8),
    (24_000, 1, [0xff, 0xf3, 0x04], 8),
    (8_000, 1, [0xff, 0xe3, 0x08], 8),
];

/// The output is made of the neighbours' frames, one for each of the sound's, in their order, with no more reservoir than they had and at
/// windows that fit; it unpacks; it is a whole MP3; and only little is held back on the way. Returns how they were
/// joined.
pub(crate) fn merge_any(bytes: &mut Bytes<'_>) -> Joins {
    let sound = Sound::choose(bytes);
    let mut merger = Merger::new(sound.cut, sound.format.quality);
    let (mut made, mut mp3) = (Made::default(), Vec::new());
    let mut begin = 0;
    let segments = u64::from(bytes.byte() % 4) + 1;
    for number in 0..segments {
        let end = (number + 1 < segments).then(|| begin + sound.cut.rest);
        let segment = sound.segment(begin, end, bytes);
        made.note(&segment.stream);
        merger.add(segment).expect("LAME takes silence");
        merger.take(|bytes| take(&mut mp3, bytes)).expect("memory takes everything");
        assert!(merger.packer.held() <= 511 + 2 * 1441, "{} bytes are held back", merger.packer.held());
        begin = end.unwrap_or(begin);
    }
    merger.finish();
    merger.take(|bytes| take(&mut mp3, bytes)).expect("memory takes everything");
    assert_eq!(merger.packer.held(), 0);

    let frames = unpacked(&mp3, mp3.len());
    assert_eq!(frames.len() as u64, merger.tally.frames());
    assert_eq!(frames.iter().map(|frame| frame.parsed().size).sum::<usize>(), mp3.len());
    if merger.joins.bridged == 0 {
        assert_eq!(frames.len() as u64, made.end, "a frame for each of the sound's");
        made.compare(&frames, matches!(sound.format.quality, Quality::Cbr(_)));
    }
    assert_eq!(merger.joins.exact + merger.joins.fitting + merger.joins.bridged, segments - 1);
    whole(&frames, &merger.tally, &mp3);
    merger.joins
}

fn take(mp3: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Error> {
    mp3.extend_from_slice(bytes);
    Ok(())
}

/// What is to be encoded, how, and what all encoders would make of it that agree.
struct Sound {
    format: Format,
    header: [u8; 4],
    cut: Cut,
    frames: Vec<Said>,
}

/// What an encoder says in a frame.
#[derive(Clone, Copy)]
struct Said {
    window: u8,
    bits: usize,
    fill: u8,
}

impl Said {
    fn choose(bytes: &mut Bytes<'_>) -> Said {
        let [window, few, fill] = [bytes.byte(), bytes.byte(), bytes.byte()];
        // The same windows in all of a frame: only long and short ones can follow themselves.
        Said { window: [0, 0, 0, 1, 2, 3][usize::from(window) % 6], bits: usize::from(few) * 64 + 5, fill }
    }
}

impl Sound {
    fn choose(bytes: &mut Bytes<'_>) -> Sound {
        let (sample_rate, channels, [sync, kind, rates], index) = bytes.choose(&FORMATS);
        let mode = if channels == 1 { 0xc0 } else { 0x44 };
        let quality = bytes.choose(&[Quality::Vbr(2), Quality::Cbr(64), Quality::Abr(64)]);
        let cut = Cut {
            usable: u64::from(bytes.byte() % 6),
            lead: u64::from(bytes.byte() % 8),
            longest_lead: 8,
            tail: u64::from(bytes.byte() % 4),
            first: &[],
            rest: u64::from(bytes.byte() % 16) + 10,
        };
        let cut = Cut { lead: cut.lead.max(cut.usable), ..cut };
        let frames = (0..u64::from(bytes.byte() % 8) + 1).map(|_| Said::choose(bytes)).collect();
        Sound {
            format: Format { sample_rate, channels, decoded_channels: channels, quality },
            header: [sync, kind, rates | index << 4, mode],
            cut,
            frames,
        }
    }

    /// The stream of the encoder for this segment, and sometimes samples with which it could go on.
    fn segment(&self, begin: u64, end: Option<u64>, bytes: &mut Bytes<'_>) -> Encoded {
        let first = begin.saturating_sub(if begin == 0 { 0 } else { self.cut.lead });
        let last = end.map_or(begin + self.cut.rest, |end| end + self.cut.tail).min(MOST_FRAMES);
        let mut stream = Stream::new(&self.format, first).expect("LAME knows the format");
        let mut reservoir = 0;
        for number in first..last {
            let choice = bytes.byte();
            let said = match choice & 3 {
                1 => Said::choose(bytes),
                _ => self.frames[number as usize % self.frames.len()],
            };
            let unused = if choice & 4 == 0 { 0 } else { usize::from(bytes.byte()) };
            let frame = self.legal(said, choice >> 3, reservoir, unused);
            reservoir = after(frame.main_data_begin.into(), &frame).expect("it was made to fit");
            stream.frames.push_back(frame);
        }
        let samples = if bytes.byte() % 8 == 7 { self.silence(begin) } else { Samples::default() };
        Encoded { stream, begin, end, samples }
    }

    /// Samples for whichever encoder goes on in this segment: from the first on, as nobody knows where it has come to.
    fn silence(&self, begin: u64) -> Samples {
        let left = vec![0.0; ((begin + 12) * self.format.samples_per_frame()) as usize];
        let right = if self.format.channels == 2 { left.clone() } else { Vec::new() };
        Samples { start: 0, left, right }
    }

    /// A frame that says this, with as much of the reservoir as the format allows, less what is left unused.
    fn legal(&self, said: Said, rate: u8, reservoir: usize, unused: usize) -> Frame {
        let index = match self.format.quality {
            Quality::Cbr(_) => self.header[2] >> 4,
            _ => rate % 14 + 1,
        };
        let padded = if self.format.sample_rate == 44_100 { rate & 2 } else { 0 };
        let [sync, kind, rates, mode] = self.header;
        let header = [sync, kind, rates & 0x0d | index << 4 | padded, mode];
        let mut frame = frame(header, said.window, said.bits, said.fill);
        let parsed = frame.parsed();
        let most = (960 * parsed.granules()).saturating_sub(parsed.size).min(parsed.longest_reservoir());
        let begin = reservoir.saturating_sub(unused).min(most);
        let room = begin + parsed.size - parsed.content();
        if frame.main.len() > room {
            frame = crate::mp3::fuzzing::frame(header, said.window, room * 8, said.fill);
        }
        frame.main_data_begin = begin as u16;
        frame
    }
}

/// The frames that encoders made, by their number in the sound.
#[derive(Default)]
struct Made {
    streams: Vec<BTreeMap<u64, Frame>>,
    end: u64,
}

impl Made {
    fn note(&mut self, stream: &Stream) {
        self.streams.push((stream.first..).zip(stream.frames.iter().cloned()).collect());
        self.end = stream.end();
    }

    /// Each frame is one that some encoder made for this place; where an encoder follows another, windows fit.
    fn compare(&self, frames: &[Frame], is_constant: bool) {
        let says = |stream: &BTreeMap<u64, Frame>, at: u64, frame: &Frame| {
            stream.get(&at).is_some_and(|made| {
                let as_large = made.header == frame.header || !is_constant;
                made.says_the_same(frame) && as_large && frame.main_data_begin <= made.main_data_begin
            })
        };
        let mut before: Option<&Frame> = None;
        for (at, frame) in (0..).zip(frames) {
            assert!(self.streams.iter().any(|stream| says(stream, at, frame)), "frame {at} is nobody's");
            if let Some(before) = before {
                let in_one = self.streams.iter().any(|stream| {
                    says(stream, at, frame)
                        && stream.get(&(at - 1)).is_some_and(|made| made.says_the_same(before))
                });
                assert!(in_one || before.may_be_followed_by(frame), "windows jump at frame {at}");
            }
            before = Some(frame);
        }
    }
}
