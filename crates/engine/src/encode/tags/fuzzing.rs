//! Fuzzing of the tag that is written, and of what options and old files say in text.

use std::time::Duration;

use super::*;
use crate::fuzzing::Bytes;
use crate::{Options, Trim, mp3};

/// The smallest frame: MPEG-2, 24 kHz, 8 kbit/s.
const FRAME: [u8; 24] = {
    let mut frame = [0; 24];
    (frame[0], frame[1], frame[2], frame[3]) = (0xff, 0xf3, 0x14, 0xc4);
    frame
};

/// The tag is none, or within its room, with sizes that add up, in frames of ID3v2.4; what is read out of it is what was said; and an MP3 is
/// found behind it.
pub(crate) fn tag_any(bytes: &mut Bytes<'_>) {
    set_options(bytes);
    let said = Said::choose(bytes);
    let pictures: Vec<&[u8]> = said.pictures.iter().map(Vec::as_slice).collect();
    let work = Work {
        metadata: &said.metadata,
        tags: &said.tags,
        title: said.title.as_deref(),
        chapters: &said.chapters,
        pictures: &pictures,
    };
    let tag = id3v2(&work);
    assert!(tag.len() <= ROOM, "{} bytes", tag.len());
    if !tag.is_empty() {
        let names = frames(&tag);
        let read = Tag::read_from2(std::io::Cursor::new(&tag)).expect("id3 reads what it wrote");
        assert_eq!(read.frames().count(), names.len(), "{tag:x?}");
        assert_eq!(read.title().map(str::to_owned), work.text("title", LONGEST));
        assert_eq!(read.pictures().count(), names.iter().filter(|name| *name == b"APIC").count());
        assert_eq!(read.chapters().count(), said.chapters.len().min(255));
        for (key, id) in KEPT {
            assert_eq!(read.get(id).is_some(), work.text(key, LONGEST).is_some(), "{key}");
        }
    }
    let facts = mp3::measure(&[&tag, &FRAME[..]].concat()[..]).expect("a frame stands behind the tag");
    assert_eq!(facts.frames, 1);
}

/// The names of the tag's frames. Their sizes, by ID3v2.4's structure, fill it.
fn frames(tag: &[u8]) -> Vec<[u8; 4]> {
    assert_eq!(tag[..5], *b"ID3\x04\0");
    assert_eq!(tag[5], 0, "no flags");
    assert_eq!(synchsafe(&tag[6..10]), tag.len() - 10);
    let (mut names, mut rest) = (Vec::new(), &tag[10..]);
    while let Some((name, behind)) = rest.split_first_chunk::<4>() {
        assert!(name.iter().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()), "{name:x?}");
        let size = synchsafe(&behind[..4]);
        assert!(size > 0);
        names.push(*name);
        rest = &behind[6 + size..];
    }
    assert!(rest.is_empty());
    names
}

fn synchsafe(bytes: &[u8]) -> usize {
    assert!(bytes.iter().all(|byte| byte & 0x80 == 0), "{bytes:x?}");
    bytes.iter().fold(0, |size, byte| size << 7 | usize::from(*byte))
}

/// What a container and a caller say.
struct Said {
    metadata: Vec<(String, String)>,
    tags: BTreeMap<String, String>,
    title: Option<String>,
    chapters: Vec<Chapter>,
    pictures: Vec<Vec<u8>>,
}

impl Said {
    fn choose(bytes: &mut Bytes<'_>) -> Said {
        let name = |bytes: &mut Bytes<'_>| match bytes.byte() {
            known @ 0..32 => TAGS[usize::from(known) % TAGS.len()].to_owned(),
            known @ 32..64 => TAGS[usize::from(known) % TAGS.len()].to_ascii_uppercase(),
            _ => String::from_utf8_lossy(bytes.take(6)).into_owned(),
        };
        let pair = |bytes: &mut Bytes<'_>| (name(bytes), bytes.text());
        let count = |bytes: &mut Bytes<'_>| bytes.byte() % 16;
        Said {
            metadata: (0..count(bytes)).map(|_| pair(bytes)).collect(),
            tags: (0..count(bytes)).map(|_| pair(bytes)).collect(),
            title: (bytes.byte() & 1 == 1).then(|| bytes.text()),
            chapters: chapters(bytes),
            pictures: (0..bytes.byte() % 3).map(|_| picture(bytes)).collect(),
        }
    }
}

fn chapters(bytes: &mut Bytes<'_>) -> Vec<Chapter> {
    let times = bytes.choose(&[1, 1, 1, 50]);
    let mut chapters = Vec::new();
    for _ in 0..bytes.byte() % 16 {
        let (start, end) = (bytes.any_number(), bytes.any_number());
        let title = (bytes.byte() & 1 == 1).then(|| bytes.text());
        let [start, end] = [start, end].map(Duration::from_micros);
        chapters.extend(vec![Chapter { start, end, title }; times]);
    }
    chapters
}

fn picture(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let start = bytes.choose(&[&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"GIF89a", b"", b"\xff"]);
    let size = bytes.number::<3>() as usize;
    // Often about as large as there is room.
    let size = if size & 1 == 0 { size % 400_000 } else { ROOM - (size >> 1) % 1024 };
    let fill = bytes.byte();
    [start, &vec![fill; size]].concat()
}

/// Options are taken or refused; a piece that is taken is written as it is read.
fn set_options(bytes: &mut Bytes<'_>) {
    let mut options = Options::default();
    for _ in 0..bytes.byte() % 6 {
        let name = bytes.choose(&[
            "preset",
            "vbr",
            "cbr",
            "abr",
            "mono",
            "track",
            "trim",
            "loudness",
            "tag.date",
            "tag.title",
            "tag.x",
            "y",
        ]);
        let value = String::from_utf8_lossy(bytes.some()).into_owned();
        let _ = options.set(name, &value);
        assert!(!is_date(&value) || timestamp(&value).as_ref() == Some(&value));
    }
    if let Some(trim) = options.trim {
        assert_eq!(trim.to_string().parse::<Trim>().ok(), Some(trim), "{trim}");
    }
    if options.check().is_ok() {
        let format = crate::encode::Format::choose(&options, bytes.number::<3>() as u32, bytes.byte().into());
        assert!(crate::encode::RATES.contains(&format.sample_rate));
    }
}
