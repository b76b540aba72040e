//! The Info frame: a silent first frame in which LAME says how long the stream is.

use super::frame::{Header, with_room, without_checksum};

/// What LAME's tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// Frames behind this one.
    pub frames: u32,
    /// Bytes from the start of this frame to the end.
    pub bytes: u32,
    /// Samples to drop at the start, less a decoder's own 529.
    pub delay: u16,
    /// Samples to drop at the end, more a decoder's own 529.
    pub padding: u16,
    /// The same as `bytes`, said again.
    pub music_bytes: u32,
    /// CRC-16 of all frames behind this one.
    pub music_crc: u16,
}

/// Frames, bytes, table of contents and quality are all there.
const ALL_FIELDS: [u8; 4] = [0, 0, 0, 15];

impl Info {
    /// Offsets are those of the tag, from its name on.
    pub fn parse(header: &Header, frame: &[u8]) -> Result<Info, &'static str> {
        let start = header.content();
        let tag = frame.get(start..start + 156).ok_or("there is no Info frame")?;
        if !(tag.starts_with(b"Info") || tag.starts_with(b"Xing")) || !tag[120..].starts_with(b"LAME") {
            return Err("there is no Info frame of LAME's");
        }
        if tag[4..8] != ALL_FIELDS {
            return Err("the Info frame is not complete");
        }
        let two = |at: usize| u16::from_be_bytes([tag[at], tag[at + 1]]);
        let four = |at: usize| u32::from_be_bytes([tag[at], tag[at + 1], tag[at + 2], tag[at + 3]]);
        if two(154) != crc16(0, &frame[..start + 154]) {
            return Err("the checksum of the Info frame differs");
        }
        if frame[start + 156..].iter().any(|byte| *byte != 0) {
            return Err("the Info frame is not silent");
        }
        Ok(Info {
            frames: four(8),
            bytes: four(12),
            delay: two(141) >> 4,
            padding: two(142) & 0xfff,
            music_bytes: four(148),
            music_crc: two(152),
        })
    }
}

/// Bytes of LAME's tag.
const TAG: usize = 156;

/// An Info frame for frames like the one with this header, for [`Tally::fill_in`]. It says nothing of an encoder: whose frames these are is not
/// known, and no version stands behind the name by which players know the tag.
pub(crate) fn blank(like: [u8; 4], is_constant: bool, delay: u16) -> Option<Vec<u8>> {
    let [sync, kind, rates, mode] = without_checksum(like);
    // Without padding, and with no trick of joint stereo.
    let head = with_room([sync, kind, rates & 0xfc, mode & 0xcf], TAG)?;
    let header = Header::parse(head)?;
    let mut frame = vec![0; header.size];
    frame[..4].copy_from_slice(&head);
    let tag = &mut frame[header.content()..];
    tag[..4].copy_from_slice(if is_constant { b"Info" } else { b"Xing" });
    tag[4..8].copy_from_slice(&ALL_FIELDS);
    tag[120..129].copy_from_slice(b"LAME     ");
    tag[129] = is_constant.into(); // The method: 1 is a constant bit rate, 0 is unknown.
    tag[141..143].copy_from_slice(&(delay << 4).to_be_bytes());
    let frequency = match header.sample_rate {
        48_000 => 2,
        44_100 => 1,
        _ => 0,
    };
    let mode = if header.channels == 1 { 0 } else { 7 }; // 7: undefined.
    tag[144] = frequency << 6 | mode << 2;
    let crc = crc16(0, &frame[..header.content() + TAG - 2]);
    frame[header.content() + TAG - 2..][..2].copy_from_slice(&crc.to_be_bytes());
    Some(frame)
}

/// Lets LAME's Info frame, which was made at another bit rate, tell of this one and of its low-pass filter.
pub(crate) fn relabel(frame: &mut [u8], kilobits: u16, lowpass: u32) {
    let Some(header) = frame.first_chunk().and_then(|head| Header::parse(*head)) else { return };
    let start = header.content();
    let Some(tag) = frame.get_mut(start..start + TAG) else { return };
    tag[130] = u8::try_from((lowpass + 50) / 100).unwrap_or(u8::MAX);
    tag[140] = u8::try_from(kilobits).unwrap_or(u8::MAX);
    // The preset, below flags of surround sound: by it, LAME names the bit rate that it was asked for.
    let preset = u16::from_be_bytes([tag[146], tag[147]]) & !0x7ff | kilobits & 0x7ff;
    tag[146..148].copy_from_slice(&preset.to_be_bytes());
    let crc = crc16(0, &frame[..start + TAG - 2]);
    frame[start + TAG - 2..start + TAG].copy_from_slice(&crc.to_be_bytes());
}

/// What an Info frame is made of, gathered while the frames behind it are written.
pub(crate) struct Tally {
    frames: u64,
    bytes: u64,
    crc: u16,
    /// The place of each `step`-th frame, from the first one on.
    places: Vec<u64>,
    step: u64,
}

/// So many places are kept at most; the table of contents has 100 entries.
const PLACES: usize = 1000;

impl Tally {
    pub fn new() -> Tally {
        Tally { frames: 0, bytes: 0, crc: 0, places: Vec::new(), step: 1 }
    }

