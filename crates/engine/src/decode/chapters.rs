//! The container's chapters, as those of the piece that is converted.

use std::ops::Range;
use std::time::Duration;

/// A chapter; its times count from the start of the converted piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chapter {
    pub start: Duration,
    pub end: Duration,
    pub title: Option<String>,
}

/// A chapter as the container has it: start, end where it says one (MP4 does not), title.
type Found = (Duration, Option<Duration>, Option<String>);

/// The chapters by the clock of a sound that begins so `late` in the container.
pub(super) fn since(mut found: Vec<Found>, late: Duration) -> Vec<Found> {
    for (start, end, _) in &mut found {
        *start = start.saturating_sub(late);
        *end = end.map(|end| end.saturating_sub(late));
    }
    found
}

/// The chapters in the order of their starts; where an end is not said, the next start is it, or the end of the piece. Those that have no
/// length, or end before the piece or begin behind `cut`, where it was cut, are left out.
pub(super) fn within(mut found: Vec<Found>, piece: Range<Duration>, cut: Option<Duration>) -> Vec<Chapter> {
    found.sort_by_key(|(start, ..)| *start);
    let starts: Vec<_> = found.iter().map(|(start, ..)| *start).collect();
    let next_start = |start| starts.get(starts.partition_point(|other| *other <= start)).copied();
    let chapter = |(start, end, title): Found| {
        let end = end.or_else(|| next_start(start)).unwrap_or(piece.end);
        let (start, end) = (
            start.max(piece.start) - piece.start,
            cut.map_or(end, |cut| end.min(cut)).saturating_sub(piece.start),
        );
        (start < end).then_some(Chapter { start, end, title })
    };
    found.into_iter().filter_map(chapter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(found: &[(u64, Option<u64>)], piece: Range<u64>, cut: Option<u64>) -> Vec<(u64, u64)> {
        let s = Duration::from_secs;
        let found = found.iter().map(|(start, end)| (s(*start), end.map(s), None)).collect();
        let within = within(found, s(piece.start)..s(piece.end), cut.map(s));
        within.iter().map(|chapter| (chapter.start.as_secs(), chapter.end.as_secs())).collect()
    }

    #[test]
    fn an_end_that_is_not_said_is_the_next_start_or_the_pieces_end() {
        assert_eq!(seconds(&[(0, None), (5, None), (7, Some(8))], 0..10, None), [(0, 5), (5, 7), (7, 8)]);
        assert_eq!(
            seconds(&[(5, None), (0, None)], 0..10, None),
            [(0, 5), (5, 10)],
            "in the order of their starts"
        );
        assert_eq!(seconds(&[(5, None), (5, None)], 0..10, None), [(5, 10), (5, 10)], "two at once");
        assert_eq!(seconds(&[(12, None), (3, Some(3)), (4, Some(2))], 0..10, None), [], "without length");
    }

    #[test]
    fn a_sound_that_begins_late_has_its_chapters_earlier() {
        let s = Duration::from_secs;
        let found = vec![(s(0), Some(s(4)), None), (s(4), Some(s(12)), None), (s(12), None, None)];
        let chapters = within(since(found, s(8)), s(0)..s(10), None);
        let times: Vec<_> = chapters.iter().map(|chapter| (chapter.start, chapter.end)).collect();
        assert_eq!(times, [(s(0), s(4)), (s(4), s(10))], "what ends before the sound is left out");
    }

    #[test]
    fn times_count_from_the_start_of_the_piece() {
        assert_eq!(
            seconds(&[(0, Some(4)), (4, Some(8)), (8, Some(12))], 3..9, Some(9)),
            [(0, 1), (1, 5), (5, 6)]
        );
        assert_eq!(seconds(&[(0, Some(3)), (9, Some(12))], 3..9, Some(9)), []);
        assert_eq!(
            seconds(&[(8, Some(12))], 3..9, None),
            [(5, 9)],
            "a length that may be wrong cuts nothing"
        );
    }
}
