//! The main header of an AVI file: libav replaces the length that it claims by what it finds, so that a cut file looks whole.

use std::io;
use std::time::Duration;

use crate::Source;

/// How long the header claims the video to be; `None` when it does not.
pub(super) fn avi_duration(source: &dyn Source) -> io::Result<Option<Duration>> {
    let mut head = [0; 52];
    let n = source.read_at(0, &mut head)?;
    if n < head.len() || !head.starts_with(b"RIFF") || head[8..12] != *b"AVI " || head[24..28] != *b"avih" {
        return Ok(None);
    }
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (frame_us, frames) = (number(32), number(48));
    Ok(Some(Duration::from_micros(u64::from(frame_us) * u64::from(frames))).filter(|claim| !claim.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_is_frames_times_their_duration() {
        let mut avi = b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih\x38\0\0\0".to_vec();
        avi.extend(40_000_u32.to_le_bytes());
        avi.extend([0; 12]);
        avi.extend(500_u32.to_le_bytes());
        assert_eq!(avi_duration(&&avi[..]).unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(avi_duration(&&avi[..40]).unwrap(), None);
    }
}
