//! Fuzzing of our own readers of containers, and of what is made of what they find.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use super::length::{self, Length};
use super::{boxes, chapters, claims, reader};
use crate::Source;
use crate::fuzzing::Bytes;

/// What a walk may read beside the boxes: 10,000 RIFFs, and the heads of everything else.
const READ: u64 = 10_000 * 12 + 4 * 64 * 1024;

/// Names of containers as libav has them.
const FORMATS: [&str; 6] = ["avi", "wav", "asf", "matroska,webm", "ogg", "mov,mp4"];

/// A video of any size, of which only the head and the tail are not zeros; it is read in pieces, and perhaps fails.
struct Video<'a> {
    head: Vec<u8>,
    tail: &'a [u8],
    size: u64,
    /// The longest piece.
    piece: usize,
    /// Reads until it fails.
    left: Cell<u64>,
    read: Cell<u64>,
    /// And in long reads, which only tables need.
    of_tables: Cell<u64>,
}

/// A longer read is of a table.
const HEAD: usize = 64;

/// So much of tables is read, then it fails: they may well be as large as the video says that it is.
const TABLES: u64 = 1 << 20;

impl Source for Video<'_> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let gone = || io::Error::other("it is gone");
        self.left.set(self.left.get().checked_sub(1).ok_or_else(gone)?);
        if buf.len() > HEAD {
            self.of_tables.set(self.of_tables.get() + buf.len() as u64);
            if self.of_tables.get() > TABLES {
                self.left.set(0);
                return Err(gone());
            }
        }
        let there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = buf.len().min(self.piece).min(there);
        for (byte, at) in buf[..n].iter_mut().zip(offset..) {
            let in_tail = (self.size - 1 - at) as usize;
            let head = usize::try_from(at).ok().and_then(|at| self.head.get(at));
            let tail = self.tail.len().checked_sub(in_tail.saturating_add(1)).map(|at| self.tail[at]);
            *byte = head.copied().or(tail).unwrap_or(0);
        }
        self.read.set(self.read.get() + if buf.len() > HEAD { 0 } else { n as u64 });
        Ok(n)
    }
}

impl<'a> Video<'a> {
    fn choose(bytes: &mut Bytes<'a>) -> Video<'a> {
        let choice = bytes.byte();
        let size = (choice & 1 == 1).then(|| bytes.any_number());
        let piece = bytes.choose(&[usize::MAX, usize::MAX, 1, 7]);
        let left = bytes.choose(&[u64::MAX, u64::MAX, u64::MAX, 3]);
        let tail = if size.is_some() { bytes.some() } else { &[] };
        let head = match choice >> 1 & 3 {
            0 | 1 => build(bytes, 0),
            2 => track(bytes),
            _ => bytes.rest().to_vec(),
        };
        let size = size.unwrap_or(head.len() as u64);
        Video { head, tail, size, piece, left: Cell::new(left), read: Cell::new(0), of_tables: Cell::new(0) }
    }
}

/// Boxes in boxes, of sizes that are true or not.
fn build(bytes: &mut Bytes<'_>, depth: usize) -> Vec<u8> {
    const NAMES: [&[u8; 4]; 9] =
        [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"enca", b"moof", b"mdat"];
    let mut boxes = if depth == 6 { bytes.take(8).to_vec() } else { Vec::new() };
    for _ in 0..bytes.byte() % 8 {
        // Mostly the one that leads on.
        let choice = bytes.byte();
        let name = NAMES[if choice & 3 > 0 { depth } else { usize::from(choice >> 2) % NAMES.len() }];
        let within = if depth < 7 { build(bytes, depth + 1) } else { Vec::new() };
        let length = within.len() + 8;
        let (short, long) = match bytes.byte() % 8 {
            0 => (0, None),
            1 => (1, Some(length as u64 + 8)),
            2 => (1, Some(bytes.any_number())),
            3 => (bytes.any_number() as u32, None),
            _ => (length as u32, None),
        };
        boxes.extend(short.to_be_bytes());
        boxes.extend(name);
        boxes.extend(long.iter().flat_map(|long| long.to_be_bytes()));
        boxes.extend(within);
    }
    boxes
}

/// A plain track of sound as a box, some of whose numbers are any.
fn track(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let list = |name: &[u8; 4], words: &[u32]| {
        boxed(name, &words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>())
    };
    let mut any = |usual: u32| if bytes.byte().is_multiple_of(8) { bytes.any_number() as u32 } else { usual };
    let (samples, chunks, times) = (any(20).min(300), any(5).min(300), any(1).min(300));
    let per_chunk = any(samples / chunks.max(1));
    let sizes: Vec<_> = (0..samples).map(|_| any(7)).collect();
    let offsets: Vec<_> = (0..chunks).map(|chunk| any(8 + 28 * chunk)).collect();
    let durations: Vec<_> = (0..times).flat_map(|_| [any(samples / times.max(1)), any(1024)]).collect();
    let [first, description, count] = [any(1), any(1), any(1)];
    let runs = [first, per_chunk, description, any(2), any(per_chunk), any(1)];
    let runs = &runs[..if count == 1 { 3 } else { 6 }];
    let stbl = [
        list(b"stsd", &[0, any(1), 16, u32::from_be_bytes(*b"mp4a"), 0, 0]),
        list(b"stts", &[&[0, any(times)], &durations[..]].concat()),
        list(b"stsc", &[&[0, any(runs.len() as u32 / 3)], runs].concat()),
        list(b"stsz", &[&[0, any(0), any(samples)], &sizes[..]].concat()),
        list(b"stco", &[&[0, any(chunks)], &offsets[..]].concat()),
    ];
    let here = list(b"dref", &[0, any(1), 12, u32::from_be_bytes(*b"url "), any(1)]);
    let minf = [boxed(b"dinf", &here), boxed(b"stbl", &stbl.concat())].concat();
    let mdia = [
        list(b"mdhd", &[any(0), 0, 0, any(1024), 0, 0]),
        list(b"hdlr", &[0, 0, u32::from_be_bytes(*b"soun"), 0, 0]),
        boxed(b"minf", &minf),
    ];
    let edits = list(b"elst", &[0, any(1), any(900), any(0), any(0x1_0000)]);
    let head = list(b"tkhd", &[any(0), 0, 0, any(1), 0, 0]);
    let trak = [head, boxed(b"edts", &edits), boxed(b"mdia", &mdia.concat())].concat();
    let movie = list(b"mvhd", &[any(0), 0, 0, any(1000), 0, 0]);
    boxed(b"moov", &[movie, boxed(b"trak", &trak)].concat())
}

fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = content.len() as u32 + 8;
    [&length.to_be_bytes()[..], name, content].concat()
}

