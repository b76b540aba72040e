//! Takes frames of any encoder's apart, one by one, as a container has them: with checksums, and with a beginning that may be missing.
//!
//! What cannot be taken apart without a doubt is refused: the sound is then decoded and encoded instead. A frame is taken for what
//! FFmpeg's decoder makes of it. At the beginning of a sound that was cut out of another one, main data may begin before the first
//! frame: of such a frame, the granules whose data is not there are silent, and the others sound.

use super::frame::{Header, has_checksum, without_checksum};
use super::unpack::{Frame, bits, granule_at, main_bits, take_main_data_begin, window};

/// Why a frame cannot be copied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frames cannot be copied: {0}")]
pub(crate) struct Uncopyable(pub &'static str);

/// Takes frames apart, in their order.
#[derive(Default)]
pub(crate) struct Foreign {
    /// The first frame's.
    format: Option<Header>,
    /// What the frames so far left unused at their end, as much of it as a later frame may begin in.
    reservoir: Vec<u8>,
    /// All of some frame's main data was there: from now on, it always is.
    is_whole: bool,
    /// Something came that is no frame.
    is_over: bool,
}

impl Foreign {
    /// Takes one frame apart: `bytes` are all of it, and nothing else. `None` for what lies behind the last one and makes no sound: tags, and
    /// the rubbish at the end of many files.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Frame>, Uncopyable> {
        if is_no_frame(bytes) {
            self.is_over = true;
            return Ok(None);
        }
        if self.is_over {
            return Err(Uncopyable("something else lies before a frame"));
        }
        self.take_frame(bytes).map(Some)
    }

    fn take_frame(&mut self, bytes: &[u8]) -> Result<Frame, Uncopyable> {
        let head = bytes.first_chunk::<4>().copied().ok_or(Uncopyable("a packet holds no frame"))?;
        let header = Header::parse(head).ok_or(Uncopyable("a packet is no frame of layer III"))?;
        if header.size != bytes.len() {
            return Err(Uncopyable("a packet is not one frame"));
        }
        if !self.format.get_or_insert(header).same_format(&header) {
            return Err(Uncopyable("the format changes"));
        }
        let begin = if has_checksum(head) { 6 } else { 4 };
        let end = begin + header.content() - 4;
        let side = bytes.get(begin..end).ok_or(Uncopyable("a frame is too small"))?;
        let mut side: Box<[u8]> = side.into();
        let main_data_begin = take_main_data_begin(&header, &mut side);
        if !is_decodable(&header, &side) {
            return Err(Uncopyable("a frame's side information is damaged"));
        }
        let frame = Frame { header: without_checksum(head), side, main: Box::default(), main_data_begin };
        self.with_main_data(&header, frame, &bytes[end..])
    }

    /// Finds the frame's main data: in what was left before it, and in its own content.
    fn with_main_data(
        &mut self,
        header: &Header,
        mut frame: Frame,
        content: &[u8],
    ) -> Result<Frame, Uncopyable> {
        let (there, begin) = (self.reservoir.len(), usize::from(frame.main_data_begin));
        if self.is_whole && begin > there {
            return Err(Uncopyable("a frame's main data is not there"));
        }
        self.is_whole |= begin <= there;
        self.reservoir.extend_from_slice(content);
        let start = silence_missing(header, &mut frame.side, begin.saturating_sub(there) * 8);
        let start = (there * 8).saturating_sub(begin * 8) + start;
        let length = main_bits(header, &frame.side);
        let end = (start + length).div_ceil(8);
        if end > self.reservoir.len() {
            return Err(Uncopyable("a frame has more main data than room"));
        }
        frame.main = cut_out(&self.reservoir, start, length);
        // What is left of the reservoir may still be where the frame begins.
        frame.main_data_begin = there.saturating_sub(start / 8) as u16;
        let kept = self.reservoir.len().saturating_sub(header.longest_reservoir());
        self.reservoir.drain(..end.max(kept));
        Ok(frame)
    }
}

/// FFmpeg's decoder makes nothing of these bytes: it looks for a frame behind zeros, and there only.
fn is_no_frame(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    !matches!(bytes[zeros..], [0xff, 0xe0..=0xff, _, _, ..])
}

/// Silences the granules that begin in the `missing` bits; returns how many bits behind those the rest begins.
fn silence_missing(header: &Header, side: &mut [u8], mut missing: usize) -> usize {
    let mut start = 0;
    for granule in 0..header.granules() {
        if missing == 0 {
            break;
        }
        let channels = 0..usize::from(header.channels);
        let length: usize = channels.map(|channel| take_granule(header, side, granule, channel)).sum();
        start = length.saturating_sub(missing);
        missing = missing.saturating_sub(length);
    }
    start
}

/// Clears what the side information says of this granule and channel; returns the bits of its main data.
fn take_granule(header: &Header, side: &mut [u8], granule: usize, channel: usize) -> usize {
    let at = granule_at(header, granule, channel);
    let length = bits(side, at, 12) as usize;
    for bit in at..at + granule_bits(header) {
        side[bit / 8] &= !(0x80 >> (bit % 8));
    }
    length
}

/// Bits of the side information for one granule and channel.
fn granule_bits(header: &Header) -> usize {
    if header.granules() == 2 { 59 } else { 63 }
}

