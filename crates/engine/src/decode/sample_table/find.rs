//! Which tracks of an MP4 are long and plain enough for their samples to be told by their tables alone.

use std::collections::BTreeMap;
use std::io;

use super::super::boxes::{Header, children, read};
use super::{Entries, Patch, SampleTable, Table};
use crate::Source;

/// What is of use of a track: each box with what it lies in.
const TREE: [(&[u8; 4], &[u8; 4]); 16] = [
    (b"trak", b"tkhd"),
    (b"trak", b"edts"),
    (b"edts", b"elst"),
    (b"trak", b"mdia"),
    (b"mdia", b"mdhd"),
    (b"mdia", b"hdlr"),
    (b"mdia", b"minf"),
    (b"minf", b"dinf"),
    (b"dinf", b"dref"),
    (b"minf", b"stbl"),
    (b"stbl", b"stsd"),
    (b"stbl", b"stts"),
    (b"stbl", b"stsc"),
    (b"stbl", b"stsz"),
    (b"stbl", b"stco"),
    (b"stbl", b"co64"),
];

/// What a sample table may hold besides free space for libav to do nothing but read sample after sample: groups matter to video, and what
/// depends on what to neither.
const PLAIN: [&[u8; 4]; 11] =
    [b"stsd", b"stts", b"stsc", b"stsz", b"stco", b"co64", b"sgpd", b"sbgp", b"sdtp", b"free", b"skip"];

/// So many times what libav is shown must be there for it to be worth while.
const WORTH: u64 = 4;

/// What the tracks of sound of a `moov` are found to be.
#[derive(Debug, Default)]
pub(in super::super) struct Found {
    /// The tables of those of AAC of more than four times as many samples as libav is to be shown.
    pub tables: Vec<SampleTable>,
    /// A sample is larger than the file. libav takes some of these for the end of the sound, and others for less than nothing.
    pub overclaimed: bool,
}

/// Looks at the tracks of sound in this `moov`; of a long one, libav is to be shown about `listed` samples.
pub(in super::super) fn find(
    source: &dyn Source,
    size: u64,
    moov: &Header,
    listed: u64,
) -> io::Result<Found> {
    let (mut timescale, mut tracks) = (0, Vec::new());
    children(source, moov.start, moov.end, &mut |part| {
        match &part.name {
            _ if part.end > moov.end => {}
            b"mvhd" => timescale = time_scale(source, part)?.unwrap_or(0),
            b"trak" => {
                let mut parts = Parts { is_plain: true, ..Parts::default() };
                parts.gather(source, part)?;
                tracks.push(parts);
            }
            _ => {}
        }
        Ok(())
    })?;
    let (mut found, mut numbers) = (Found::default(), Vec::new());
    for parts in &tracks {
        let track = Track { source, parts, movie_timescale: timescale };
        numbers.extend(track.number()?);
        if track.is_sound()? {
            found.overclaimed |= track.is_overclaimed(size)?;
            found.tables.extend(track.table(listed)?);
        }
    }
    // By its number a track is found again among libav's.
    found.tables.retain(|table| numbers.iter().filter(|number| **number == table.track).count() == 1);
    Ok(found)
}

/// The boxes of a track that are of use, by name.
#[derive(Default)]
struct Parts {
    boxes: BTreeMap<[u8; 4], Header>,
    /// None is there twice or is larger than what it lies in, and beside the tables there is nothing that matters.
    is_plain: bool,
}

impl Parts {
    fn gather(&mut self, source: &dyn Source, within: &Header) -> io::Result<()> {
        children(source, within.start, within.end, &mut |part| {
            self.is_plain &= part.end <= within.end;
            self.is_plain &= &within.name != b"stbl" || PLAIN.contains(&&part.name);
            if !TREE.contains(&(&within.name, &part.name)) {
                return Ok(());
            }
            let part = Header { end: part.end.min(within.end), ..part.clone() };
            let is_folder = TREE.iter().any(|(folder, _)| **folder == part.name);
            self.is_plain &= self.boxes.insert(part.name, part.clone()).is_none();
            if is_folder { self.gather(source, &part) } else { Ok(()) }
        })
    }
}

