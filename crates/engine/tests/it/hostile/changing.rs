//! Files that grow, shrink or are overwritten while they are read. What comes by range stands in `ranges`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use engine::{Code, Kind, Options, Sink};
use tempfile::TempDir;

use super::super::make;
use super::{convert, tight};

/// Does something once, when the first piece of the MP3 comes: then the file is opened and part of it is read.
struct Meddler<F: FnMut()> {
    act: Option<F>,
    mp3: Vec<u8>,
}

impl<F: FnMut()> Sink for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(mut act) = self.act.take() {
            act();
        }
        self.mp3.write(bytes)
    }

    fn rewrite_head(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.mp3.rewrite_head(offset, bytes)
    }
}

/// Long enough that the MP3 begins while the end of the file is unread.
const LONG: &str = "-f lavfi -i anoisesrc=r=44100:d=100:a=0.3:seed=7";

const NAMES: [(&str, &str); 5] = [
    ("it.wav", "-c:a pcm_s16le"),
    ("it.mka", "-c:a pcm_s16le"),
    ("it.m4a", "-c:a aac -b:a 256k -movflags +faststart"),
    ("it.ts", "-c:a mp2 -b:a 256k"),
    ("it.flac", "-c:a flac"),
];

/// Converts the file while `act` happens to it.
fn meddled(name: &str, path: &std::path::Path, act: impl Fn(&File, u64)) -> Result<Vec<u8>, engine::Error> {
    let other = File::options().write(true).open(path).unwrap();
    let size = other.metadata().unwrap().len();
    let mut sink = Meddler { act: Some(|| act(&other, size)), mp3: Vec::new() };
    let result = convert(name, File::open(path).unwrap(), &mut sink, &Options::default(), &tight());
    assert!(sink.act.is_none(), "{name}: nothing was written");
    result.map(|_| sink.mp3)
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_to_be_tried_again() {
    let folder = TempDir::new().unwrap();
    for (name, output) in NAMES {
        let path = make(&folder, name, &format!("{LONG} {output}"));
        let error = meddled(name, &path, |file, size| file.set_len(size * 9 / 10).unwrap()).unwrap_err();
        assert_eq!((error.code, error.kind()), (Code::ReadFailed, Kind::Transient), "{name}: {error:?}");
        assert!(error.source.unwrap().to_string().contains("shorter"), "{name}");
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_as_it_was() {
    let folder = TempDir::new().unwrap();
    for (name, output) in NAMES {
        let path = make(&folder, name, &format!("{LONG} {output}"));
        let bytes = std::fs::read(&path).unwrap();
        let before = meddled(name, &path, |_, _| ()).unwrap();
        let after = meddled(name, &path, |file, size| file.write_all_at(&bytes, size).unwrap()).unwrap();
        assert!(before == after, "{name}: {} and {} bytes", before.len(), after.len());
    }
}

#[test]
fn a_file_that_is_overwritten_while_it_is_read_ends_in_an_mp3_or_an_error() {
    let folder = TempDir::new().unwrap();
    for (name, output) in NAMES {
        let path = make(&folder, name, &format!("{LONG} {output}"));
        let noise = super::Random(1).bytes(1 << 20);
        let result = meddled(name, &path, |file, size| {
            (0..size / (1 << 20)).for_each(|i| file.write_all_at(&noise, i << 20).unwrap());
        });
        let code = result.map(drop).map_err(|error| error.code);
        println!("{name}: {code:?}");
        assert!(matches!(code, Ok(()) | Err(Code::Corrupt | Code::Truncated)), "{name}: {code:?}");
    }
}