/// Whether FFmpeg's decoder takes this side information: otherwise it drops the whole frame.
fn is_decodable(header: &Header, side: &[u8]) -> bool {
    const MOST_BIG_VALUES: u32 = 288;
    let channels = usize::from(header.channels);
    (0..header.granules() * channels).all(|number| {
        let (granule, channel) = (number / channels, number % channels);
        let big_values = bits(side, granule_at(header, granule, channel) + 12, 9);
        big_values <= MOST_BIG_VALUES && window(header, side, granule, channel).is_some()
    })
}

/// So many bits from there on, from the first bit of a byte on; those behind them are 0.
fn cut_out(bytes: &[u8], start: usize, length: usize) -> Box<[u8]> {
    let (from, shift) = (start / 8, start % 8);
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
    let shifted = |at: usize| ((byte(at) << 8 | byte(at + 1)) << shift >> 8) as u8;
    let wanted = from..from + length.div_ceil(8);
    let mut cut: Box<[u8]> = match bytes.get(wanted.clone()) {
        Some(whole) if shift == 0 => whole.into(),
        _ => wanted.map(shifted).collect(),
    };
    if let (Some(last), 1..) = (cut.last_mut(), length % 8) {
        *last &= 0xff << (8 - length % 8);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::super::unpack::Unpacker;
    use super::*;

    /// A frame of 44.1 kHz stereo at 128 kbit/s whose granules and channels have `length` bits each, and whose content is 1, 2, 3 …
    fn frame(main_data_begin: u16, length: u32) -> Vec<u8> {
        let mut frame = vec![0; 417];
        frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
        frame[4] = (main_data_begin >> 1) as u8;
        frame[5] = (main_data_begin as u8) << 7;
        for part in 0..4 {
            for bit in (0..12).filter(|bit| length >> (11 - bit) & 1 == 1) {
                let at = 20 + 59 * part + bit;
                frame[4 + at / 8] |= 0x80 >> (at % 8);
            }
        }
        frame[36..].iter_mut().zip(1..).for_each(|(byte, number): (_, u32)| *byte = number as u8);
        frame
    }

    fn taken(frames: &[Vec<u8>]) -> Vec<Result<Option<Frame>, Uncopyable>> {
        let mut foreign = Foreign::default();
        frames.iter().map(|frame| foreign.take(frame)).collect()
    }

    #[test]
    fn a_whole_stream_is_taken_apart_as_our_own() {
        let stream = [frame(0, 640), frame(61, 800), frame(42, 0), frame(100, 900)];
        let mut own = Vec::new();
        Unpacker::default().push(&stream.concat(), &mut own).unwrap();
        let foreign: Vec<_> = taken(&stream).into_iter().map(|frame| frame.unwrap().unwrap()).collect();
        assert_eq!(foreign, own);
    }

    #[test]
    fn granules_whose_data_is_missing_are_silent_and_the_others_are_not() {
        // 50 bytes are missing: the first granule of 2 x 300 bits begins in them, the second one 200 bits behind them.
        let first = |frame| taken(&[frame]).remove(0).unwrap().unwrap();
        let found = first(frame(50, 300));
        assert_eq!((found.main_data_begin, found.main.len()), (0, 75));
        assert_eq!(found.main[..3], [26, 27, 28], "25 bytes are left over by the first granule");
        let header = found.parsed();
        let lengths = [(0, 0), (0, 1), (1, 0), (1, 1)]
            .map(|(granule, channel)| bits(&found.side, granule_at(&header, granule, channel), 12));
        assert_eq!(lengths, [0, 0, 300, 300]);
        // Not at a byte: 601 bits of the first granule, of which 400 are missing.
        let odd = first(frame(50, 303));
        assert_eq!(odd.main[..2], [(26 << 6 | 27 >> 2) as u8, (27 << 6 | 28 >> 2) as u8], "206 bits in");
        let none = first(frame(500, 300));
        assert!(none.main.is_empty() && none.side.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_cannot_be_copied_is_told() {
        let why = |frames: &[Vec<u8>]| taken(frames).pop().unwrap().map(drop).unwrap_err().0;
        assert!(why(&[frame(0, 100), frame(400, 100)]).contains("not there"), "a hole");
        assert!(why(&[frame(0, 1000)]).contains("more main data than room"));
        assert!(why(&[frame(0, 100)[..416].to_vec()]).contains("not one frame"));
        let mut other = frame(0, 0);
        other[3] = 0xc4;
        assert!(why(&[frame(0, 0), other]).contains("format"));
        for (bit, value) in [(20 + 12, 0xff), (20 + 33, 0x80)] {
            // Values of nine bits, all set; a switched window without a name.
            let mut damaged = frame(0, 0);
            damaged[4 + bit / 8] |= value >> (bit % 8);
            damaged[5 + bit / 8] |= value & 0x7f;
            assert!(why(&[damaged]).contains("side information"), "{bit}");
        }
        let rubbish = b"TAG and so on".to_vec();
        assert_eq!(taken(&[frame(0, 0), rubbish.clone()]).pop(), Some(Ok(None)));
        assert!(why(&[frame(0, 0), rubbish, frame(0, 0)]).contains("before a frame"));
    }
}