    /// Frames so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The next frame is so many bytes large.
    pub fn frame(&mut self, size: usize) {
        if self.frames.is_multiple_of(self.step) {
            if self.places.len() == PLACES {
                self.step *= 2;
                let mut at = 0;
                self.places.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
            }
            if self.frames.is_multiple_of(self.step) {
                self.places.push(self.bytes);
            }
        }
        self.frames += 1;
        self.bytes += size as u64;
    }

    /// The next bytes of the frames, in order.
    pub fn written(&mut self, bytes: &[u8]) {
        self.crc = crc16(self.crc, bytes);
    }

    /// Fills in `frame`, an Info frame of LAME's for the same settings: what is known at the end. `samples` are those per channel that
    /// were encoded, without delay and padding.
    pub fn fill_in(&self, frame: &mut [u8], samples: u64) -> Result<(), &'static str> {
        let head = frame.first_chunk().and_then(|head| Header::parse(*head));
        let header = head.ok_or("the encoder's Info frame is none")?;
        let tag = header.content();
        Info::parse(&header, frame)?;
        let delay = u64::from(u16::from_be_bytes([frame[tag + 141], frame[tag + 142]]) >> 4);
        let padding = (self.frames * u64::from(header.samples)).checked_sub(samples + delay);
        let padding =
            padding.filter(|padding| *padding < 1 << 12).ok_or("the count of frames does not fit")?;
        let bytes = saturated(self.bytes + frame.len() as u64);
        frame[tag + 8..tag + 12].copy_from_slice(&saturated(self.frames));
        frame[tag + 12..tag + 16].copy_from_slice(&bytes);
        for (percent, entry) in (0..).zip(&mut frame[tag + 16..tag + 116]) {
            *entry = self.entry(percent, header.size as u64);
        }
        frame[tag + 142] = frame[tag + 142] & 0xf0 | (padding >> 8) as u8;
        frame[tag + 143] = padding as u8;
        frame[tag + 148..tag + 152].copy_from_slice(&bytes);
        frame[tag + 152..tag + 154].copy_from_slice(&self.crc.to_be_bytes());
        let crc = crc16(0, &frame[..tag + 154]);
        frame[tag + 154..tag + 156].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }

    /// Of the table of contents: where in the stream, in 256ths, so many percent of the time are over.
    fn entry(&self, percent: u64, info: u64) -> u8 {
        let frame = self.frames * percent / 100;
        let at = usize::try_from(frame / self.step).unwrap_or(usize::MAX);
        let place = |at| self.places.get(at).copied().unwrap_or(self.bytes);
        let (before, behind) = (place(at), place(at.saturating_add(1)));
        let place = before + (behind - before) * (frame % self.step) / self.step;
        u8::try_from((info + place) * 256 / (info + self.bytes).max(1)).unwrap_or(u8::MAX)
    }
}

fn saturated(number: u64) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

/// CRC-16 with the reflected polynomial 0xa001, begun at 0; eight bytes at a time, as all of an MP3 goes through it ("slicing-by-8",
/// M. E. Kounavis and F. L. Berry, "A Systematic Approach to Building High Performance Software-based CRC Generators", 2005).
pub(super) fn crc16(start: u16, bytes: &[u8]) -> u16 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(start, |crc, [a, b, c, d, e, f, g, h]| {
        let [low, high] = crc.to_le_bytes();
        let bytes = [h, g, f, e, d, c, &(b ^ high), &(a ^ low)];
        TABLES.iter().zip(bytes).fold(0, |crc, (table, byte)| crc ^ table[usize::from(*byte)])
    });
    rest.iter().fold(crc, |crc, byte| crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)])
}

/// What a byte does to the checksum, with no to seven bytes of zeros behind it.
static TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 * 8 {
        let (table, byte) = (i / 256, i % 256);
        let (mut value, mut bit) = (if table == 0 { byte as u16 } else { tables[table - 1][byte] }, 0);
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xa001 } else { value >> 1 };
            bit += 1;
        }
        tables[table][byte] = value;
        i += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_info_frame_is_one_in_every_format() {
        for kind in [0xfa, 0xfb, 0xf3, 0xe3] {
            for (rates, mode) in (0x10..=0xef).step_by(2).flat_map(|rates| [(rates, 0x64), (rates, 0xc0)]) {
                let like = [0xff, kind, rates, mode];
                let Some(frames) = Header::parse(like) else { continue };
                let info = blank(like, true, 1105).unwrap();
                let header = Header::parse([info[0], info[1], info[2], info[3]]).unwrap();
                assert!(header.same_format(&frames) && header.size == info.len(), "{like:x?}");
                assert_eq!(Info::parse(&header, &info).unwrap().delay, 1105, "{like:x?}");
            }
        }
    }

    #[test]
    fn the_checksum_is_the_catalogues_arc() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        let bytes: Vec<u8> = (0..100_u8).map(|i| i.wrapping_mul(37) ^ 0x5a).collect();
        let at_once = crc16(0x1234, &bytes);
        let one_by_one = bytes.iter().fold(0x1234, |crc, byte| crc16(crc, std::slice::from_ref(byte)));
        assert_eq!(at_once, one_by_one);
    }
}
