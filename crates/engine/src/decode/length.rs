//! How long the sound really is: headers lie, in both directions.

use std::time::Duration;

use super::reader::{Failed, Reader, Stream};
use crate::error::words;
use crate::{Code, Error, Limits};

/// The length of the sound before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    /// The container says so, and it is plausible.
    Claimed(Duration),
    /// Counted, packet by packet.
    Measured(Duration),
}

impl Length {
    pub fn duration(&self) -> Duration {
        let (Length::Claimed(duration) | Length::Measured(duration)) = self;
        *duration
    }
}

/// Codecs pad: this much more than the limit is still the limit.
pub(crate) const SLACK: Duration = Duration::from_secs(1);

/// No real sound takes fewer bits a second, with its container; a header that claims so is checked.
const LEAST_BIT_RATE: f64 = 500.0;

/// Believes a plausible claim, measures otherwise; what lies behind `enough` need not be known.
pub(super) fn find(
    reader: &Reader<'_, '_>,
    stream: &Stream,
    limits: &Limits,
    enough: Option<Duration>,
) -> Result<Length, Error> {
    let allowed = limits.duration.saturating_add(SLACK);
    let is_allowed = |claim| enough.map_or(claim, |enough| enough.min(claim)) <= allowed;
    match stream.duration {
        Some(claim) if is_plausible(claim, reader.size()) && is_allowed(claim) => Ok(Length::Claimed(claim)),
        _ => measure(reader, stream.index, limits, enough).map(Length::Measured),
    }
}

fn is_plausible(claim: Duration, size: u64) -> bool {
    size as f64 * 8.0 >= claim.as_secs_f64() * LEAST_BIT_RATE
}

/// Reads all packets of the stream, without decoding, up to the limit or to what is `enough`.
fn measure(
    reader: &Reader<'_, '_>,
    stream: i32,
    limits: &Limits,
    enough: Option<Duration>,
) -> Result<Duration, Error> {
    let failed = |failed| match failed {
        Failed::Ours(error) => error,
        Failed::Encrypted => super::protected(),
        Failed::NotAllowed => super::not_media(failed),
        Failed::Libav(complaint) | Failed::NotImplemented(complaint) => {
            super::corrupt("The file cannot be read to its end.").because(complaint)
        }
    };
    let mut second = Reader::new(reader.source(), reader.pulse())?;
    second.probe().map_err(failed)?;
    second.patch(reader.patches()); // Or streams would have other numbers.
    second.open().map_err(failed)?;
    if !second.streams().iter().any(|found| found.index == stream) || !super::is_mp4(&second.format()) {
        second.find_streams().map_err(failed)?;
    }
    second.choose(stream).map_err(failed)?;
    if let Some(table) = reader.table() {
        second.go_on_by(table).map_err(Error::read_failed)?;
    }
    let mut total = Duration::ZERO;
    while let Some(duration) = second.skip().map_err(failed)? {
        total = total.saturating_add(duration.unwrap_or_default());
        if total > limits.duration.saturating_add(SLACK) {
            return Err(Error::too_long(limits.duration));
        }
        if enough.is_some_and(|enough| total >= enough) {
            break;
        }
        if second.pulse().beat().is_break() {
            return Err(Error::cancelled());
        }
    }
    second.interrupted()?;
    Ok(total)
}

/// Refuses a sound that ends early where the file does: by more than 5 % and a second of what a believable header claims.
pub(super) fn refuse_cut(
    converted: Duration,
    length: &Length,
    last_position: i64,
    size: u64,
) -> Result<(), Error> {
    let Length::Claimed(claim) = length else { return Ok(()) };
    let missing = claim.saturating_sub(converted);
    let at_the_end = last_position as f64 >= size as f64 * 0.95;
    if at_the_end && missing > *claim / 20 + Duration::from_secs(1) {
        return Err(cut(converted, Some(*claim)));
    }
    Ok(())
}

/// Refuses a file that is shorter than its header says: in a video the sound may begin late, end early or have holes, so that seconds
/// prove nothing. The last 5 % may be missing: they are the index more often than the sound, and some writers are careless.
pub(super) fn refuse_short(
    converted: Duration,
    length: &Length,
    claimed_end: Option<u64>,
    size: u64,
) -> Result<(), Error> {
    match claimed_end {
        Some(end) if size < end - end / 20 => Err(cut(converted, Some(length.duration()))),
        _ => Ok(()),
    }
}

/// Whether an FLV file whose last tag is whole, at this time, reaches the end of what it claims.
pub(super) fn reaches_end(last_tag: Option<Duration>, length: &Length) -> bool {
    let whole = length.duration();
    last_tag.is_some_and(|time| time + whole / 20 + Duration::from_secs(1) >= whole)
}

/// The error for a sound of which only the beginning is there.
pub(super) fn cut(there: Duration, whole: Option<Duration>) -> Error {
    // Tenths of a second prove nothing, and nobody is to read "2 seconds of 2 seconds".
    let share = match whole.filter(|whole| *whole > there && words(*whole) != words(there)) {
        Some(whole) => format!("only the first {} of {} of its sound are there", words(there), words(whole)),
        None => format!("its sound breaks off after {}", words(there)),
    };
    Error::new(
        Code::Truncated,
        format!(
            "The file is cut off: {share}. Perhaps the recording was interrupted, or the file was cut off on its way: copy or send the whole file again."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_is_cut_when_it_ends_early_at_the_end_of_the_file() {
        let seconds = Duration::from_secs;
        let claimed = Length::Claimed(seconds(100));
        assert_eq!(refuse_cut(seconds(50), &claimed, 990, 1000).unwrap_err().code, Code::Truncated);
        assert!(refuse_cut(seconds(50), &claimed, 500, 1000).is_ok(), "a shorter track");
        assert!(refuse_cut(seconds(95), &claimed, 990, 1000).is_ok(), "a careless header");
        assert!(refuse_cut(seconds(50), &Length::Measured(seconds(100)), 990, 1000).is_ok());
    }

    #[test]
    fn a_file_is_short_when_more_than_its_last_twentieth_is_missing() {
        let refuse = |end, size| {
            let length = Length::Claimed(Duration::from_secs(100));
            refuse_short(Duration::from_secs(50), &length, end, size).is_err()
        };
        assert!(refuse(Some(1000), 949) && refuse(Some(u64::MAX), 1));
        assert!(!refuse(Some(1000), 950) && !refuse(Some(0), 1) && !refuse(None, 1));
    }

    #[test]
    fn a_claim_that_no_codec_could_keep_is_not_believed() {
        assert!(!is_plausible(Duration::from_secs(143_165), 106_093));
        assert!(is_plausible(Duration::from_secs(30), 4_139_823));
    }
}
