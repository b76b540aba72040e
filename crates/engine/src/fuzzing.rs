//! What the fuzz targets call: each takes any bytes, and panics where what it promises does not hold.
//!
//! Only there under `cfg(fuzzing)`, which `cargo xtask fuzz` sets, and in the engine's own tests, which replay the corpus in
//! `fuzz/corpus`. What is promised stands where the target is defined, next to the code that it tries.

use crate::{decode, encode, mp3, process};

/// A target: its name, which its program and its folder in the corpus have, too, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 5] =
    [("mp3", mp3), ("merge", merge), ("boxes", boxes), ("tags", tags), ("control", control)];

/// Any bytes as an MP3, and as one that is to be copied.
pub fn mp3(bytes: &[u8]) {
    mp3::fuzzing::walk(bytes);
    mp3::fuzzing::repack(bytes);
    mp3::fuzzing::copy(bytes);
}

/// Any neighbours' frames, joined.
pub fn merge(bytes: &[u8]) {
    let _ = encode::merge_any(&mut Bytes(bytes));
}

/// Any bytes as a video, for our own readers of containers.
pub fn boxes(bytes: &[u8]) {
    decode::fuzzing::read_any(&mut Bytes(bytes));
}

/// Any words, chapters and pictures as a tag.
pub fn tags(bytes: &[u8]) {
    encode::tag_any(&mut Bytes(bytes));
}

/// Any bytes from the other end, for parent and child.
pub fn control(bytes: &[u8]) {
    process::fuzzing::hear_any(&mut Bytes(bytes));
}

/// Bytes to make choices by; behind their end come zeros.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    /// Of `SIZE` bytes, the lowest first.
    pub fn number<const SIZE: usize>(&mut self) -> u64 {
        self.take(SIZE).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Any number, the small ones and the largest more often than others.
    pub fn any_number(&mut self) -> u64 {
        match self.byte() % 5 {
            0 => self.number::<1>(),
            1 => self.number::<2>(),
            2 => self.number::<4>(),
            3 => self.number::<8>(),
            _ => u64::MAX - self.number::<1>(),
        }
    }

    /// One of these.
    pub fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// As many as there are, at most `most`.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As many as two bytes before them say.
    pub fn some(&mut self) -> &'a [u8] {
        let most = self.number::<2>() as usize;
        self.take(most)
    }

    /// Text that may hold anything, and be long.
    pub fn text(&mut self) -> String {
        let times = self.choose(&[1, 1, 1, 1, 1, 1, 3, 200]);
        String::from_utf8_lossy(self.some()).repeat(times)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// All that the fuzzers have found worth keeping for a target: not nothing, and not too much.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let inputs: Vec<_> = files.map(|file| std::fs::read(file).unwrap()).collect();
        let bytes: usize = inputs.iter().map(Vec::len).sum();
        assert!(!inputs.is_empty(), "there is nothing in {}", folder.display());
        assert!(
            inputs.len() <= 100 && bytes <= 200_000,
            "{} files, {bytes} bytes: minimise it",
            inputs.len()
        );
        inputs
    }

    fn replay(target: &str) {
        let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
        corpus(target).iter().for_each(|input| run(input));
    }

    #[test]
    fn every_mp3_of_the_corpus_is_taken_as_promised() {
        replay("mp3");
    }

    #[test]
    fn all_neighbours_of_the_corpus_are_joined_as_promised_in_every_way() {
        let joins: Vec<_> =
            corpus("merge").iter().map(|input| encode::merge_any(&mut Bytes(input))).collect();
        assert!(joins.iter().any(|joins| joins.exact > 0), "{joins:?}");
        assert!(joins.iter().any(|joins| joins.fitting > 0), "{joins:?}");
        assert!(joins.iter().any(|joins| joins.bridged > 0), "{joins:?}");
    }

    #[test]
    fn every_video_of_the_corpus_is_looked_at_as_promised() {
        replay("boxes");
    }

    #[test]
    fn every_tag_of_the_corpus_is_as_promised() {
        replay("tags");
    }

    #[test]
    fn every_other_end_of_the_corpus_is_heard_as_promised() {
        replay("control");
    }

    #[test]
    fn every_target_has_a_folder_and_every_folder_a_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut folders: Vec<_> = folders.map(|name| name.into_string().unwrap()).collect();
        let mut targets = TARGETS.map(|(name, _)| name);
        folders.sort();
        targets.sort_unstable();
        assert_eq!(folders, targets);
    }
}
