//! The four bytes that begin an MP3 frame.

/// The largest frame: 320 kbit/s at 32 kHz, padded, and the same in MPEG 2.5.
pub(crate) const LARGEST: usize = 1441;

/// A frame of layer III, without the free format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub version: Version,
    pub sample_rate: u32,
    pub channels: u8,
    /// Samples per channel.
    pub samples: u32,
    /// Bytes, these four included.
    pub size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Mpeg1,
    Mpeg2,
    Mpeg25,
}

const KILOBITS_1: [usize; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const KILOBITS_2: [usize; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

impl Header {
    pub fn parse([sync, kind, rates, mode]: [u8; 4]) -> Option<Header> {
        let version = match kind & 0xfe {
            0xfa => Version::Mpeg1,
            0xf2 => Version::Mpeg2,
            0xe2 => Version::Mpeg25,
            _ => return None,
        };
        if sync != 0xff {
            return None;
        }
        let base = [44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 3))?;
        let (kilobits, sample_rate, samples) = match version {
            Version::Mpeg1 => (KILOBITS_1, *base, 1152),
            Version::Mpeg2 => (KILOBITS_2, base / 2, 576),
            Version::Mpeg25 => (KILOBITS_2, base / 4, 576),
        };
        let kilobits = kilobits.get(usize::from(rates >> 4).checked_sub(1)?)?;
        let padding = usize::from(rates >> 1 & 1);
        let size = samples as usize * kilobits * 125 / sample_rate as usize + padding;
        Some(Header { version, sample_rate, channels: if mode >> 6 == 3 { 1 } else { 2 }, samples, size })
    }

    pub fn same_format(&self, other: &Header) -> bool {
        (self.version, self.sample_rate, self.channels) == (other.version, other.sample_rate, other.channels)
    }

    /// 2 in MPEG-1, else 1; each has 576 samples per channel.
    pub fn granules(&self) -> usize {
        if self.version == Version::Mpeg1 { 2 } else { 1 }
    }

    /// So many bytes before a frame its main data may begin: `main_data_begin` has 9 bits in MPEG-1, else 8.
    pub fn longest_reservoir(&self) -> usize {
        if self.version == Version::Mpeg1 { 511 } else { 255 }
    }

    /// Where the content of the frame begins, behind header and side information.
    pub fn content(&self) -> usize {
        match (self.version, self.channels) {
            (Version::Mpeg1, 2) => 4 + 32,
            (Version::Mpeg1, _) | (_, 2) => 4 + 17,
            _ => 4 + 9,
        }
    }
}

/// The number of the bit rate in the standard's table, 1 to 14.
pub(crate) fn rate_index(header: [u8; 4]) -> u8 {
    header[2] >> 4
}

/// The same header with another bit rate.
pub(crate) fn with_rate_index([sync, kind, rates, mode]: [u8; 4], index: u8) -> [u8; 4] {
    [sync, kind, rates & 0x0f | index << 4, mode]
}

/// Whether a checksum of two bytes stands between header and side information.
pub(crate) fn has_checksum([_, kind, ..]: [u8; 4]) -> bool {
    kind & 1 == 0
}

/// The same header, of a frame without a checksum.
pub(crate) fn without_checksum([sync, kind, rates, mode]: [u8; 4]) -> [u8; 4] {
    [sync, kind | 1, rates, mode]
}

/// The same header with the lowest bit rate, from its own one on, whose frames have so much room behind their side information.
pub(crate) fn with_room(header: [u8; 4], room: usize) -> Option<[u8; 4]> {
    let raised = (rate_index(header)..=14).map(|index| with_rate_index(header, index));
    raised.into_iter().find(|raised| Header::parse(*raised).is_some_and(|h| h.size >= h.content() + room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_standard() {
        let size =
            |bytes| Header::parse(bytes).map(|header| (header.size, header.sample_rate, header.channels));
        assert_eq!(size([0xff, 0xfb, 0x90, 0x64]), Some((417, 44_100, 2)));
        assert_eq!(size([0xff, 0xfb, 0x92, 0xc4]), Some((418, 44_100, 1)));
        assert_eq!(size([0xff, 0xfb, 0xea, 0x00]), Some((LARGEST, 32_000, 2)));
        assert_eq!(size([0xff, 0xe3, 0x18, 0xc0]), Some((72, 8_000, 1)));
        for foreign in [
            [0xff, 0xfd, 0x90, 0x64],
            [0xff, 0xfb, 0x00, 0],
            [0xff, 0xfb, 0xf0, 0],
            [0xff, 0xfb, 0x9c, 0],
            [0xfe, 0xfb, 0x90, 0],
        ] {
            assert_eq!(size(foreign), None, "{foreign:x?}");
        }
    }
}