/// Units of time in a second, of `mvhd` or `mdhd`.
fn time_scale(source: &dyn Source, head: &Header) -> io::Result<Option<u32>> {
    let Some([version]) = words(source, head, 0)? else { return Ok(None) };
    let at = if version >> 24 == 1 { 20 } else { 12 };
    Ok(words(source, head, at)?.map(|[timescale]| timescale))
}

/// Words of a box, from here on in its content.
fn words<const N: usize>(source: &dyn Source, part: &Header, at: u64) -> io::Result<Option<[u32; N]>> {
    let start = part.start.saturating_add(at);
    if part.end.saturating_sub(start) < 4 * N as u64 {
        return Ok(None);
    }
    let mut found = [0; N];
    for (word, at) in found.iter_mut().zip((start..).step_by(4)) {
        let mut bytes = [0; 4];
        if read(source, at, &mut bytes)? < bytes.len() {
            return Ok(None);
        }
        *word = u32::from_be_bytes(bytes);
    }
    Ok(Some(found))
}

struct Track<'a> {
    source: &'a dyn Source,
    parts: &'a Parts,
    /// Units of time in a second, for the edit list.
    movie_timescale: u32,
}

impl Track<'_> {
    /// The track's tables, where they are long and plain.
    fn table(&self, listed: u64) -> io::Result<Option<SampleTable>> {
        let Some(sizes) = self.sizes()?.filter(|sizes| sizes.count / WORTH > listed) else { return Ok(None) };
        if !self.parts.is_plain || !self.is_aac()? || !self.is_in_this_file()? {
            return Ok(None);
        }
        let tables = [self.list(b"stts", 8)?, self.list(b"stsc", 12)?, self.offsets()?];
        let [Some(times), Some(runs), Some(offsets)] = tables else { return Ok(None) };
        let timescale = self.part(b"mdhd").map_or(Ok(None), |part| time_scale(self.source, part))?;
        let timescale = timescale.filter(is_timescale);
        let (Some(track), Some(timescale)) = (self.number()?, timescale) else { return Ok(None) };
        let Some((start, end)) = self.heard(timescale)? else { return Ok(None) };
        let Some(shown) = self.shown(runs, offsets, sizes, listed)? else { return Ok(None) };
        let Some(known) = self.duration(times, sizes.count, shown.samples)? else { return Ok(None) };
        // libav looks for where the sound begins, and a second before that.
        if start.saturating_add(2 * u64::from(timescale)) > known {
            return Ok(None);
        }
        let patches = shown.patches(self.parts);
        let listed = shown.samples;
        Ok(Some(SampleTable { track, times, runs, offsets, sizes, timescale, start, end, listed, patches }))
    }

    fn part(&self, name: &[u8; 4]) -> Option<&Header> {
        self.parts.boxes.get(name)
    }

    /// The track's number, of its `tkhd`.
    fn number(&self) -> io::Result<Option<u32>> {
        let Some(head) = self.part(b"tkhd") else { return Ok(None) };
        let Some([version]) = words(self.source, head, 0)? else { return Ok(None) };
        let at = if version >> 24 == 1 { 20 } else { 12 };
        let number = words(self.source, head, at)?.map(|[number]| number);
        Ok(number.filter(|number| i32::try_from(*number).is_ok()))
    }

    fn is_sound(&self) -> io::Result<bool> {
        let Some(handler) = self.part(b"hdlr") else { return Ok(false) };
        Ok(words(self.source, handler, 8)? == Some([u32::from_be_bytes(*b"soun")]))
    }

    /// One description, of MPEG-4's sound. That may be another than AAC after all.
    fn is_aac(&self) -> io::Result<bool> {
        let Some(descriptions) = self.part(b"stsd") else { return Ok(false) };
        let description = words(self.source, descriptions, 4)?;
        Ok(matches!(description, Some([1, _, name]) if name == u32::from_be_bytes(*b"mp4a")))
    }

    /// Whether a sample is larger than a file of this size.
    fn is_overclaimed(&self, size: u64) -> io::Result<bool> {
        let Some(sizes) = self.sizes()? else { return Ok(false) };
        let mut sizes = Entries::new(self.source, sizes);
        while let Some([sample, ..]) = sizes.next()? {
            if u64::from(sample) > size {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All references to where the data is say: here.
    fn is_in_this_file(&self) -> io::Result<bool> {
        const HERE: u32 = 1;
        let Some(references) = self.part(b"dref") else { return Ok(false) };
        let mut here = true;
        children(self.source, references.start + 8, references.end, &mut |entry| {
            here &= entry.end - entry.start == 4 && words(self.source, entry, 0)? == Some([HERE]);
            Ok(())
        })?;
        Ok(here)
    }

    /// A table behind a version and a count.
    fn list(&self, name: &[u8; 4], entry: u64) -> io::Result<Option<Table>> {
        let Some(part) = self.part(name) else { return Ok(None) };
        let count = words(self.source, part, 4)?;
        Ok(count.and_then(|[count]| Table::within(part, 8, entry, count)))
    }

    fn offsets(&self) -> io::Result<Option<Table>> {
        match (self.part(b"stco"), self.part(b"co64")) {
            (Some(_), None) => self.list(b"stco", 4),
            (None, Some(_)) => self.list(b"co64", 8),
            _ => Ok(None),
        }
    }

    /// The samples' sizes, where each has its own.
    fn sizes(&self) -> io::Result<Option<Table>> {
        let Some(part) = self.part(b"stsz") else { return Ok(None) };
        match words(self.source, part, 4)? {
            Some([0, count]) => Ok(Table::within(part, 12, 4, count)),
            _ => Ok(None),
        }
    }

    /// What the edit list leaves of the sound, in the track's units; `None` where it is more than one piece of it.
    fn heard(&self, timescale: u32) -> io::Result<Option<(u64, u64)>> {
        /// The edit list's word for silence, and for the usual speed.
        const EMPTY: i64 = -1;
        const AS_IT_IS: u32 = 0x1_0000;
        const MOST_EDITS: u64 = 16;
        let Some(part) = self.part(b"elst") else { return Ok(Some((0, u64::MAX))) };
        let Some([version, count]) = words(self.source, part, 0)? else { return Ok(None) };
        let is_wide = version >> 24 == 1;
        let entry = if is_wide { 20 } else { 12 };
        for number in 0..u64::from(count).min(MOST_EDITS) {
            let at = 8 + number * entry;
            let (duration, time, speed) = match is_wide {
                true => match words(self.source, part, at)? {
                    Some([a, b, c, d, speed]) => (wide(a, b), wide(c, d).cast_signed(), speed),
                    None => return Ok(None),
                },
                false => match words(self.source, part, at)? {
                    Some([duration, time, speed]) => (duration.into(), time.cast_signed().into(), speed),
                    None => return Ok(None),
                },
            };
            let is_last = number + 1 == u64::from(count);
            match u64::try_from(time) {
                Err(_) if time == EMPTY && !is_last => {}
                Ok(start) if is_last && speed == AS_IT_IS => {
                    return Ok(self
                        .scaled(duration, timescale)
                        .map(|long| (start, start.saturating_add(long))));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// A duration of the edit list in the track's units, rounded as libav rounds.
    fn scaled(&self, duration: u64, timescale: u32) -> Option<u64> {
        if !is_timescale(&self.movie_timescale) {
            return None;
        }
        let movie = u128::from(self.movie_timescale);
        let scaled = (u128::from(duration) * u128::from(timescale) + movie / 2) / movie;
        u64::try_from(scaled).ok().filter(|scaled| *scaled > 0 && i64::try_from(*scaled).is_ok())
    }

    /// The whole chunks that hold no more than so many samples, or so many samples of the first chunk; `None` where the tables do not fit
    /// each other.
    fn shown(&self, runs: Table, offsets: Table, sizes: Table, listed: u64) -> io::Result<Option<Shown>> {
        let mut shown = Shown { offsets_wide: offsets.entry == 8, ..Shown::default() };
        let (mut entries, mut total) = (Entries::new(self.source, runs), 0_u64);
        let mut run = entries.next()?;
        if !matches!(run, Some([1, ..])) {
            return Ok(None);
        }
        let mut is_full = false;
        while let Some([first, per_chunk, description]) = run {
            run = entries.next()?;
            let end = run.map_or(offsets.count + 1, |[next, ..]| u64::from(next));
            let Some(chunks) = end.checked_sub(first.into()).filter(|chunks| *chunks > 0) else {
                return Ok(None);
            };
            if per_chunk == 0 || description != 1 || end > offsets.count + 1 {
                return Ok(None);
            }
            total = total.saturating_add(chunks.saturating_mul(per_chunk.into()));
            if !is_full {
                is_full = shown.add(chunks, per_chunk.into(), listed);
            }
        }
        Ok((total == sizes.count).then_some(shown))
    }

    /// The time of so many first samples; `None` where the table is not one of all samples, or one that libav reads in a way of its own.
    fn duration(&self, times: Table, samples: u64, first: u64) -> io::Result<Option<u64>> {
        let (mut count, mut time) = (0_u64, 0_u64);
        let mut entries = Entries::new(self.source, times);
        while let Some([more, duration, _]) = entries.next()? {
            // From 1 it concludes that these are single samples of PCM; what is negative as an `i32` it mends.
            if duration <= 1 || i32::try_from(duration).is_err() {
                return Ok(None);
            }
            let counted = u64::from(more).min(first.saturating_sub(count));
            time = time.saturating_add(counted.saturating_mul(duration.into()));
            count = count.saturating_add(more.into());
        }
        Ok((count == samples).then_some(time))
    }
}

/// What of the tables libav is shown.
#[derive(Default)]
struct Shown {
    samples: u64,
    chunks: u64,
    runs: u64,
    /// Of the first chunk alone, only these samples.
    cut: bool,
    offsets_wide: bool,
}

impl Shown {
    /// Takes of these chunks as many as have room; true when there is no room for more.
    fn add(&mut self, chunks: u64, per_chunk: u64, listed: u64) -> bool {
        let room = ((listed - self.samples) / per_chunk).min(chunks);
        if room > 0 {
            self.samples += room * per_chunk;
            self.chunks += room;
            self.runs += 1;
        } else if self.chunks == 0 {
            *self = Shown { samples: listed, chunks: 1, runs: 1, cut: true, ..*self };
        }
        room < chunks
    }

    fn patches(&self, parts: &Parts) -> Vec<Patch> {
        let offsets = if self.offsets_wide { b"co64" } else { b"stco" };
        let mut numbers =
            vec![(b"stsz", 8, self.samples), (offsets, 4, self.chunks), (b"stsc", 4, self.runs)];
        if self.cut {
            numbers.push((b"stsc", 12, self.samples));
        }
        let patch = |(name, at, number): (&[u8; 4], u64, u64)| {
            let bytes = u32::try_from(number).ok()?.to_be_bytes();
            Some(Patch { at: parts.boxes.get(name)?.start + at, bytes })
        };
        numbers.into_iter().filter_map(patch).collect()
    }
}

impl Table {
    /// A table of so many entries from here on in a box; `None` where the box has no room for it.
    fn within(part: &Header, at: u64, entry: u64, count: u32) -> Option<Table> {
        let (start, count) = (part.start.checked_add(at)?, u64::from(count));
        (start.checked_add(count * entry)? <= part.end && count > 0).then_some(Table { start, entry, count })
    }
}

/// libav has its own thoughts about others.
fn is_timescale(units: &u32) -> bool {
    i32::try_from(*units).is_ok_and(|units| units > 0)
}

fn wide(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
