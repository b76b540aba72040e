//! The video by range: what parent and child say on descriptor 0 of the child when the parent reads the video for it.
//!
//! It is a stream socket. Numbers are little-endian.
//!
//! | who | says | bytes |
//! |---|---|---|
//! | parent, once, first | the size of the video | `u64` |
//! | child | give me this range | offset `u64`, length `u32` |
//! | parent | the range, whole | as many as were asked for |
//!
//! The child asks for `1..=LONGEST` bytes that all lie within the video, takes an answer before it asks again, and does not ask for
//! ever. A child that does anything else has broken the protocol, and its conversion ends as crashed. There is no word for a failure:
//! the parent closes the socket, and says itself what failed, since the child's word is not to be believed.

use std::io::{self, Read, Write};

/// What the child asks for at a time and keeps: as much as stores often keep in one piece (GridFS by default), at its borders.
pub(super) const BLOCK: u64 = 255 * 1024;

/// As many blocks at most are asked for at once: where reading goes on in sequence.
pub(super) const RUN: u64 = 4;

/// The longest range that is served; the parent holds one at a time.
pub(super) const LONGEST: u64 = RUN * BLOCK;

/// What the child asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub offset: u64,
    pub length: u32,
}

impl Range {
    pub fn send(self, mut to: impl Write) -> io::Result<()> {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        to.write_all(&bytes)
    }

    /// Blocks for one; an error is the end.
    pub fn receive(mut from: impl Read) -> io::Result<Range> {
        let (mut offset, mut length) = ([0; 8], [0; 4]);
        from.read_exact(&mut offset)?;
        from.read_exact(&mut length)?;
        Ok(Range { offset: u64::from_le_bytes(offset), length: u32::from_le_bytes(length) })
    }

    /// Whether a video of this size has it and it is neither empty nor too long.
    pub fn may_be_asked(self, size: u64) -> bool {
        let length = u64::from(self.length);
        (1..=LONGEST).contains(&length) && self.offset.checked_add(length).is_some_and(|end| end <= size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_survives_the_way_to_the_parent() {
        let range = Range { offset: 0x0102_0304_0506_0708, length: 0x090a_0b0c };
        let mut sent = Vec::new();
        range.send(&mut sent).unwrap();
        assert_eq!(sent, [8, 7, 6, 5, 4, 3, 2, 1, 12, 11, 10, 9]);
        assert_eq!(Range::receive(&sent[..]).unwrap(), range);
        assert!(Range::receive(&sent[..11]).is_err());
    }

    #[test]
    fn only_what_lies_within_the_video_may_be_asked() {
        let asked = |offset, length| Range { offset, length }.may_be_asked(10_000_000);
        let longest = u32::try_from(LONGEST).unwrap();
        assert!(asked(0, 1) && asked(9_999_999, 1) && asked(0, longest));
        assert!(!asked(0, 0) && !asked(10_000_000, 1) && !asked(9_999_999, 2));
        assert!(!asked(0, longest + 1) && !asked(0, u32::MAX) && !asked(u64::MAX, 1));
    }
}
