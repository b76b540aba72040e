//! Headers that are larger, deeper or more than they can be.

use super::super::media;
use super::{Random, assert_verdicts};

fn atom(name: &[u8], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], name, content].concat()
}

/// A box that says another size.
fn lying(name: &[u8], size: u32, content: &[u8]) -> Vec<u8> {
    [&size.to_be_bytes()[..], name, content].concat()
}

fn mp4(rest: &[Vec<u8>]) -> Vec<u8> {
    [atom(b"ftyp", b"isom\0\0\x02\0isomiso2mp41"), rest.concat()].concat()
}

/// A real MP4 in which each `name` has the number behind it, `at` bytes on, replaced.
fn sample_with(name: &[u8; 4], at: usize, number: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(media().join("mp4__sample.mp4")).unwrap();
    let places: Vec<_> =
        bytes.windows(4).enumerate().filter(|(_, window)| window == name).map(|(i, _)| i).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place + 4 + at..][..4].copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn nested(name: &[u8], depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| atom(name, &inner))
}

#[test]
fn boxes_that_lie_are_walked_no_further() {
    let mvhd = atom(b"mvhd", &[0; 100]);
    let track =
        atom(b"trak", &atom(b"mdia", &atom(b"hdlr", b"\0\0\0\0\0\0\0\0soun\0\0\0\0\0\0\0\0\0\0\0\0\0")));
    assert_verdicts(&[
        ("ftyp alone", mp4(&[]), "truncated"),
        ("an empty index", mp4(&[atom(b"moov", b"")]), "no-audio|corrupt"),
        ("an index without a track", mp4(&[atom(b"moov", &mvhd)]), "no-audio"),
        (
            "a track without a table",
            mp4(&[atom(b"moov", &[mvhd.clone(), track].concat())]),
            "unsupported-codec",
        ),
        ("two thousand levels", mp4(&[nested(b"moov", 2000)]), "corrupt|no-audio"),
        ("two thousand levels of tracks", mp4(&[atom(b"moov", &nested(b"trak", 2000))]), "corrupt|no-audio"),
        ("a size of 0", mp4(&[lying(b"moov", 0, &mvhd)]), "no-audio|corrupt"),
        ("a size of 1 without a long one", mp4(&[lying(b"moov", 1, b"")]), "truncated|corrupt"),
        (
            "a long size of nearly all",
            mp4(&[lying(b"moov", 1, &[0x7f, 255, 255, 255, 255, 255, 255, 240])]),
            "truncated|corrupt",
        ),
        ("a long size of all", mp4(&[lying(b"moov", 1, &[0xff; 8])]), "truncated|corrupt"),
        ("a size of 4 GiB", mp4(&[lying(b"moov", u32::MAX, &mvhd)]), "truncated"),
        ("half a million boxes", mp4(&[atom(b"free", b"").repeat(500_000)]), "truncated"),
        ("a hundred thousand tracks", mp4(&[atom(b"moov", &atom(b"trak", b"").repeat(100_000))]), "corrupt"),
    ]);
}

#[test]
fn tables_that_claim_billions_of_entries_are_not_allocated() {
    let tables: [(&[u8; 4], usize, &str); 6] = [
        (b"stsz", 8, "truncated|corrupt|no-audio"),
        (b"stts", 4, "truncated|corrupt|no-audio"),
        (b"stsc", 4, "truncated|corrupt|no-audio"),
        (b"stco", 4, "truncated|corrupt|no-audio"),
        (b"stsd", 4, "truncated|corrupt|no-audio"),
        (b"elst", 4, "mp3 44100 1 45056"),
    ];
    let cases: Vec<_> = tables
        .iter()
        .flat_map(|(name, at, expected)| {
            [u32::MAX, i32::MAX as u32, 1 << 27, 0].map(|number| {
                let label = format!("{} {number}", String::from_utf8_lossy(&name[..]));
                (label, sample_with(name, *at, number), *expected)
            })
        })
        .collect();
    assert_verdicts(&cases);
}

#[test]
fn other_containers_that_claim_too_much_are_refused() {
    let noise = Random(9).bytes(4000);
    let with = |head: &[u8]| [head, &noise].concat();
    let ebml = b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x88matroska\x42\x87\x81\x04\x42\x85\x81\x02";
    let flac =
        b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0a\xc4\x42\xf0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_verdicts(&[
        ("a segment of 2^56 bytes", with(&[&ebml[..], b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xfe"].concat()), "corrupt|no-audio"),
        ("tracks of 2^56 bytes", with(&[&ebml[..], b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff\x16\x54\xae\x6b\x01\xff\xff\xff\xff\xff\xff\xfe"].concat()), "corrupt|no-audio"),
        ("ten thousand levels of tags", [&ebml[..], &b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"[..], &b"\x12\x54\xc3\x67\x01\xff\xff\xff\xff\xff\xff\xff"[..], &b"\x73\x73\x01\xff\xff\xff\xff\xff\xff\xff\x67\xc8\x01\xff\xff\xff\xff\xff\xff\xff".repeat(10_000)].concat(), "corrupt|no-audio"),
        ("a picture of 16 MiB in flac", with(&[&flac[..], b"\x86\xff\xff\xff"].concat()), "corrupt|no-audio"),
        ("a flac head alone", flac.to_vec(), "no-audio|corrupt"),
        ("a tag of 256 MiB", with(b"ID3\x04\0\0\x7f\x7f\x7f\x7f"), "not-media|corrupt"),
        ("a thousand tags", b"ID3\x04\0\0\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0".repeat(1000), "not-media|corrupt"),
        ("an ogg page of lies", with(b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\xff"), "corrupt|not-media|no-audio"),
        ("an asf head of 2^63 bytes", with(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\x01\x02"), "corrupt|no-audio"),
        ("an asf object of 0 bytes", [&b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c\x40\0\0\0\0\0\0\0\x01\0\0\0\x01\x02"[..], &[0; 4000]].concat(), "corrupt|no-audio"),
        ("an aiff chunk of 4 GiB", with(b"FORM\xff\xff\xff\xffAIFFCOMM\xff\xff\xff\xff"), "corrupt|no-audio"),
        ("an avi of lists", [&b"RIFF\xff\xff\xff\x7fAVI "[..], &b"LIST\xff\xff\xff\x7fhdrl".repeat(10_000)].concat(), "corrupt|no-audio"),
        ("an au of 4 GiB", with(b".snd\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x03\0\0\x1f\x40\0\0\0\x01"), "mp3 8000 1 2000"),
        ("a caf of lies", with(b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20\x40\xe5\x88\x80\0\0\0\0lpcm\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), "corrupt|no-audio|unsupported-codec"),
        ("an flv head alone", b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec(), "not-media"),
        ("a transport stream without tables", b"\x47\x1f\xff\x10".iter().copied().chain([0xff; 184]).collect::<Vec<_>>().repeat(500), "corrupt"),
        ("a w64 of lies", with(b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0\xff\xff\xff\xff\xff\xff\xff\x7fwave\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8afmt \xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a\xff\xff\xff\xff\xff\xff\xff\x7f"), "corrupt|no-audio"),
    ]);
}
