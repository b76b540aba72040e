//! Whatever libav is shown of an MP4's samples, the packets are those that it tells when it is shown all of them.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::super::{Drops, Sound};
use super::*;
use crate::pulse::Pulse;
use crate::{Code, Error, Options};

/// 20 seconds of AAC, 861 samples of 1024, in its second half of noise as its first is.
const SOUND: [&str; 4] = ["-f", "lavfi", "-i", "anoisesrc=d=20:r=44100:a=0.3:seed=7"];
const VIDEO: [&str; 4] = ["-f", "lavfi", "-i", "color=s=64x64:r=25:d=20"];

/// Each file: what FFmpeg makes it of, and whether it is plain enough for its tables to be used.
const FILES: [(&str, &[&[&str]], bool); 12] = [
    ("sound.m4a", &[&SOUND, &["-c:a", "aac"]], true),
    ("first.mp4", &[&SOUND, &VIDEO, &["-c:a", "aac", "-movflags", "+faststart"]], true),
    ("last.mov", &[&VIDEO, &SOUND, &["-c:a", "aac"]], true),
    ("late.mp4", &[&VIDEO, &["-itsoffset", "0.7"], &SOUND, &["-c:a", "aac"]], true),
    ("begun.mp4", &[&["-ss", "0.4", "-i", "sound.m4a", "-c", "copy"]], true),
    ("two.mp4", &[&SOUND, &SOUND, &["-map", "0", "-map", "1", "-c:a", "aac"]], true),
    ("no-edits.mp4", &[&SOUND, &["-c:a", "aac", "-use_editlist", "0"]], true),
    ("mono.3gp", &[&SOUND, &["-c:a", "aac", "-ac", "1", "-ar", "16000"]], true),
    ("one-chunk.m4a", &[&SOUND, &["-c:a", "aac", "-chunk_duration", "100000000"]], true),
    ("fragments.mp4", &[&SOUND, &["-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov"]], false),
    ("ac3.mp4", &[&SOUND, &["-c:a", "ac3"]], false),
    ("mp3.mp4", &[&SOUND, &["-c:a", "libmp3lame"]], false),
];

fn made(folder: &Path, name: &str, arguments: &[&[&str]]) -> PathBuf {
    let mut ffmpeg = crate::ffmpeg_program();
    ffmpeg.current_dir(folder).args(["-nostdin", "-v", "error", "-y"]).args(arguments.concat()).arg(name);
    let run = ffmpeg.output().expect("ffmpeg is installed: cargo xtask setup");
    assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    folder.join(name)
}

type Packets = Vec<(Vec<u8>, Drops)>;

/// All packets, and whether the file's own tables told some of them.
fn packets(file: &dyn Source, listed: u64) -> Result<(Packets, bool), Error> {
    let mut go_on = |_| ControlFlow::Continue(());
    let pulse = Pulse::new(&mut go_on);
    let mut sound = Sound::open_listing(file, &pulse, &Options::default(), listed)?;
    let used = sound.reader.table().is_some();
    let mut packets = Vec::new();
    while let Some(packet) = sound.packet()? {
        packets.push((packet.bytes.to_vec(), packet.drops));
    }
    Ok((packets, used))
}

#[test]
fn the_packets_are_those_that_libav_tells() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments, is_plain) in FILES {
        let file = File::open(made(folder.path(), name, arguments)).unwrap();
        let (all, used) = packets(&file, u64::MAX).unwrap();
        assert!(!used && all.len() > 300, "{name}: {} packets", all.len());
        for listed in [97, 128, 160] {
            let (found, used) = packets(&file, listed).unwrap();
            let may_be = is_plain && all.len() as u64 > 5 * listed;
            assert!(used || !may_be, "{name}: its tables were not used for more than {listed}");
            assert!(!used || is_plain, "{name}: its tables were used");
            assert_eq!(found.len(), all.len(), "{name}, {listed} listed");
            let wrong = found.iter().zip(&all).position(|(found, all)| found != all);
            assert_eq!(wrong, None, "{name}, {listed} listed");
        }
    }
}

/// What makes a track unusual: in the last box of this name, these bytes at this place of its content.
const UNUSUAL: [(&str, &[u8; 4], isize, &[u8]); 12] = [
    ("its number is negative", b"tkhd", 12, &[0xff]),
    ("no units of time", b"mdhd", 12, &[0; 4]),
    ("two descriptions", b"stsd", 4, &[0, 0, 0, 2]),
    ("another kind of sound", b"stsd", 12, b"ac-3"),
    ("the second description", b"stsc", 16, &[0, 0, 0, 2]),
    ("chunks that do not begin at the first", b"stsc", 8, &[0, 0, 0, 2]),
    ("samples of PCM", b"stts", 12, &[0, 0, 0, 1]),
    ("a larger sample count", b"stts", 8, &[0, 0, 9, 0]),
    ("double speed", b"elst", 16, &[0, 2]),
    ("an edit list of silence", b"elst", 12, &[0xff; 4]),
    ("it lies in another file", b"dref", 16, &[0; 4]),
    ("a table that matters", b"sbgp", -4, b"cslg"),
];

