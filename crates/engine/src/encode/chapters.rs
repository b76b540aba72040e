//! The container's chapters as ID3v2's: a CHAP frame each and one CTOC that lists them, by the ID3v2 Chapter Frame Addendum.

use std::time::Duration;

use id3::frame::{Chapter as Frame, TableOfContents};
use id3::{Content, Tag, TagLike};

use super::tags::clean;
use crate::decode::Chapter;

/// A CTOC counts its entries in one byte. Chapters behind these are left out.
const MOST: usize = 255;
/// The longest title in bytes: with these all chapters take less than 70 KiB.
const LONGEST: usize = 200;
/// The offset that says: go by the time.
const NO_OFFSET: u32 = u32::MAX;
const TABLE: &str = "toc";

/// Adds the chapters in the order of their starts.
pub(super) fn add(tag: &mut Tag, chapters: &[Chapter]) {
    let mut chapters: Vec<_> = chapters.iter().collect();
    chapters.sort_by_key(|chapter| chapter.start);
    chapters.truncate(MOST);
    if chapters.is_empty() {
        return;
    }
    let name = |i: usize| format!("chp{i}");
    tag.add_frame(TableOfContents {
        element_id: TABLE.to_owned(),
        top_level: true,
        ordered: true,
        elements: (0..chapters.len()).map(name).collect(),
        frames: Vec::new(),
    });
    for (i, chapter) in chapters.into_iter().enumerate() {
        let title = chapter.title.as_deref().and_then(|title| clean(title, LONGEST));
        tag.add_frame(Frame {
            element_id: name(i),
            start_time: milliseconds(chapter.start),
            end_time: milliseconds(chapter.end),
            start_offset: NO_OFFSET,
            end_offset: NO_OFFSET,
            frames: title
                .map(|title| id3::Frame::with_content("TIT2", Content::Text(title)))
                .into_iter()
                .collect(),
        });
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from((time.as_micros() + 500) / 1000).unwrap_or(u32::MAX)
}
