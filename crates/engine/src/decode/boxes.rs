//! A look at the boxes of an MP4 or QuickTime file (ISO/IEC 14496-12), for what libav's errors do not tell: cut, or encrypted? And for
//! what libav need not be told: where all the video's frames lie.

use std::io;

use super::sample_table::{self, Patch, SampleTable};
use crate::Source;

/// What the boxes say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// The index (`moov`) is there, from end to end.
    pub has_index: bool,
    /// The file ends within its index, or within that of a fragment (`moof`).
    pub index_cut: bool,
    /// There are fragments.
    pub fragmented: bool,
    /// A track's sample description is that of encrypted media.
    pub encrypted: bool,
    /// Where the names of the boxes stand that describe a video's track, beside one of sound.
    pub videos: Vec<u64>,
    /// The long tracks of sound of which libav is to see the first samples only.
    pub tables: Vec<SampleTable>,
    /// A table of the index claims more entries than the file has room for, which libav would all allocate; or a sample that is larger.
    pub overclaimed: bool,
    /// By its brand it is a picture (HEIF, AVIF), for which no index is needed.
    pub picture: bool,
}

impl Survey {
    /// What libav is to see otherwise than it is: tracks of video as free space, since it would list every frame of them in memory, 40 bytes
    /// each, for hours of it many times what the conversion needs; and the tables of long sound cut short. Of fragments libav
    /// learns one after the other, and tells tracks apart by their boxes.
    pub fn patches(&self) -> Vec<Patch> {
        if self.fragmented {
            return Vec::new();
        }
        let hidden = self.videos.iter().map(|at| Patch { at: *at, bytes: *b"free" });
        hidden.chain(self.tables.iter().flat_map(SampleTable::patches).copied()).collect()
    }

    /// The tables of this track, where libav sees only their beginning.
    pub fn table(&self, track: u32) -> Option<&SampleTable> {
        self.tables.iter().find(|table| !self.fragmented && table.track == track)
    }
}

/// A box: its name, and where that and its content lie.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub name: [u8; 4],
    pub name_at: u64,
    pub start: u64,
    pub end: u64,
}

/// No file has more boxes on one level: a day of fragments of a fifth of a second.
const MOST_BOXES: usize = 1_000_000;

/// No table has more entries: days of the shortest packets.
const MOST_ENTRIES: u32 = 100_000_000;

/// Names of the boxes on the way down to a track's sample descriptions.
const PATH: [&[u8; 4]; 6] = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"];

/// Brands of still pictures (ISO/IEC 23008-12, AVIF).
const PICTURES: [&[u8; 4]; 7] = [b"mif1", b"heic", b"heix", b"heim", b"heis", b"avif", b"mif2"];

