//! The MP3 comes while the video is read, not at its end: whoever waits for the first bytes, or stores them, has not to wait for the last.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use engine::{Cancel, Input, Limits, Options, Quality, Sink, Source};
use tempfile::TempDir;

use super::{engine, long_wav};

const SECONDS: u32 = 240;
const KILOBITS: u16 = 64;

/// What a sink has got.
#[derive(Default)]
struct Written {
    bytes: Cell<u64>,
}

/// A file, and what the sink had when it was read last.
struct Watched<'a> {
    file: File,
    written: &'a Written,
    at_last_read: Cell<u64>,
}

impl Source for Watched<'_> {
    fn len(&self) -> io::Result<u64> {
        Source::len(&self.file)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.at_last_read.set(self.written.bytes.get());
        self.file.read_at(offset, buf)
    }
}

impl Sink for &Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.set(self.bytes.get() + bytes.len() as u64);
        Ok(())
    }

    fn rewrite_head(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn most_of_the_mp3_is_written_when_the_last_of_the_video_is_read() {
    let folder = TempDir::new().unwrap();
    let wav = long_wav(&folder, SECONDS);
    for quality in [Quality::Cbr(KILOBITS), Quality::Abr(KILOBITS), Quality::Vbr(2)] {
        for threads in [1, 2] {
            let mut written = &Written::default();
            let file = File::open(&wav).unwrap();
            let source = Watched { file, written, at_last_read: Cell::new(0) };
            let options = Options { quality: Some(quality), ..Options::default() };
            let limits = Limits { threads, ..Limits::default() };
            let mut watch = |_| ControlFlow::Continue(());
            let summary = engine::convert(&source, &mut written, &options, &limits, &mut watch).unwrap();
            assert_eq!(written.bytes.get(), summary.bytes);
            let share = source.at_last_read.get() as f64 / summary.bytes as f64;
            println!("{quality:?}, {threads} threads: {share:.2}");
            assert!(share > 0.6, "{quality:?} on {threads} threads: {share:.2} was there before the end");
        }
    }
}

/// A sink and a source of an engine process, each in a thread of its own.
type Shared = Arc<(Mutex<u64>, Condvar)>;

struct Counting(Shared);

impl Sink for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        *self.0.0.lock().unwrap() += bytes.len() as u64;
        self.0.1.notify_all();
        Ok(())
    }

    fn rewrite_head(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A file whose last tenth is not given before the sink has half of the MP3.
struct Waiting {
    file: File,
    written: Shared,
}

impl Source for Waiting {
    fn len(&self) -> io::Result<u64> {
        Source::len(&self.file)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset > self.len()? / 10 * 9 {
            let half = u64::from(KILOBITS) * 1000 / 8 * u64::from(SECONDS) / 2;
            let written = self.written.0.lock().unwrap();
            let patience = Duration::from_secs(20);
            let waited = self.written.1.wait_timeout_while(written, patience, |written| *written < half);
            let written = *waited.unwrap().0;
            if written < half {
                return Err(io::Error::other(format!("only {written} bytes of the MP3 came before the end")));
            }
        }
        self.file.read_at(offset, buf)
    }
}

#[test]
fn half_of_the_mp3_comes_out_of_an_engine_process_that_waits_for_the_end_of_the_video() {
    let folder = TempDir::new().unwrap();
    let file = File::open(long_wav(&folder, SECONDS)).unwrap();
    let written = Shared::default();
    let source = Waiting { file, written: Arc::clone(&written) };
    let options = Options { quality: Some(Quality::Cbr(KILOBITS)), ..Options::default() };
    let limits = Limits { threads: 2, ..Limits::default() };
    let mut sink = Counting(Arc::clone(&written));
    let input = Input::Ranges(Box::new(source));
    let summary = engine("streaming")
        .convert(input, &mut sink, &options, &limits, &Cancel::new(), &mut |_| ())
        .unwrap_or_else(|error| panic!("{error}: {:?}", error.source));
    assert_eq!(*written.0.lock().unwrap(), summary.bytes);
}
