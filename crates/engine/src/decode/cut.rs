//! The piece of the sound that is delivered: counted in samples as they are decoded, so that a cut is exact in every container.
//!
//! What lies before the piece is decoded and dropped. A container's index would lead there faster, but not in all of them to the sample:
//! Matroska counts in milliseconds, others guess.

use std::ops::Range;
use std::time::Duration;

use super::length::SLACK;
use crate::options::clock;
use crate::{Code, Error, Trim};

/// Where decoding is, and what of it is wanted.
#[derive(Debug, Default)]
pub(super) struct Cut {
    from: u64,
    to: Option<u64>,
    /// Samples decoded so far.
    at: u64,
    sample_rate: u32,
}

impl Cut {
    pub fn new(trim: Trim, sample_rate: u32) -> Cut {
        let (from, to) = trim.samples(sample_rate);
        Cut { from, to, at: 0, sample_rate }
    }

    /// True once nothing of what follows is wanted.
    pub fn is_done(&self) -> bool {
        self.to.is_some_and(|to| self.at >= to)
    }

    /// What is wanted of the next `count` samples.
    pub fn take(&mut self, count: usize) -> Range<usize> {
        let within =
            |sample: u64| usize::try_from(sample.saturating_sub(self.at)).map_or(count, |n| n.min(count));
        let (start, end) = (within(self.from), self.to.map_or(count, within));
        self.at += count as u64;
        start.min(end)..end
    }

    /// How much sound was decoded, wanted or not.
    pub fn position(&self) -> Duration {
        Duration::from_secs_f64(self.at as f64 / f64::from(self.sample_rate.max(1)))
    }

    /// At the end of the sound: refuses a piece that is not there. An end up to a second behind the sound's is taken for its end, as players
    /// show whole seconds.
    pub fn refuse_beyond(&self, trim: Trim) -> Result<(), Error> {
        let whole = self.position();
        let missing = if self.at <= self.from {
            "begins there or later. Choose an earlier start"
        } else if trim.end.is_some_and(|end| end > whole.saturating_add(SLACK)) {
            "ends later. Choose an earlier end, or leave it open"
        } else {
            return Ok(());
        };
        let whole = clock(Duration::from_millis(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX)));
        Err(Error::new(
            Code::TrimBeyondEnd,
            format!("The sound ends at {whole}, and the piece {trim} {missing}."),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(trim: &str, blocks: &[usize]) -> (Vec<Range<usize>>, Cut) {
        let mut cut = Cut::new(trim.parse().unwrap(), 10);
        let taken = blocks.iter().map_while(|&block| (!cut.is_done()).then(|| cut.take(block))).collect();
        (taken, cut)
    }

    #[test]
    fn exactly_the_piece_is_taken_however_the_blocks_fall() {
        assert_eq!(taken("1.2-3.1", &[10, 10, 10, 10, 10]).0, [10..10, 2..10, 0..10, 0..1]);
        assert_eq!(taken("1-2", &[10, 10, 10]).0, [10..10, 0..10], "on the borders");
        assert_eq!(taken("0.3-0.5", &[50, 1]).0.first(), Some(&(3..5)), "within one block");
        assert_eq!(taken("0.5-", &[1; 7]).0.iter().map(ExactSizeIterator::len).sum::<usize>(), 2);
        assert_eq!(taken("-0.5", &[3, 3, 3]).0, [0..3, 0..2]);
    }

    #[test]
    fn a_piece_behind_the_end_is_refused_and_one_that_is_nearly_there_is_not() {
        let refused = |text: &str| {
            let (_, cut) = taken(text, &[10, 10]);
            cut.refuse_beyond(text.parse().unwrap()).map_err(|error| error.text)
        };
        assert_eq!(
            refused("2-"),
            Err(
                "The sound ends at 0:02, and the piece 0:02- begins there or later. Choose an earlier start."
                    .into()
            )
        );
        assert!(refused("5-6").is_err() && refused("1-3.1").unwrap_err().contains("leave it open"));
        assert_eq!((refused("1.9-"), refused("0-2"), refused("0-3")), (Ok(()), Ok(()), Ok(())));
    }
}
