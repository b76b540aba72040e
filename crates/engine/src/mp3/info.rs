//! The Info frame: a silent first frame in which LAME says how long the stream is.

use super::frame::Header;

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

/// CRC-16 with the reflected polynomial 0xa001, begun at 0.
pub(super) fn crc16(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut value, mut bit) = (i as u16, 0);
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xa001 } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_catalogues_arc() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
