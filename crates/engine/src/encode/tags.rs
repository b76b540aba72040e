//! The ID3v2 tag at the head of the MP3: what the container says about the work, and nothing of the container's own.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::collections::BTreeMap;

use id3::frame::Comment;
use id3::{Encoder, Tag, TagLike, Version};

use super::{chapters, cover};
use crate::Options;
use crate::decode::Chapter;
use crate::io::HEAD;

/// libav's names of what is worth keeping, and ID3v2.4's. Everything else (encoder, major_brand, creation_time, handler_name …) is left.
const KEPT: [(&str, &str); 11] = [
    ("title", "TIT2"),
    ("artist", "TPE1"),
    ("album", "TALB"),
    ("album_artist", "TPE2"),
    ("composer", "TCOM"),
    ("date", "TDRC"),
    ("genre", "TCON"),
    ("track", "TRCK"),
    ("disc", "TPOS"),
    ("publisher", "TPUB"),
    ("copyright", "TCOP"),
];

/// The names of all tags that are kept.
pub(crate) const TAGS: [&str; 12] = {
    let mut names = ["comment"; 12];
    let mut i = 0;
    while i < KEPT.len() {
        names[i] = KEPT[i].0;
        i += 1;
    }
    names
};

/// The most that the tag may take: behind it, the Info frame (at most 1441 bytes) must lie within the head.
const ROOM: usize = HEAD as usize - 2048;

/// Longest values in bytes: with these and the longest chapters there is room for a cover of 150 KiB.
const LONGEST: usize = Options::LONGEST_TAG;
const LONGEST_COMMENT: usize = 8_000;

/// What is said of the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    /// The container's tags.
    pub metadata: &'a [(String, String)],
    /// What takes their place, an empty value too.
    pub tags: &'a BTreeMap<String, String>,
    /// The title where there is none.
    pub title: Option<&'a str>,
    pub chapters: &'a [Chapter],
    /// Attached pictures, the best first.
    pub pictures: &'a [&'a [u8]],
}

impl Work<'_> {
    /// The value of a tag, cut to `longest` bytes.
    fn text(&self, wanted: &str, longest: usize) -> Option<String> {
        if let Some(value) = self.tags.get(wanted) {
            return clean(value, longest);
        }
        let mut values = self.metadata.iter().filter(|(key, _)| key.eq_ignore_ascii_case(wanted));
        let value = values.find_map(|(_, value)| clean(value, longest));
        match wanted {
            "title" => value.or_else(|| self.title.and_then(|title| clean(title, longest))),
            "date" => value.and_then(|date| timestamp(&date)),
            _ => value,
        }
    }
}

/// The tag's bytes; none when there is nothing to say. It leaves room for the Info frame within the head that can be rewritten: a cover that
/// is too large for that is left out.
pub(crate) fn id3v2(work: &Work<'_>) -> Vec<u8> {
    let mut tag = Tag::new();
    for (key, frame) in KEPT {
        if let Some(value) = work.text(key, LONGEST) {
            tag.set_text(frame, value);
        }
    }
    if let Some(text) = work.text("comment", LONGEST_COMMENT) {
        tag.add_frame(Comment { lang: "und".to_owned(), description: String::new(), text });
    }
    chapters::add(&mut tag, work.chapters);
    let bytes = encode(&tag);
    match cover::choose(work.pictures, ROOM.saturating_sub(bytes.len())) {
        Some(cover) => {
            tag.add_frame(cover);
            encode(&tag)
        }
        None => bytes,
    }
}

fn encode(tag: &Tag) -> Vec<u8> {
    let mut bytes = Vec::new();
    if tag.frames().next().is_some() {
        let written = Encoder::new().version(Version::Id3v24).encode(tag, &mut bytes);
        written.expect("frames of known kinds, into memory, cannot fail");
    }
    bytes
}

/// Without NUL and surrounding space, cut to `longest` bytes; `None` when nothing is left.
pub(super) fn clean(value: &str, longest: usize) -> Option<String> {
    let value = value.replace('\0', " ");
    let value = value.trim();
    let end = (0..=longest.min(value.len())).rev().find(|end| value.is_char_boundary(*end))?;
    (end > 0).then(|| value[..end].to_owned())
}

/// Whether ID3v2.4 takes all of `date`.
pub(crate) fn is_date(date: &str) -> bool {
    timestamp(date).is_some_and(|taken| taken == date)
}