/// What of a track's tables libav is shown lies in them, and they tell as many samples as they have, one after the other in time.
fn go_through(survey: &boxes::Survey, video: &Video<'_>) {
    for table in &survey.tables {
        for patch in table.patches() {
            assert!(patch.at + 4 <= video.size, "{patch:?} behind the end");
            let mut bytes = *b"????";
            patch.apply(&mut bytes[1..3], patch.at + 1);
            assert_eq!(bytes[1..3], patch.bytes[1..3]);
        }
        let (Ok(unlisted), mut samples) = (table.unlisted(video), table.samples(video)) else { continue };
        let (mut all, mut last) = (Vec::new(), Duration::ZERO);
        while let Ok(Some(sample)) = samples.next() {
            assert!(last <= sample.time, "{sample:?} before {last:?}");
            last = sample.time;
            all.push(sample);
        }
        assert!(all.len() as u64 <= video.size / 4, "{} samples in {} bytes", all.len(), video.size);
        let (mut unlisted, mut rest) = (unlisted, Vec::new());
        while let Ok(Some(sample)) = unlisted.next() {
            rest.push(sample);
        }
        assert!(video.left.get() == 0 || all.ends_with(&rest), "{} of {}", rest.len(), all.len());
    }
}

/// The readers end, and have read no more than what is there asks for; what they find is taken by what uses it.
pub(crate) fn read_any(bytes: &mut Bytes<'_>) {
    repair(bytes.take(40));
    divide(bytes);
    let format = bytes.choose(&FORMATS);
    let [converted, claim] = [bytes.any_number(), bytes.any_number()].map(Duration::from_micros);
    let video = Video::choose(bytes);
    let there = (video.head.len() + video.tail.len()) as u64;
    let survey = boxes::survey(&video, video.size, 2);
    // No byte is in two headers, and behind what is in each box one more is looked for; for the tracks' kinds all is walked again, and
    // for their tables; what a table or `hdlr` begins with is read, too, and tables thrice.
    assert!(
        video.read.get() <= (there / 8 + 4) * (3 * 32 + 12 + 12 + 3 * 8),
        "{} of {there} bytes",
        video.read.get()
    );
    video.read.set(0);

    let dropped = claims::dropped(format, &video).unwrap_or_default();
    let length = Length::Claimed(dropped.unwrap_or(claim));
    if let Ok(end) = claims::end(format, &video, video.size) {
        let _ = length::refuse_short(converted, &length, end, video.size);
    }
    if let Ok(last) = claims::last_flv_tag(&video, video.size) {
        let _ = length::reaches_end(last, &length);
    }
    let _ = length::refuse_cut(converted, &length, video.size.cast_signed(), video.size);
    let _ = claims::ogg_has_video(&video);
    assert!(video.read.get() <= READ, "{} bytes", video.read.get());
    if let Ok(survey) = survey {
        assert!(!survey.encrypted || survey.has_index);
        go_through(&survey, &video);
    }
}

/// Text of any bytes is text, and for a line without anything that moves a cursor.
fn repair(bytes: &[u8]) {
    let mut raw = bytes.to_vec();
    raw.push(0);
    let raw: Vec<_> = raw.into_iter().map(u8::cast_signed).collect();
    // SAFETY: it ends in NUL.
    let text = unsafe { reader::text(raw.as_ptr()) };
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    assert_eq!(text.is_empty(), end == 0);
    let line = reader::cut_text(&raw);
    assert!(line == line.trim() && !line.chars().any(char::is_control), "{line:?}");
    assert!(line.len() <= 3 * bytes.len());
}

/// Chapters lie within the piece where it was cut, and have a length.
fn divide(bytes: &mut Bytes<'_>) {
    let time = |bytes: &mut Bytes<'_>| Duration::from_micros(bytes.any_number());
    let found: Vec<_> = (0..bytes.byte() % 8)
        .map(|_| {
            let (start, has_end) = (time(bytes), bytes.byte() & 1 == 1);
            (start, has_end.then(|| time(bytes)), None)
        })
        .collect();
    let (count, start, end) = (found.len(), time(bytes), time(bytes));
    let cut = (bytes.byte() & 1 == 1).then_some(end);
    let within = chapters::within(found, start..end, cut);
    assert!(within.len() <= count && within.iter().all(|chapter| chapter.start < chapter.end));
    if let Some(cut) = cut {
        assert!(within.iter().all(|chapter| chapter.end <= cut.saturating_sub(start)));
    }
}
