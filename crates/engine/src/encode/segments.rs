//! Where the sound is cut for encoding in parallel: always at the same frames, so that the MP3 does not depend on the machine.

use super::Quality;

/// In frames. Every segment begins at a multiple of 49 frames, after which the padding of frames at 44.1 kHz repeats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// A segment's encoder begins so many frames before its segment, and has LAME's state (windows, psychoacoustics, reservoir) when
    /// its segment begins.
    pub lead: u64,
    /// At most so many frames, where its state takes longer to be LAME's.
    pub longest_lead: u64,
    /// From so many frames before the segment on, what its encoder makes may be used.
    pub usable: u64,
    /// A segment's encoder goes on for so many frames behind its segment.
    pub tail: u64,
    /// Lengths of the first segments, short so that a short sound is shared out, too; and of all others, longer for less to be encoded
    /// twice, and no longer because memory is needed for the samples of some of them at a time.
    pub first: &'static [u64],
    pub rest: u64,
}

/// LAME holds frames back until later ones fill their room: so many frames of sound are given to it beyond the last that is wanted.
pub(super) const HELD_BACK: u64 = 24;

impl Cut {
    pub fn of(quality: Quality) -> Cut {
        match quality {
            Quality::Vbr(_) => {
                Cut { lead: 16, longest_lead: 98, usable: 4, tail: 2, first: &[147, 147, 147], rest: 245 }
            }
            // How many bits a frame gets depends on the reservoir: that takes longer to be the same, now and then longer than the overlap.
            Quality::Cbr(_) | Quality::Abr(_) => Cut {
                lead: 49,
                longest_lead: 49,
                usable: 24,
                tail: 8,
                first: &[147, 147, 147, 147, 245, 245, 490],
                rest: 686,
            },
        }
    }

    /// How many frames segment `number` has.
    pub fn length(&self, number: usize) -> u64 {
        self.first.get(number).copied().unwrap_or(self.rest)
    }
}
