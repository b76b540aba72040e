//! A look at the boxes of an MP4 or QuickTime file (ISO/IEC 14496-12), for what libav's errors do not tell: cut, or encrypted?

use std::io;

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
}

/// A box: its name, and where its content lies.
struct Header {
    name: [u8; 4],
    start: u64,
    end: u64,
}

/// No file has more boxes on one level: a day of fragments of a fifth of a second.
const MOST_BOXES: usize = 1_000_000;

/// Names of the boxes on the way down to a track's sample descriptions.
const PATH: [&[u8; 4]; 6] = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"];

pub(super) fn survey(source: &dyn Source, size: u64) -> io::Result<Survey> {
    let mut survey = Survey::default();
    children(source, 0, size, &mut |part| {
        let whole = part.end <= size;
        match &part.name {
            b"moov" if whole => {
                survey.has_index = true;
                survey.encrypted |= has_encrypted_track(source, part, 1)?;
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
fn children(
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
        visit(&Header { name, start: start + header, end: next })?;
        start = next;
    }
    Ok(())
}

fn has_encrypted_track(source: &dyn Source, part: &Header, depth: usize) -> io::Result<bool> {
    let mut found = false;
    match PATH.get(depth) {
        Some(next) => children(source, part.start, part.end, &mut |child| {
            if child.name == **next {
                let end = child.end.min(part.end); // A box may claim more than what it lies in.
                found |= has_encrypted_track(source, &Header { end, ..*child }, depth + 1)?;
            }
            Ok(())
        })?,
        // `part` is stsd: version, flags and a count come before its entries, which look like boxes.
        None => children(source, part.start + 8, part.end, &mut |entry| {
            found |= [b"enca", b"encv", b"drms", b"drmi", b"aavd"].contains(&&entry.name);
            Ok(())
        })?,
    }
    Ok(found)
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
        survey(&file, file.len() as u64).unwrap()
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
    fn a_cut_index_is_seen_and_a_long_mdat_is_not_one() {
        let moov = atom("moov", &[0; 100]);
        assert!(look(&moov[..50]).index_cut);
        let fragment = [moov.clone(), atom("moof", &[0; 100])[..50].to_vec()].concat();
        assert_eq!(
            look(&fragment),
            Survey { has_index: true, index_cut: true, fragmented: true, encrypted: false }
        );
        let mdat = [moov, atom("mdat", &[0; 100])[..50].to_vec()].concat();
        assert_eq!(look(&mdat), Survey { has_index: true, ..Survey::default() });
    }

    #[test]
    fn a_box_larger_than_what_it_lies_in_is_read_no_further() {
        let mut trak = b"\0\0\0\x01trak\xff\xff\xff\xff\xff\xff\xff\xf0".to_vec();
        trak.extend(b"\0\0\0\x01mdia\x7f\xff\xff\xff\xff\xff\xff\xf0");
        let moov = atom("moov", &trak);
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &moov, 0).unwrap();
        assert!(!survey(&file, moov.len() as u64).unwrap().encrypted);
    }

    #[test]
    fn what_is_no_box_ends_the_walk() {
        assert_eq!(look(b"\0\0\0\x01moov\0\0\0\0\0\0\0\0"), Survey::default());
        assert_eq!(look(&[0xff; 64]), Survey::default());
        assert_eq!(look(b""), Survey::default());
    }
}
