//! Fuzzing of the walk over an MP3, and of taking one apart and putting it together.

use std::io::{self, Read};

use super::foreign::Foreign;
use super::frame::{Header, with_rate_index};
use super::info::{Tally, crc16};
use super::pack::{Packer, after};
use super::splice::Splice;
use super::unpack::{Frame, Unpacker, granule_at};
use super::{Facts, check, measure};

/// A reader that gives a few bytes at a time.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(&mut buffer[..most])
    }
}

/// An MP3 is found the same however it is read; one that is whole is measured as no shorter than it is, and is all read.
pub(crate) fn walk(bytes: &[u8]) {
    let (checked, measured) = (check(bytes), measure(bytes));
    let outcome =
        |result: Result<Facts, super::Defect>| result.map_err(|defect| (defect.offset, defect.what));
    let offset = checked.as_ref().err().map_or(0, |defect| defect.offset);
    assert!(offset <= bytes.len() as u64);
    if let Ok(measured) = &measured {
        assert_eq!(measured.bytes, bytes.len() as u64);
        assert!(measured.frames * 24 <= measured.bytes, "no frame is smaller than 24 bytes");
    }
    if let Ok(facts) = &checked {
        let measured = measured.as_ref().expect("what is whole can be measured");
        assert_eq!(facts.bytes, bytes.len() as u64);
        assert_eq!((facts.sample_rate, facts.channels), (measured.sample_rate, measured.channels));
        assert!(facts.frames == measured.frames && facts.samples <= measured.samples);
    }
    assert_eq!(outcome(check(Slowly(bytes, 7))), outcome(checked));
    assert_eq!(outcome(measure(Slowly(bytes, 7))), outcome(measured));
}

/// What is unpacked is the same in whatever pieces it comes; packed again it has the same size and unpacks to the same; and with an Info frame
/// before it, it is an MP3 that is whole and exactly as long as was said.
pub(crate) fn repack(bytes: &[u8]) {
    let mut frames = unpacked(bytes, bytes.len());
    assert_eq!(unpacked(bytes, 61), frames);
    let (mut packer, mut tally, mut mp3) = (Packer::default(), Tally::new(), Vec::new());
    let fitting = frames.iter().take_while(|frame| {
        let fits = after(packer.reservoir(), frame).is_some();
        if fits {
            packer.push(frame);
            tally.frame(frame.parsed().size);
            packer.take(|bytes| mp3.extend_from_slice(bytes));
            let most = frame.parsed().longest_reservoir() + 2 * super::frame::LARGEST;
            assert!(packer.held() <= most, "{} bytes are held back", packer.held());
        }
        fits
    });
    let fitting = fitting.count();
    frames.truncate(fitting);
    packer.finish();
    packer.take(|bytes| mp3.extend_from_slice(bytes));
    assert_eq!(packer.held(), 0);
    assert_eq!(mp3.len(), frames.iter().map(|frame| frame.parsed().size).sum::<usize>());

    let again = unpacked(&mp3, 1000);
    assert_eq!(again.len(), frames.len());
    for (again, frame) in again.iter().zip(&frames) {
        assert!(again.says_the_same(frame) && again.header == frame.header);
        assert!(again.main_data_begin <= frame.main_data_begin);
    }
    tally.written(&mp3);
    whole(&frames, &tally, &mp3);
}

/// Frames of any encoder's are copied or not; a copy is an MP3 that is whole, and as long as what was to be heard.
pub(crate) fn copy(bytes: &[u8]) {
    let (mut foreign, mut splice, mut mp3) = (Foreign::default(), Splice::new(), Vec::new());
    let mut dropping = u64::from(crc16(0, bytes) >> 4);
    let (mut rest, mut heard) = (bytes, 0);
    while !rest.is_empty() {
        let header = rest.first_chunk::<4>().and_then(|head| Header::parse(*head));
        let size = header.map_or(rest.len(), |header| header.size.min(rest.len()));
        let (packet, behind) = rest.split_at(size);
        rest = behind;
        let Ok(frame) = foreign.take(packet) else { return };
        let Some(frame) = frame else { continue };
        let samples = u64::from(frame.parsed().samples);
        let start = dropping.min(samples);
        (dropping, heard) = (dropping - start, heard + samples - start);
        if splice.push(frame, start..samples).is_err() {
            return;
        }
        gather(&mut splice, &mut mp3);
    }
    let Ok(()) = splice.finish() else { return };
    gather(&mut splice, &mut mp3);
    let Ok(spliced) = splice.spliced() else { return };
    assert_eq!(spliced.samples, heard);
    let facts = check(&[&spliced.info, &mp3].map(Vec::as_slice).concat()[..]).expect("a copy is whole");
    assert_eq!((facts.samples, facts.sample_rate), (spliced.samples, spliced.sample_rate));
}

