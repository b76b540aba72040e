//! Which samples of a frame are heard: what FFmpeg's decoder drops of what it decodes, as the container tells it to.

use std::ops::Range;

use crate::decode::Drops;

/// Counts what is still to be dropped, packet by packet.
#[derive(Default)]
pub(super) struct Hearing {
    dropping: u64,
}

impl Hearing {
    /// The samples that are heard of the next packet's `samples`; an empty range when none is.
    ///
    /// The rules are those of FFmpeg's `libavcodec/decode.c`.
    pub fn of(&mut self, drops: Drops, samples: u64) -> Range<u64> {
        if let Some(dropping) = drops.from_here {
            self.dropping = dropping;
        }
        let start = if drops.all { samples } else { self.dropping.min(samples) };
        self.dropping = self.dropping.saturating_sub(samples);
        // More than there is cannot be dropped at the end: FFmpeg takes that for an error, and drops nothing.
        let end = if drops.at_end <= samples - start { samples - drops.at_end } else { samples };
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(of: &[Drops]) -> Vec<(u64, u64)> {
        let mut hearing = Hearing::default();
        of.iter().map(|drops| hearing.of(*drops, 100)).map(|heard| (heard.start, heard.end)).collect()
    }

    const NONE: Drops = Drops { all: false, from_here: None, at_end: 0 };

    #[test]
    fn what_is_dropped_at_the_start_may_be_more_than_a_frame() {
        assert_eq!(
            heard(&[Drops { from_here: Some(150), ..NONE }, NONE, NONE]),
            [(100, 100), (50, 100), (0, 100)]
        );
        assert_eq!(heard(&[Drops { from_here: Some(100), ..NONE }, NONE]), [(100, 100), (0, 100)]);
    }

    #[test]
    fn frames_before_an_edit_count_for_what_is_dropped() {
        let all = Drops { all: true, ..NONE };
        assert_eq!(
            heard(&[Drops { from_here: Some(150), ..all }, NONE, NONE]),
            [(100, 100), (50, 100), (0, 100)]
        );
        assert_eq!(heard(&[all, NONE]), [(100, 100), (0, 100)]);
    }

    #[test]
    fn what_is_dropped_at_the_end_is_so_much_or_nothing() {
        assert_eq!(heard(&[Drops { at_end: 30, ..NONE }]), [(0, 70)]);
        assert_eq!(heard(&[Drops { at_end: 100, ..NONE }]), [(0, 0)]);
        assert_eq!(heard(&[Drops { at_end: 101, ..NONE }]), [(0, 100)]);
        assert_eq!(heard(&[Drops { at_end: 60, from_here: Some(50), ..NONE }]), [(50, 100)]);
    }
}