#[test]
fn an_unusual_track_is_left_to_libav() {
    let folder = tempfile::tempdir().unwrap();
    let (name, arguments, _) = FILES[0];
    let whole = std::fs::read(made(folder.path(), name, arguments)).unwrap();
    assert!(packets(&&whole[..], 128).unwrap().1);
    for (what, name, at, bytes) in UNUSUAL {
        let mut file = whole.clone();
        let at = places(&file, name).pop().unwrap().checked_add_signed(at).unwrap();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        assert_ne!(file, whole, "{what}: nothing is changed");
        let [all, found] = [u64::MAX, 128].map(|listed| packets(&&file[..], listed));
        assert!(found.as_ref().is_ok_and(|(_, used)| !used) || found.is_err(), "{what}: its tables are used");
        assert!(shape(found) == shape(all), "{what}");
    }
}

#[test]
fn an_empty_sample_is_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (name, arguments, _) = FILES[0];
    let mut file = std::fs::read(made(folder.path(), name, arguments)).unwrap();
    // Two frames in one sample, and none in the next: nothing is missing.
    let sizes = places(&file, b"stsz")[0] + 12;
    for at in [50, 500].map(|sample| sizes + 4 * sample) {
        let both = [at, at + 4].map(|at| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()));
        file[at..at + 4].copy_from_slice(&both.iter().sum::<u32>().to_be_bytes());
        file[at + 4..at + 8].fill(0);
    }
    for listed in [u64::MAX, 128] {
        let mut go_on = |_| ControlFlow::Continue(());
        let pulse = Pulse::new(&mut go_on);
        let bytes = &file[..];
        let mut sound = Sound::open_listing(&bytes, &pulse, &Options::default(), listed).unwrap();
        let (rate, _) = sound.start().unwrap();
        sound.deliver(rate, 1);
        let mut samples = 0;
        while let Some(block) = sound.next().unwrap() {
            samples += block.left.len();
        }
        assert!((20 * 44_100..20 * 44_100 + 1024).contains(&samples), "{samples}, {listed} listed");
    }
}

#[test]
fn of_two_indexes_the_first_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (name, arguments, _) = FILES[0];
    let mut file = std::fs::read(made(folder.path(), name, arguments)).unwrap();
    let moov = places(&file, b"moov")[0] - 8;
    file.extend_from_within(moov..);
    let [(all, _), (found, used)] = [u64::MAX, 128].map(|listed| packets(&&file[..], listed).unwrap());
    assert!(used && all == found, "{} packets, {}", all.len(), found.len());
}

/// The boxes whose first words decide whether and how the tables are used.
const HEADS: [&[u8; 4]; 11] =
    [b"mvhd", b"tkhd", b"elst", b"mdhd", b"hdlr", b"dref", b"stsd", b"stts", b"stsc", b"stsz", b"stco"];

/// Where the content of the boxes of this name lies.
fn places(file: &[u8], name: &[u8; 4]) -> Vec<usize> {
    file.windows(4).enumerate().filter(|(_, bytes)| *bytes == name).map(|(at, _)| at + 4).collect()
}

#[test]
fn damaged_tables_give_what_libav_gives() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments, _) in FILES.into_iter().filter(|(_, _, is_plain)| *is_plain).take(5) {
        let whole = std::fs::read(made(folder.path(), name, arguments)).unwrap();
        let moov = places(&whole, b"moov")[0];
        let heads: Vec<_> = HEADS.into_iter().flat_map(|name| places(&whole[moov..], name)).collect();
        let end = moov - 4 + u32::from_be_bytes(whole[moov - 8..moov - 4].try_into().unwrap()) as usize - 4;
        let mut seed = 1_u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let mut used = 0;
        for round in 0..400 {
            let mut file = whole.clone();
            for _ in 0..=round % 3 {
                let at = match next(2) {
                    0 => moov + next(end - moov),
                    _ => (moov + heads[next(heads.len())] + next(28)).min(end - 1),
                };
                file[at] = [0, 1, 0xff, file[at] ^ 1, file[at] ^ 0x80, next(256) as u8][next(6)];
            }
            let [all, found] = [u64::MAX, 128].map(|listed| packets(&&file[..], listed));
            used += u32::from(found.as_ref().is_ok_and(|(_, used)| *used));
            let (found, all) = (shape(found), shape(all));
            let changes: Vec<_> = (0..file.len()).filter(|at| file[*at] != whole[*at]).collect();
            let [its, wanted] =
                [&found, &all].map(|shape| shape.as_ref().map(|packets| (packets.len(), packets.first())));
            assert!(found == all, "{name}, round {round}, changed at {changes:?}: {its:?}, not {wanted:?}");
        }
        assert!(used > 50, "{name}: in {used} rounds only");
    }
}

/// What is as libav tells it: not the bytes, since pieces that are said to lie in the index are read as libav is shown it.
fn shape(packets: Result<(Packets, bool), Error>) -> Result<Vec<(usize, Drops)>, Code> {
    let (packets, _) = packets.map_err(|error| error.code)?;
    Ok(packets.into_iter().map(|(bytes, drops)| (bytes.len(), drops)).collect())
}