fn gather(splice: &mut Splice, mp3: &mut Vec<u8>) {
    let taken = splice.take(|bytes| {
        mp3.extend_from_slice(bytes);
        Ok::<(), ()>(())
    });
    taken.expect("nothing refuses them");
}

/// With an Info frame before it the stream is an MP3, where its format does not change.
pub(crate) fn whole(frames: &[Frame], tally: &Tally, mp3: &[u8]) {
    let Some(first) = frames.first().map(Frame::parsed) else { return };
    // Whatever a decoder drops: any number of 12 bits.
    let (delay, padding) = (crc16(0, mp3) >> 4, crc16(1, mp3) >> 4);
    let mut info = info_frame(frames[0].header, delay);
    let all = frames.len() as u64 * u64::from(first.samples);
    let Some(samples) = all.checked_sub(u64::from(delay) + u64::from(padding)) else { return };
    tally.fill_in(&mut info, samples).expect("delay and padding are such as LAME has");
    let contents = &info[first.content() + 16..first.content() + 116];
    assert!(contents.is_sorted(), "the table of contents goes back: {contents:?}");

    let file = [&info, mp3].concat();
    let same = frames.iter().all(|frame| frame.parsed().same_format(&first));
    match check(&file[..]) {
        Ok(facts) => {
            assert!(same && facts.samples == samples && facts.frames == frames.len() as u64);
        }
        Err(defect) => assert!(!same, "{defect}"),
    }
}

/// The frames as far as the stream is one, which comes in pieces of this size.
pub(crate) fn unpacked(bytes: &[u8], piece: usize) -> Vec<Frame> {
    let (mut unpacker, mut frames) = (Unpacker::default(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        if unpacker.push(piece, &mut frames).is_err() {
            break;
        }
    }
    frames
}

/// An Info frame as LAME's, in a frame that is large enough for it.
fn info_frame(header: [u8; 4], delay: u16) -> Vec<u8> {
    let header = with_rate_index(header, 14);
    let parsed = Header::parse(header).expect("only the rate was changed");
    let mut frame = vec![0; parsed.size];
    frame[..4].copy_from_slice(&header);
    let tag = &mut frame[parsed.content()..];
    tag[..4].copy_from_slice(b"Info");
    tag[7] = 15;
    tag[120..124].copy_from_slice(b"LAME");
    tag[141..143].copy_from_slice(&(delay << 4).to_be_bytes());
    let crc = crc16(0, &frame[..parsed.content() + 154]).to_be_bytes();
    frame[parsed.content() + 154..][..2].copy_from_slice(&crc);
    frame
}

/// A frame with so many bits of main data, as many as fit into its fields, that all are `fill`; all its windows are `window`.
pub(crate) fn frame(header: [u8; 4], window: u8, bits: usize, fill: u8) -> Frame {
    let parsed = Header::parse(header).expect("the header is one of MP3's");
    let mut side = vec![0; parsed.content() - 4];
    let mut put = |at: usize, count: usize, value: usize| {
        for bit in 0..count {
            side[(at + bit) / 8] |= ((value >> (count - 1 - bit) & 1) << (7 - (at + bit) % 8)) as u8;
        }
    };
    let mut rest = bits;
    for granule in 0..parsed.granules() {
        for channel in 0..usize::from(parsed.channels) {
            let at = granule_at(&parsed, granule, channel);
            let here = rest.min(4095);
            rest -= here;
            put(at, 12, here);
            let scale_factors = if parsed.granules() == 2 { 4 } else { 9 };
            put(at + 29 + scale_factors, 3, usize::from(window > 0) << 2 | usize::from(window & 3));
        }
    }
    let bits = bits - rest;
    let mut main = vec![fill; bits.div_ceil(8)];
    if let (Some(last), 1..) = (main.last_mut(), bits % 8) {
        *last &= 0xff << (8 - bits % 8);
    }
    Frame { header, side: side.into(), main: main.into(), main_data_begin: 0 }
}
