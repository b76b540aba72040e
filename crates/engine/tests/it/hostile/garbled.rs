//! Every file that FFmpeg makes for these tests, cut and garbled.

use tempfile::TempDir;

use super::super::against_ffmpeg::{CASES, all, made};
use super::{Random, verdict};

/// What may be said of a file that is cut somewhere.
const OF_CUT: [&str; 5] = ["not-media", "no-audio", "unsupported-codec", "truncated", "corrupt"];

/// What may be said of a file with wrong bytes, which may make it look longer, or encrypted.
const OF_GARBLED: [&str; 7] =
    ["not-media", "no-audio", "unsupported-codec", "truncated", "corrupt", "encrypted", "too-long"];

#[test]
fn each_made_file_cut_or_garbled_is_refused_or_converts() {
    let folder = TempDir::new().unwrap();
    all(CASES, |case| {
        let path = made(&folder, case);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let mut random = Random(whole.len() as u64);
        let mut row = format!("{:20}", case.name);
        let mut hear = |what: &str, bytes: &[u8], codes: &[&str]| {
            let found = verdict(&format!("{} {what}", case.name), bytes);
            assert!(found.starts_with("mp3 ") || codes.contains(&&*found), "{} {what}: {found}", case.name);
            row += &format!("  {what}: {found:18}");
        };
        let reach = whole.len().min(3000);
        hear("head", &whole[..1 + random.next() % reach.min(800)], &OF_CUT);
        hear("cut", &whole[..1 + random.next() % (whole.len() - 1)], &OF_CUT);
        let mut garbled = |flips: usize, reach: usize| {
            let mut bytes = whole.clone();
            (0..flips).for_each(|_| bytes[random.next() % reach] = random.next() as u8);
            bytes
        };
        hear("garbled head", &garbled(12, reach), &OF_GARBLED);
        hear("garbled", &garbled(40, whole.len()), &OF_GARBLED);
        row
    });
}
