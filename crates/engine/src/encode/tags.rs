//! The ID3v2 tag at the head of the MP3: what the container says about the work, and nothing of the container's own.

use id3::frame::Comment;
use id3::{Encoder, Tag, TagLike, Version};

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

/// Longest values in bytes: with these the whole tag stays below 32 KiB, so that the Info frame lies in the first 64.
const LONGEST: usize = 1_000;
const LONGEST_COMMENT: usize = 8_000;

/// The tag's bytes; none when there is nothing to say. `title` is used when the container has none.
pub(crate) fn id3v2(metadata: &[(String, String)], title: Option<&str>) -> Vec<u8> {
    let find = |wanted: &str, longest| {
        let mut values = metadata.iter().filter(|(key, _)| key.eq_ignore_ascii_case(wanted));
        values.find_map(|(_, value)| clean(value, longest))
    };
    let mut tag = Tag::new();
    for (key, frame) in KEPT {
        let mut value = find(key, LONGEST);
        if key == "title" {
            value = value.or_else(|| title.and_then(|title| clean(title, LONGEST)));
        }
        if key == "date" {
            value = value.and_then(|date| timestamp(&date));
        }
        if let Some(value) = value {
            tag.set_text(frame, value);
        }
    }
    if let Some(text) = find("comment", LONGEST_COMMENT) {
        tag.add_frame(Comment { lang: "und".to_owned(), description: String::new(), text });
    }
    let mut bytes = Vec::new();
    if tag.frames().next().is_some() {
        let written = Encoder::new().version(Version::Id3v24).encode(&tag, &mut bytes);
        written.expect("text frames into memory cannot fail");
    }
    bytes
}

/// Without NUL and surrounding space, cut to `longest` bytes; `None` when nothing is left.
fn clean(value: &str, longest: usize) -> Option<String> {
    let value = value.replace('\0', " ");
    let value = value.trim();
    let end = (0..=longest.min(value.len())).rev().find(|end| value.is_char_boundary(*end))?;
    (end > 0).then(|| value[..end].to_owned())
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
    use super::*;

    fn read(bytes: &[u8]) -> Tag {
        Tag::read_from2(std::io::Cursor::new(bytes)).unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
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
    fn the_tag_leaves_room_for_the_info_frame() {
        let long = "大".repeat(100_000);
        let mut all: Vec<_> = KEPT.iter().map(|(key, _)| (key.to_string(), long.clone())).collect();
        all.push(("comment".to_owned(), long));
        assert!(id3v2(&all, None).len() < 32 * 1024);
    }

    #[test]
    fn dates_are_cut_to_what_id3_takes() {
        assert_eq!(timestamp("2024"), Some("2024".to_owned()));
        assert_eq!(timestamp("2024-1-2"), Some("2024".to_owned()));
        assert_eq!(timestamp("2024-11"), Some("2024-11".to_owned()));
        assert_eq!(timestamp("last year"), None);
    }
}
