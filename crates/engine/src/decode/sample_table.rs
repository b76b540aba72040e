//! The sample tables of a long MP4's sound (ISO/IEC 14496-12, 8.5 to 8.7), read piece by piece while they are needed.
//!
//! libav lists all samples of a track in memory, 24 bytes each, and where there is an edit list twice: for hours of sound that is more than
//! all the rest of a conversion takes. So of such a track libav is shown the first samples alone, and from these it does what it always
//! does: edit list, priming, the decoder's settings. Behind them there is nothing but sample after sample, which [`Samples`] tells.
//!
//! What is unusual in any way (another table, several descriptions, an edit list of several pieces) is left to libav as it is.

mod find;

use std::io;
use std::time::Duration;

use super::boxes::read;
use crate::Source;

pub(super) use find::find;

/// Bytes of the index that libav is to see instead of those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub at: u64,
    pub bytes: [u8; 4],
}

impl Patch {
    /// Writes itself over what of `bytes`, which were read at `offset`, lies where it does.
    pub fn apply(&self, bytes: &mut [u8], offset: u64) {
        for (at, new) in (self.at..).zip(self.bytes) {
            let place = at.checked_sub(offset).and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
                *byte = new;
            }
        }
    }
}

/// Where a track's tables lie, and what of them libav is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampleTable {
    /// The track's number, of `tkhd`.
    pub track: u32,
    /// `stts`: so many samples, of this duration.
    times: Table,
    /// `stsc`: from this chunk on, so many samples in each, of this description.
    runs: Table,
    /// `stco` or `co64`.
    offsets: Table,
    /// `stsz`.
    sizes: Table,
    /// Units of time in a second.
    timescale: u32,
    /// What the edit list leaves of the sound, in these units.
    start: u64,
    end: u64,
    /// So many samples libav is shown, and how.
    listed: u64,
    patches: Vec<Patch>,
}

/// A piece of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub position: u64,
    pub size: u32,
    /// Since the sound began; zero for what comes before.
    pub time: Duration,
}

impl SampleTable {
    /// What libav is to see for it to know the first samples only.
    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// All samples, from the first on.
    pub fn samples<'s>(&self, source: &'s dyn Source) -> Samples<'s> {
        Samples {
            times: Entries::new(source, self.times),
            runs: Entries::new(source, self.runs),
            offsets: Entries::new(source, self.offsets),
            sizes: Entries::new(source, self.sizes),
            timescale: self.timescale,
            start: self.start,
            end: self.end,
            run: None,
            chunk: 0,
            left_in_chunk: 0,
            per_chunk: 0,
            position: 0,
            left_of_duration: 0,
            duration: 0,
            time: 0,
        }
    }

    /// The samples that libav does not know.
    pub fn unlisted<'s>(&self, source: &'s dyn Source) -> io::Result<Samples<'s>> {
        let mut samples = self.samples(source);
        for _ in 0..self.listed {
            samples.next()?;
        }
        Ok(samples)
    }
}

/// A table of a box: where its first entry is, how many bytes each has, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Table {
    start: u64,
    entry: u64,
    count: u64,
}

/// So many entries are read at a time.
const AT_ONCE: u64 = 4096;

/// The entries of a table, one after another.
struct Entries<'s> {
    source: &'s dyn Source,
    table: Table,
    next: u64,
    /// What was read, and where in it the next entry is.
    bytes: Vec<u8>,
    at: usize,
}

impl<'s> Entries<'s> {
    fn new(source: &'s dyn Source, table: Table) -> Entries<'s> {
        Entries { source, table, next: 0, bytes: Vec::new(), at: 0 }
    }

    /// The next entry, word by word; `None` behind the last.
    fn next(&mut self) -> io::Result<Option<[u32; 3]>> {
        let Table { start, entry, count } = self.table;
        if self.next == count {
            return Ok(None);
        }
        if self.at == self.bytes.len() {
            let entries = AT_ONCE.min(count - self.next);
            self.bytes.resize((entries * entry) as usize, 0);
            self.at = 0;
            if read(self.source, start + self.next * entry, &mut self.bytes)? < self.bytes.len() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the index of the video is gone"));
            }
        }
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(self.bytes[self.at..][..entry as usize].chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        self.next += 1;
        self.at += entry as usize;
        Ok(Some(words))
    }
}

/// Goes through the samples of a track.
pub(super) struct Samples<'s> {
    times: Entries<'s>,
    runs: Entries<'s>,
    offsets: Entries<'s>,
    sizes: Entries<'s>,
    timescale: u32,
    start: u64,
    end: u64,
    /// The run of chunks that comes next: its first chunk, and the samples in each.
    run: Option<(u64, u64)>,
    /// This one's number, from 1 on.
    chunk: u64,
    left_in_chunk: u64,
    per_chunk: u64,
    /// Where the next sample lies, and when it is.
    position: u64,
    left_of_duration: u64,
    duration: u64,
    time: u64,
}

impl Samples<'_> {
    /// The next sample, `None` behind the last that is heard.
    pub fn next(&mut self) -> io::Result<Option<Sample>> {
        if self.time >= self.end {
            return Ok(None);
        }
        let Some([size, ..]) = self.sizes.next()? else { return Ok(None) };
        while self.left_in_chunk == 0 {
            if !self.next_chunk()? {
                return Ok(None);
            }
        }
        while self.left_of_duration == 0 {
            let Some([count, duration, _]) = self.times.next()? else { return Ok(None) };
            (self.left_of_duration, self.duration) = (count.into(), duration.into());
        }
        let time = seconds(self.time.saturating_sub(self.start), self.timescale);
        let sample = Sample { position: self.position, size, time };
        self.left_in_chunk -= 1;
        self.position = self.position.saturating_add(size.into());
        self.left_of_duration -= 1;
        self.time = self.time.saturating_add(self.duration);
        Ok(Some(sample))
    }

    fn next_chunk(&mut self) -> io::Result<bool> {
        if self.chunk == 0 {
            self.next_run()?;
        }
        self.chunk += 1;
        if let Some((_, per_chunk)) = self.run.filter(|(first, _)| *first == self.chunk) {
            self.per_chunk = per_chunk;
            self.next_run()?;
        }
        let Some([high, low, _]) = self.offsets.next()? else { return Ok(false) };
        self.position = match self.offsets.table.entry {
            4 => high.into(),
            _ => u64::from(high) << 32 | u64::from(low),
        };
        self.left_in_chunk = self.per_chunk;
        Ok(true)
    }

    fn next_run(&mut self) -> io::Result<()> {
        self.run = self.runs.next()?.map(|[first, per_chunk, _]| (first.into(), per_chunk.into()));
        Ok(())
    }
}

fn seconds(time: u64, timescale: u32) -> Duration {
    let nanos = u128::from(time) * 1_000_000_000 / u128::from(timescale.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