/// Looks; of sounds of more than four times `listed` samples, libav is to see about so many.
pub(super) fn survey(source: &dyn Source, size: u64, listed: u64) -> io::Result<Survey> {
    let mut survey = Survey::default();
    children(source, 0, size, &mut |part| {
        let whole = part.end <= size;
        match &part.name {
            // libav takes the first.
            b"moov" if whole && survey.has_index => {}
            b"moov" if whole => {
                survey.has_index = true;
                look_into(source, size, part, 1, &mut survey)?;
                survey.videos = videos(source, part)?;
                if !survey.overclaimed {
                    let found = sample_table::find(source, size, part, listed)?;
                    (survey.tables, survey.overclaimed) = (found.tables, found.overclaimed);
                }
            }
            b"ftyp" => {
                let mut brand = [0; 4];
                read(source, part.start, &mut brand)?;
                survey.picture = PICTURES.contains(&&brand);
            }
            b"moof" => {
                survey.fragmented = true;
                survey.index_cut |= !whole;
            }
            b"moov" => survey.index_cut = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok(survey)
}

/// Calls `visit` for each box in `start..end`; stops quietly at what is no box.
pub(super) fn children(
    source: &dyn Source,
    mut start: u64,
    end: u64,
    visit: &mut dyn FnMut(&Header) -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..MOST_BOXES {
        let mut head = [0; 16];
        if end.saturating_sub(start) < 8 || read(source, start, &mut head)? < 8 {
            break;
        }
        let [a, b, c, d, e, f, g, h, long @ ..] = head;
        let (length, header) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (end - start, 8),
            1 => (u64::from_be_bytes(long), 16),
            short => (short.into(), 8),
        };
        let name = [e, f, g, h];
        if length < header || !name.iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == 0xa9) {
            break;
        }
        let next = start.saturating_add(length);
        visit(&Header { name, name_at: start + 4, start: start + header, end: next })?;
        start = next;
    }
    Ok(())
}

fn look_into(
    source: &dyn Source,
    size: u64,
    part: &Header,
    depth: usize,
    survey: &mut Survey,
) -> io::Result<()> {
    match PATH.get(depth) {
        Some(next) => children(source, part.start, part.end, &mut |child| {
            // A box may claim more than what it lies in.
            let child = Header { end: child.end.min(part.end), ..*child };
            if child.name == **next {
                look_into(source, size, &child, depth + 1, survey)?;
            }
            survey.overclaimed |= is_overclaimed(source, size, &child)?;
            Ok(())
        }),
        // `part` is stsd: version, flags and a count come before its entries, which look like boxes.
        None => children(source, part.start + 8, part.end, &mut |entry| {
            survey.encrypted |= [b"enca", b"encv", b"drms", b"drmi", b"aavd"].contains(&&entry.name);
            Ok(())
        }),
    }
}

/// Whether this is a table of samples or chunks that cannot be in a file of this size.
fn is_overclaimed(source: &dyn Source, size: u64, table: &Header) -> io::Result<bool> {
    let entry = match &table.name {
        b"stco" | b"stss" | b"stsz" => 4,
        b"stts" | b"ctts" | b"co64" => 8,
        b"stsc" => 12,
        _ => return Ok(false),
    };
    let mut head = [0; 12];
    read(source, table.start, &mut head)?;
    let [_, _, _, _, a, b, c, d, e, f, g, h] = head;
    let (first, second) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let count = match (&table.name, first) {
        (b"stsz", 0) => second,
        (b"stsz", _) => 0, // All samples have this size, and there is no table.
        (_, count) => count,
    };
    Ok(count > MOST_ENTRIES || u64::from(count) * entry > size.saturating_sub(table.start))
}

/// Where the names of the tracks of video stand, if there is one of sound, too. One that names a track of chapters stays: that track may be
/// named by no other.
fn videos(source: &dyn Source, moov: &Header) -> io::Result<Vec<u64>> {
    let (mut videos, mut has_sound) = (Vec::new(), false);
    let within = |outer: &Header, inner: &Header| inner.end.min(outer.end);
    children(source, moov.start, moov.end, &mut |trak| {
        if &trak.name != b"trak" {
            return Ok(());
        }
        let (mut is_video, mut names_chapters) = (false, false);
        children(source, trak.start, within(moov, trak), &mut |part| match &part.name {
            b"mdia" => children(source, part.start, within(trak, part), &mut |hdlr| {
                // Version, flags and QuickTime's component type come before what kind of track it is.
                let mut kind = [0; 12];
                if &hdlr.name == b"hdlr" && read(source, hdlr.start, &mut kind)? == kind.len() {
                    is_video |= &kind[8..] == b"vide";
                    has_sound |= &kind[8..] == b"soun";
                }
                Ok(())
            }),
            b"tref" => children(source, part.start, within(trak, part), &mut |reference| {
                names_chapters |= &reference.name == b"chap";
                Ok(())
            }),
            _ => Ok(()),
        })?;
        if is_video && !names_chapters {
            videos.push(trak.name_at);
        }
        Ok(())
    })?;
    Ok(if has_sound { videos } else { Vec::new() })
}

/// Fills `buf` as far as the source goes.
pub(super) fn read(source: &dyn Source, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match source.read_at(offset + filled as u64, &mut buf[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(name: &str, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 8).unwrap();
        [&length.to_be_bytes()[..], name.as_bytes(), content].concat()
    }

    fn look(file: &[u8]) -> Survey {
        survey(&file, file.len() as u64, 16).unwrap()
    }

    #[test]
    fn an_encrypted_track_is_seen_deep_in_the_index() {
        let stsd = [&[0; 8][..], &atom("enca", &[0; 20])].concat();
        let deep = ["stsd", "stbl", "minf", "mdia", "trak", "moov"]
            .iter()
            .fold(stsd, |inner, name| atom(name, &inner));
        assert_eq!(look(&deep), Survey { has_index: true, encrypted: true, ..Survey::default() });
        assert!(!look(&atom("moov", &atom("enca", b""))).encrypted);
    }

    #[test]
    fn the_tracks_of_video_are_found_beside_sound() {
        let track = |kind: &str| {
            let hdlr = [&[0; 8][..], kind.as_bytes(), &[0; 12]].concat();
            atom("trak", &[atom("tkhd", &[0; 84]), atom("mdia", &atom("hdlr", &hdlr))].concat())
        };
        let [video, sound, text] = ["vide", "soun", "text"].map(track);
        let moov = |tracks: &[&[u8]]| look(&atom("moov", &tracks.concat()));
        let long = video.len() as u64;
        let hdlr = atom("mdia", &atom("hdlr", &[&[0; 8][..], b"vide", &[0; 12]].concat()));
        let chaptered = atom("trak", &[hdlr, atom("tref", &atom("chap", &[0, 0, 0, 3]))].concat());
        assert_eq!(moov(&[&chaptered, &sound]).videos, [0; 0], "its chapters would not be found");
        assert_eq!(moov(&[&video, &sound, &text, &video]).videos, [12, 12 + 2 * long + text.len() as u64]);
        assert_eq!(moov(&[&video, &text]).videos, [0; 0], "nothing but video is left as it is");
        let mut survey = Survey { videos: vec![12], ..Survey::default() };
        assert_eq!(survey.patches(), [Patch { at: 12, bytes: *b"free" }]);
        survey.fragmented = true;
        assert_eq!(survey.patches(), []);
    }

    #[test]
    fn a_cut_index_is_seen_and_a_long_mdat_is_not_one() {
        let moov = atom("moov", &[0; 100]);
        assert!(look(&moov[..50]).index_cut);
        let fragment = [moov.clone(), atom("moof", &[0; 100])[..50].to_vec()].concat();
        assert_eq!(
            look(&fragment),
            Survey { has_index: true, index_cut: true, fragmented: true, ..Survey::default() }
        );
        let mdat = [moov, atom("mdat", &[0; 100])[..50].to_vec()].concat();
        assert_eq!(look(&mdat), Survey { has_index: true, ..Survey::default() });
    }

    /// Empty boxes without end, read for a while.
    struct Boxes(std::cell::Cell<u32>);

    impl Source for Boxes {
        fn len(&self) -> io::Result<u64> {
            Ok(1 << 50)
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            assert_eq!(offset % 8, 0, "a box begins here");
            self.0.set(self.0.get() + 1);
            buffer
                .iter_mut()
                .zip(b"\0\0\0\x08free".iter().cycle())
                .for_each(|(byte, of_box)| *byte = *of_box);
            if self.0.get() > 3_000_000 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(buffer.len()) }
        }
    }

    #[test]
    fn boxes_without_end_are_walked_no_further_than_any_file_has_them() {
        let boxes = Boxes(std::cell::Cell::new(0));
        assert_eq!(survey(&boxes, boxes.len().unwrap(), 16).unwrap(), Survey::default());
        assert!(boxes.0.get() >= 1_000_000, "a day of fragments is walked to its end");
    }

    #[test]
    fn a_box_larger_than_what_it_lies_in_is_read_no_further() {
        let mut trak = b"\0\0\0\x01trak\xff\xff\xff\xff\xff\xff\xff\xf0".to_vec();
        trak.extend(b"\0\0\0\x01mdia\x7f\xff\xff\xff\xff\xff\xff\xf0");
        let moov = atom("moov", &trak);
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &moov, 0).unwrap();
        assert!(!survey(&file, moov.len() as u64, 16).unwrap().encrypted);
    }

    #[test]
    fn a_table_that_claims_more_than_the_file_has_is_seen() {
        let index = |table: Vec<u8>| {
            ["stbl", "minf", "mdia", "trak", "moov"].iter().fold(table, |inner, name| atom(name, &inner))
        };
        let table = |name: &str, numbers: &[u32]| {
            let content: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
            look(&index(atom(name, &content))).overclaimed
        };
        assert!(
            !table("stts", &[0, 1, 2, 3]) && !table("stco", &[0, 2, 8, 9]) && !table("stsz", &[0, 0, 1, 7])
        );
        assert!(
            table("stts", &[0, 1 << 27, 2, 3]) && table("stco", &[0, u32::MAX]) && table("stsz", &[0, 0, 99])
        );
        assert!(!table("stsz", &[0, 4, u32::MAX]), "samples of one size need no table");
        assert!(!table("abcd", &[0, u32::MAX]));
    }

    #[test]
    fn a_picture_is_known_by_its_brand() {
        assert!(look(&atom("ftyp", b"heic\0\0\0\0mif1heic")).picture);
        assert!(!look(&atom("ftyp", b"isom\0\0\0\0mif1")).picture);
    }

    #[test]
    fn what_is_no_box_ends_the_walk() {
        assert_eq!(look(b"\0\0\0\x01moov\0\0\0\0\0\0\0\0"), Survey::default());
        assert_eq!(look(&[0xff; 64]), Survey::default());
        assert_eq!(look(b""), Survey::default());
    }
}