/// ID3v2.4 takes yyyy, yyyy-MM or yyyy-MM-dd of ISO 8601; everything behind, and everything else, is dropped.
fn timestamp(date: &str) -> Option<String> {
    let fits = |pattern: &str| {
        let head = date.get(..pattern.len())?;
        let same = |(c, p): (char, char)| if p == '0' { c.is_ascii_digit() } else { c == p };
        head.chars().zip(pattern.chars()).all(same).then(|| head.to_owned())
    };
    ["0000-00-00", "0000-00", "0000"].into_iter().find_map(fits)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(bytes: &[u8]) -> Tag {
        Tag::read_from2(std::io::Cursor::new(bytes)).unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn id3v2(metadata: &[(String, String)], title: Option<&str>) -> Vec<u8> {
        super::id3v2(&Work { metadata, title, tags: &BTreeMap::new(), chapters: &[], pictures: &[] })
    }

    #[test]
    fn what_the_caller_sets_comes_first_and_what_is_empty_is_left_out() {
        let metadata = pairs(&[("title", "old"), ("artist", "old"), ("date", "2001")]);
        let tags: BTreeMap<_, _> =
            pairs(&[("title", "new"), ("artist", " "), ("comment", "mine")]).into_iter().collect();
        let work =
            Work { metadata: &metadata, title: Some("file"), tags: &tags, chapters: &[], pictures: &[] };
        let tag = read(&super::id3v2(&work));
        assert_eq!((tag.title(), tag.artist(), tag.frames().count()), (Some("new"), None, 3), "{tag:?}");
        let tags = [("title".to_owned(), String::new())].into();
        assert_eq!(read(&super::id3v2(&Work { tags: &tags, ..work })).title(), None);
    }

    #[test]
    fn the_longest_tag_leaves_room_for_the_info_frame_and_a_cover() {
        let long = "大".repeat(100_000);
        let metadata: Vec<_> = TAGS.iter().map(|key| (key.to_string(), long.clone())).collect();
        let chapter = |i| Chapter {
            start: Duration::from_secs(i),
            end: Duration::from_secs(i + 1),
            title: Some(long.clone()),
        };
        let chapters: Vec<_> = (0..1_000).rev().map(chapter).collect();
        let none = BTreeMap::new();
        let with_cover = |size| {
            let cover = [b"\xff\xd8\xff".to_vec(), vec![0xff; size]].concat();
            let work = Work {
                metadata: &metadata,
                title: None,
                tags: &none,
                chapters: &chapters,
                pictures: &[&cover],
            };
            super::id3v2(&work)
        };
        let tag = with_cover(150 * 1024);

        assert!(tag.len() as u64 + 1441 <= HEAD, "{}", tag.len());
        let tag = read(&tag);
        assert_eq!((tag.pictures().count(), tag.chapters().count()), (1, 255));
        assert_eq!(tag.tables_of_contents().next().unwrap().elements.len(), 255);
        assert_eq!(tag.chapters().next().unwrap().start_time, 0, "the first of them");
        // The limit itself: some cover is the largest that fits, and with one byte more it is left out.
        let mut sizes = 150 * 1024..300 * 1024;
        while sizes.len() > 1 {
            let middle = sizes.start + sizes.len() / 2;
            let fits = read(&with_cover(middle)).pictures().count() == 1;
            sizes = if fits { middle..sizes.end } else { sizes.start..middle };
        }
        let largest = with_cover(sizes.start);
        assert!((ROOM - 100..=ROOM).contains(&largest.len()), "{}", largest.len());
    }

    #[test]
    fn the_work_is_kept_and_the_containers_own_words_are_not() {
        let bytes = id3v2(
            &pairs(&[
                ("TITLE", "Größe 大"),
                ("encoder", "Lavf"),
                ("major_brand", "isom"),
                ("date", "2024-05-06T07:08:09Z"),
                ("comment", "hi"),
            ]),
            Some("file.mp4"),
        );
        let tag = read(&bytes);
        assert_eq!(tag.title(), Some("Größe 大"));
        assert_eq!(tag.get("TDRC").unwrap().content().text(), Some("2024-05-06"));
        assert_eq!(tag.comments().next().unwrap().text, "hi");
        assert_eq!(tag.frames().count(), 3);
    }

    #[test]
    fn the_callers_title_serves_where_there_is_none() {
        assert_eq!(read(&id3v2(&pairs(&[("title", " ")]), Some("file"))).title(), Some("file"));
        assert!(id3v2(&pairs(&[("encoder", "x")]), None).is_empty());
    }

    #[test]
    fn dates_are_cut_to_what_id3_takes() {
        assert_eq!(timestamp("2024"), Some("2024".to_owned()));
        assert_eq!(timestamp("2024-1-2"), Some("2024".to_owned()));
        assert_eq!(timestamp("2024-11"), Some("2024-11".to_owned()));
        assert_eq!(timestamp("last year"), None);
    }
}
