//! Takes the frames of an MP3 stream apart: what each says, free of where its bytes lay.
//!
//! A frame's main data may begin in the frames before it: in the bit reservoir, whose depth is `main_data_begin` (ISO/IEC 11172-3,
//! 2.4.2.7). What is left when that is resolved can be put into another stream: see [`super::pack`].

use super::frame::Header;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its first four bytes.
    pub header: [u8; 4],
    /// Its side information; `main_data_begin` is 0 in it.
    pub side: Box<[u8]>,
    /// Scale factors and Huffman codes; the bits behind them in the last byte are 0.
    pub main: Box<[u8]>,
    /// So many bytes before the frame `main` began in the stream that it was taken out of.
    pub main_data_begin: u16,
}

impl Frame {
    /// The header as it was when it was parsed.
    pub fn parsed(&self) -> Header {
        Header::parse(self.header).expect("only what was parsed becomes a frame")
    }

    /// The same sound, wherever its bytes lay and whatever the bit rate of the frame that they lay in.
    pub fn says_the_same(&self, other: &Frame) -> bool {
        let [_, _, rates, mode] = self.header;
        let [_, _, other_rates, other_mode] = other.header;
        mode == other_mode
            && rates & 0x0c == other_rates & 0x0c
            && self.side == other.side
            && self.main == other.main
    }

    /// May this frame be followed by `next`? Windows overlap, so that a long one never follows a short one without a stop window
    /// between them, nor the other way round without a start window.
    pub fn may_be_followed_by(&self, next: &Frame) -> bool {
        let (header, next_header) = (self.parsed(), next.parsed());
        (0..usize::from(header.channels)).all(|channel| {
            let last = window(&header, &self.side, header.granules() - 1, channel);
            let first = window(&next_header, &next.side, 0, channel);
            matches!(
                (last, first),
                (Some(NORMAL | STOP), Some(NORMAL | START)) | (Some(START | SHORT), Some(SHORT | STOP))
            )
        })
    }
}

/// Windows, as the side information numbers them.
const NORMAL: u32 = 0;
const START: u32 = 1;
const SHORT: u32 = 2;
const STOP: u32 = 3;

/// The stream is not one of layer III without gaps.
#[derive(Debug, thiserror::Error)]
#[error("the encoder's stream cannot be taken apart: {0}")]
pub(crate) struct Broken(&'static str);

/// Takes a stream apart, piece by piece.
#[derive(Default)]
pub(crate) struct Unpacker {
    /// Bytes that make no frame yet.
    pending: Vec<u8>,
    /// The content of the frames so far, as much of it as a later frame may begin in.
    reservoir: Vec<u8>,
}

impl Unpacker {
    /// Takes the next bytes of the stream; adds the frames that are whole to `frames`.
    pub fn push(&mut self, bytes: &[u8], frames: &mut impl Extend<Frame>) -> Result<(), Broken> {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(head) = self.pending[at..].first_chunk::<4>().copied() {
            let header = Header::parse(head).ok_or(Broken("no frame begins where one should"))?;
            let Some(frame) = self.pending.get(at..at + header.size) else { break };
            frames.extend([take(&header, head, frame, &mut self.reservoir)?]);
            at += header.size;
        }
        self.pending.drain(..at);
        Ok(())
    }
}

fn take(header: &Header, head: [u8; 4], frame: &[u8], reservoir: &mut Vec<u8>) -> Result<Frame, Broken> {
    let mut side: Box<[u8]> = frame[4..header.content()].into();
    let main_data_begin = take_main_data_begin(header, &mut side);
    let begin = reservoir.len().checked_sub(main_data_begin.into());
    let begin = begin.ok_or(Broken("a frame begins before the stream"))?;
    reservoir.extend_from_slice(&frame[header.content()..]);
    let bits = main_bits(header, &side);
    let main = reservoir.get(begin..begin + bits.div_ceil(8));
    let mut main: Box<[u8]> = main.ok_or(Broken("a frame has more main data than room"))?.into();
    if let (Some(last), 1..) = (main.last_mut(), bits % 8) {
        *last &= 0xff << (8 - bits % 8);
    }
    // Seldom, so that little is moved about.
    let kept = header.longest_reservoir();
    if reservoir.len() > 16 * kept {
        reservoir.drain(..reservoir.len() - kept);
    }
    Ok(Frame { header: head, side, main, main_data_begin })
}

/// `main_data_begin` of the side information, which is 0 afterwards.
pub(super) fn take_main_data_begin(header: &Header, side: &mut [u8]) -> u16 {
    if header.granules() == 2 {
        let begin = u16::from(side[0]) << 1 | u16::from(side[1] >> 7);
        (side[0], side[1]) = (0, side[1] & 0x7f);
        begin
    } else {
        std::mem::take(&mut side[0]).into()
    }
}

/// Writes `main_data_begin` into side information that has 0 there.
pub(super) fn put_main_data_begin(header: &Header, side: &mut [u8], begin: usize) {
    if header.granules() == 2 {
        side[0] = (begin >> 1) as u8;
        side[1] = side[1] & 0x7f | (begin as u8 & 1) << 7;
    } else {
        side[0] = begin as u8;
    }
}

/// Where in the side information, in bits, this granule's part for this channel begins.
pub(super) fn granule_at(header: &Header, granule: usize, channel: usize) -> usize {
    let channels = usize::from(header.channels);
    let number = granule * channels + channel;
    match (header.granules(), channels) {
        (2, 1) => 18 + 59 * number,
        (2, _) => 20 + 59 * number,
        (_, 1) => 9 + 63 * number,
        _ => 10 + 63 * number,
    }
}

/// `part2_3_length` of all granules and channels: the bits of the frame's main data.
pub(super) fn main_bits(header: &Header, side: &[u8]) -> usize {
    let channels = usize::from(header.channels);
    let all = (0..header.granules()).flat_map(|granule| (0..channels).map(move |channel| (granule, channel)));
    all.map(|(granule, channel)| bits(side, granule_at(header, granule, channel), 12) as usize).sum()
}

/// The window of this granule and channel; `None` for the one that the standard forbids.
pub(super) fn window(header: &Header, side: &[u8], granule: usize, channel: usize) -> Option<u32> {
    let scale_factors = if header.granules() == 2 { 4 } else { 9 };
    let switching = granule_at(header, granule, channel) + 12 + 9 + 8 + scale_factors;
    if bits(side, switching, 1) == 0 {
        return Some(NORMAL);
    }
    Some(bits(side, switching + 1, 2)).filter(|window| *window != NORMAL)
}

/// So many bits from there on, 25 at most; behind the last byte there are zeros.
pub(super) fn bits(bytes: &[u8], at: usize, count: usize) -> u32 {
    debug_assert!((1..=25).contains(&count) && at + count <= bytes.len() * 8);
    let word =
        (0..4).fold(0, |word, next| word << 8 | u32::from(bytes.get(at / 8 + next).copied().unwrap_or(0)));
    word << (at % 8) >> (32 - count)
}
