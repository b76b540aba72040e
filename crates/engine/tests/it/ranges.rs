//! The video by range: the same MP3s as from a file, and an end on every path, with the blame where it belongs.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{Cancel, Code, Engine, Error, Input, Kind, Limits, Options, Sink, Source, Summary};
use tempfile::TempDir;

use super::process::marked;
use super::{convert_in_child, engine, make, media, real_files};

fn run(
    engine: &Engine,
    source: impl Source + Send + 'static,
    sink: &mut dyn Sink,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    let input = Input::Ranges(Box::new(source));
    engine.convert(input, sink, &Options::default(), limits, cancel, &mut |_| ())
}

/// Converts and asserts that the source is dropped at the end, and with it the thread that held it.
fn convert(source: impl Source + Send + 'static, limits: &Limits) -> Result<(Summary, Vec<u8>), Error> {
    let alive = Arc::new(());
    let mut mp3 = Vec::new();
    let source = Held { source, _alive: Arc::clone(&alive) };
    let result = run(&engine("ranges"), source, &mut mp3, limits, &Cancel::new());
    assert_eq!(Arc::strong_count(&alive), 1, "the source is still held");
    result.map(|summary| (summary, mp3))
}

/// A source that is known to live.
struct Held<S> {
    source: S,
    _alive: Arc<()>,
}

impl<S> Drop for Held<S> {
    /// Slow, so that not to wait for it is seen.
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl<S: Source> Source for Held<S> {
    fn len(&self) -> io::Result<u64> {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.source.read_at(offset, buf)
    }
}

/// A file and what happens to its reads, counted from 0.
struct Odd<F> {
    file: File,
    count: AtomicU64,
    read: F,
}

/// The file at `path`, whose nth read is `read(n, file, offset, buffer)`.
fn odd<F>(path: &Path, read: F) -> Odd<F>
where
    F: Fn(u64, &File, u64, &mut [u8]) -> io::Result<usize>,
{
    Odd { file: File::open(path).unwrap(), count: AtomicU64::new(0), read }
}

impl<F: Fn(u64, &File, u64, &mut [u8]) -> io::Result<usize>> Source for Odd<F> {
    fn len(&self) -> io::Result<u64> {
        Source::len(&self.file)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (self.read)(self.count.fetch_add(1, Ordering::Relaxed), &self.file, offset, buf)
    }
}

fn assert_unreadable(name: &str, result: Result<(Summary, Vec<u8>), Error>, cause: &str) {
    let error = result.map(|(summary, _)| summary).unwrap_err();
    assert_eq!((error.code, error.kind()), (Code::ReadFailed, Kind::Transient), "{name}: {error:?}");
    let said = error.source.unwrap().to_string();
    assert!(said.contains(cause), "{name}: {said}");
}

/// Some megabytes in each kind of container, so that it takes several reads.
fn large_files(folder: &TempDir) -> Vec<PathBuf> {
    let input = "-f lavfi -i testsrc=s=320x240:r=25:d=8,noise=alls=90:allf=t -f lavfi -i anoisesrc=r=48000:d=8:a=0.3 -ac 2";
    let cases = [
        ("last.mp4", "-c:a aac -b:a 192k -c:v mpeg4 -q:v 2"),
        ("first.mp4", "-c:a aac -b:a 192k -c:v mpeg4 -q:v 2 -movflags +faststart"),
        ("fragments.mp4", "-c:a aac -b:a 192k -c:v mpeg4 -q:v 2 -g 25 -movflags frag_keyframe+empty_moov"),
        ("pcm.mov", "-c:v mpeg4 -c:a pcm_s16le"),
        ("flac.mkv", "-c:v mpeg4 -c:a flac"),
        ("pcm.avi", "-c:v mpeg4 -c:a pcm_s16le"),
        ("mp3.flv", "-c:v flv -q:v 2 -c:a libmp3lame -ar 44100"),
        ("mp2.ts", "-c:v mpeg2video -q:v 2 -c:a mp2 -b:a 320k"),
        ("wma.wmv", "-c:v wmv2 -q:v 2 -c:a wmav2"),
        ("flac.ogg", "-vn -c:a flac"),
        ("pcm.wav", "-vn"),
        ("flac.flac", "-vn"),
    ];
    cases.map(|(name, output)| make(folder, name, &format!("{input} {output}"))).to_vec()
}

/// Reads of every length but the one that was asked for.
fn short(n: u64, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let most = buf.len().min([1, 7919, 61, 100_003][n as usize % 4]);
    file.read_at(offset, &mut buf[..most])
}

#[test]
fn ranges_and_short_reads_make_the_same_mp3_as_a_file() {
    let folder = TempDir::new().unwrap();
    let limits = Limits::default();
    for path in real_files().into_iter().chain(large_files(&folder)) {
        let name = path.display();
        let from_file = convert_in_child(&path, &limits);
        let whole = convert(File::open(&path).unwrap(), &limits);
        let in_pieces = convert(odd(&path, short), &limits);
        match from_file {
            Ok((summary, mp3)) => {
                for (by_range, same) in [whole.unwrap(), in_pieces.unwrap()] {
                    let expected = Summary { bytes_read: by_range.bytes_read, ..summary.clone() };
                    assert!(by_range == expected && same == mp3, "{name}: {by_range:?}");
                    let size = path.metadata().unwrap().len();
                    assert!(
                        by_range.bytes_read > 0 && by_range.bytes_read <= 3 * size,
                        "{name}: {by_range:?}"
                    );
                }
            }
            Err(error) => {
                for by_range in [whole.unwrap_err(), in_pieces.unwrap_err()] {
                    assert_eq!((by_range.code, &by_range.text), (error.code, &error.text), "{name}");
                }
            }
        }
    }
}

/// A store that is away for one read, wherever in the conversion that falls, is never taken for a fault of the video.
#[test]
fn a_source_that_fails_once_is_to_be_tried_again_and_never_a_verdict_on_the_video() {
    let folder = TempDir::new().unwrap();
    let mut failures = 0;
    for path in large_files(&folder) {
        let mut failing = 0;
        let converted = loop {
            let source = odd(&path, move |n, file, offset, buf| match n == failing {
                true => Err(io::Error::new(io::ErrorKind::TimedOut, "the store is away")),
                false => file.read_at(offset, buf),
            });
            match convert(source, &Limits::default()) {
                Ok(_) => break failing,
                failed => assert_unreadable(&format!("{} at {failing}", path.display()), failed, "is away"),
            }
            failures += 1;
            failing += 1 + failing / 4; // Each of the first, some of the many.
        };
        assert!(converted > 2, "{}: only {converted} reads", path.display());
    }
    assert!(failures > 50, "{failures}");
}

/// A size and a read.
struct Of<R>(io::Result<u64>, R);

impl<R: Fn(u64, &mut [u8]) -> io::Result<usize>> Source for Of<R> {
    fn len(&self) -> io::Result<u64> {
        self.0.as_ref().map(|size| *size).map_err(|error| io::Error::other(error.to_string()))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (self.1)(offset, buf)
    }
}

#[test]
fn a_source_that_lies_is_to_be_tried_again() {
    let bytes: Arc<[u8]> = std::fs::read(media().join("bbb_480p_30s.mp4")).unwrap().into();
    let size = bytes.len() as u64;
    let cut = |end: usize| {
        let bytes = Arc::clone(&bytes);
        move |offset, buf: &mut [u8]| (&bytes[..end.min(bytes.len())]).read_at(offset, buf)
    };
    let limits = Limits::default();
    let half = bytes.len() / 2;
    assert_unreadable("shorter", convert(Of(Ok(size), cut(half)), &limits), "ends at byte");
    assert_unreadable("longer", convert(Of(Ok(1 << 40), cut(usize::MAX)), &limits), "ends at byte");
    assert_unreadable(
        "endless",
        convert(Of(Ok(u64::MAX), cut(usize::MAX)), &limits),
        "18446744073709551615 bytes",
    );
    let failed = Of(Err(io::Error::other("no such file")), cut(usize::MAX));
    assert_unreadable("no size", convert(failed, &limits), "no such file");
    let boasting = Of(Ok(size), |_, buf: &mut [u8]| Ok(buf.len() + 1));
    assert_unreadable("boasting", convert(boasting, &limits), "were asked for");
    let panicking = Of(Ok(size), |_, _: &mut [u8]| panic!("in a test"));
    assert_unreadable("panicking", convert(panicking, &limits), "panicked");
    // What grows behind its size is as it was.
    let grown = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&grown);
    let growing = Of(Ok(size), move |offset, buf: &mut [u8]| {
        let mut end = seen.lock().unwrap();
        *end = u64::max(*end, offset + buf.len() as u64);
        (&bytes[..]).read_at(offset, buf)
    });
    assert!(convert(growing, &limits).is_ok());
    assert!(*grown.lock().unwrap() <= size);
    let empty = convert(Of(Ok(0), |_, _: &mut [u8]| panic!("nothing to read")), &limits);
    assert_eq!(empty.unwrap_err().code, Code::EmptyFile);
}

/// Hangs until its sender is dropped, for a test that fails not for ever.
struct Hanging {
    file: File,
    in_len: bool,
    entered: Cancel,
    until: Mutex<mpsc::Receiver<()>>,
    _alive: Arc<()>,
}

impl Hanging {
    fn hang(&self) {
        self.entered.cancel();
        let _ = self.until.lock().unwrap().recv_timeout(Duration::from_secs(20));
    }
}

impl Source for Hanging {
    fn len(&self) -> io::Result<u64> {
        if self.in_len {
            self.hang();
        }
        Source::len(&self.file)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset > 0 {
            self.hang();
        }
        self.file.read_at(offset, buf)
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_conversion_whose_source_hangs_is_no_stall_and_is_cancelled_within_half_a_second() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    for in_len in [true, false] {
        let (release, until) = mpsc::channel();
        let (cancel, entered, alive) = (Cancel::new(), Cancel::new(), Arc::new(()));
        let file = File::open(media().join("bbb_480p_30s.mp4")).unwrap();
        let source = Hanging {
            file,
            in_len,
            entered: entered.clone(),
            until: until.into(),
            _alive: Arc::clone(&alive),
        };
        let cancelled = std::thread::spawn({
            let cancel = cancel.clone();
            move || {
                wait_for("the source is read", || entered.is_cancelled());
                std::thread::sleep(Duration::from_secs(1)); // Three times the stall.
                cancel.cancel();
                Instant::now()
            }
        });
        let error = run(&engine("ranges-hang"), source, &mut Vec::new(), &limits, &cancel).unwrap_err();
        let took = cancelled.join().unwrap().elapsed();
        assert_eq!(error.code, Code::Cancelled, "in len: {in_len}: {error:?}");
        assert!(took < Duration::from_millis(500), "{took:?}");
        assert_eq!(Arc::strong_count(&alive), 2, "the source still hangs");
        drop(release);
        wait_for("the thread ends with the read", || Arc::strong_count(&alive) == 1);
    }
}

#[test]
fn a_slow_source_makes_the_same_mp3_and_no_stall() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let path = media().join("bbb_480p_30s.mp4");
    let slow = odd(&path, |n, file, offset, buf| {
        if n < 2 {
            std::thread::sleep(Duration::from_millis(800));
        }
        file.read_at(offset, buf)
    });
    let (_, mp3) = convert(slow, &limits).unwrap();
    assert!(mp3 == convert_in_child(&path, &Limits::default()).unwrap().1);
}

/// A shell that plays an engine; its standard input is the socket.
fn fake(script: &str) -> Error {
    let engine = Engine::program("/bin/sh", ["-c", &format!(r#"echo '"ready"' >&3; {script}"#)]);
    let limits = Limits { stall: Duration::from_secs(1), ..Limits::default() };
    let alive = Arc::new(());
    let file = File::open(media().join("bbb_480p_30s.mp4")).unwrap();
    let source = Held { source: file, _alive: Arc::clone(&alive) };
    let error = run(&engine, source, &mut Vec::new(), &limits, &Cancel::new()).unwrap_err();
    assert_eq!(Arc::strong_count(&alive), 1, "{script}: the source is still held");
    error
}

#[test]
fn a_process_that_asks_for_what_it_may_not_has_crashed() {
    let ask = |offset: u64, length: u32| {
        let bytes = [&offset.to_le_bytes()[..], &length.to_le_bytes()].concat();
        let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
        format!("printf '{octal}' >&0; ")
    };
    let size = media().join("bbb_480p_30s.mp4").metadata().unwrap().len();
    for (offset, length) in [(0, 0), (0, u32::MAX), (0, 2 << 20), (size, 1), (size - 1, 2), (u64::MAX, 1000)]
    {
        let error = fake(&format!("{} while :; do :; done", ask(offset, length)));
        assert_eq!((error.code, error.kind()), (Code::EngineCrashed, Kind::Suspect), "{offset}, {length}");
        assert!(error.source.unwrap().to_string().contains("may not"));
    }
    let cases = [
        // It never takes the answer, which the socket does not hold; it asks by halves; it hangs up.
        (format!("{} while :; do :; done", ask(0, 1 << 19)), Code::EngineStalled),
        (format!("{} exec sleep 60", ask(0, 1 << 19).repeat(9)), Code::EngineStalled),
        ("printf abc >&0; exec sleep 60".to_owned(), Code::EngineStalled),
        ("exec 0>&-; exec sleep 60".to_owned(), Code::EngineStalled),
        (format!("{} kill -KILL $$", ask(0, 1 << 19)), Code::EngineCrashed),
    ];
    for (script, expected) in cases {
        assert_eq!(fake(&script).code, expected, "{script}");
    }
}

#[test]
fn a_program_that_is_not_there_leaves_no_source() {
    let alive = Arc::new(());
    let source =
        Held { source: File::open(media().join("wav__sample.wav")).unwrap(), _alive: Arc::clone(&alive) };
    let nowhere = Engine::program("/nowhere/engine", ["engine"]);
    let error = run(&nowhere, source, &mut Vec::new(), &Limits::default(), &Cancel::new()).unwrap_err();
    assert_eq!((error.code, Arc::strong_count(&alive)), (Code::EngineNotStarted, 1));
}

/// Some bytes, a hole of zeros, other bytes; and the longest read and the number of bytes read.
struct Sparse {
    head: Vec<u8>,
    hole: u64,
    tail: Vec<u8>,
    read: Arc<(AtomicU64, AtomicU64)>,
}

impl Source for Sparse {
    fn len(&self) -> io::Result<u64> {
        Ok(self.head.len() as u64 + self.hole + self.tail.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read.0.fetch_max(buf.len() as u64, Ordering::Relaxed);
        let (hole, tail) = (self.head.len() as u64, self.head.len() as u64 + self.hole);
        let n = if offset < hole {
            (&self.head[..]).read_at(offset, buf)?
        } else if offset < tail {
            let n = usize::try_from(tail - offset).unwrap().min(buf.len());
            buf[..n].fill(0);
            n
        } else {
            (&self.tail[..]).read_at(offset - tail, buf)?
        };
        self.read.1.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// An MP4 with its index at its end, and 2 GiB of nothing before that.
#[test]
fn of_a_large_mp4_with_its_index_at_the_end_only_what_is_needed_is_read() {
    const HOLE: u64 = 2 << 30;
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "last.mp4", "-f lavfi -i anoisesrc=r=48000:d=20 -c:a aac");
    let mut head = std::fs::read(&path).unwrap();
    let index = head.windows(4).position(|name| name == b"moov").unwrap() - 4;
    let tail = head.split_off(index);
    // A box of free space, with a size of 64 bits.
    head.extend(b"\0\0\0\x01free");
    head.extend((HOLE + 16).to_be_bytes());
    let (there, read) = ((head.len() + tail.len()) as u64, Arc::<(AtomicU64, AtomicU64)>::default());
    let source = Sparse { head, hole: HOLE, tail, read: Arc::clone(&read) };
    let (summary, mp3) = convert(source, &Limits::default()).unwrap();
    assert!(mp3 == convert_in_child(&path, &Limits::default()).unwrap().1);
    assert_eq!(summary.bytes_read, read.1.load(Ordering::Relaxed));
    assert!(summary.bytes_read < there + (2 << 20), "{} of {there}", summary.bytes_read);
}

/// Keeps nothing.
struct Counting(u64);

impl Sink for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn rewrite_head(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory, in KiB, that a process has ever held; `None` once it has ended.
fn peak(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// 32 channels of 32 bits at 192 kHz: a minute and a half of silence, and nearly 2 GiB of it.
fn huge_wav() -> (Sparse, u64) {
    const FRAME: u32 = 32 * 4;
    const RATE: u32 = 192_000;
    let frames = (2 << 30) / FRAME - 8192;
    let mut head = Vec::new();
    head.extend(b"RIFF");
    head.extend((frames * FRAME + 36).to_le_bytes());
    head.extend(b"WAVEfmt \x10\0\0\0\x01\0\x20\0");
    head.extend(RATE.to_le_bytes());
    head.extend((RATE * FRAME).to_le_bytes());
    head.extend(b"\x80\0\x20\0data");
    head.extend((frames * FRAME).to_le_bytes());
    let hole = u64::from(frames * FRAME);
    (Sparse { head, hole, tail: Vec::new(), read: Arc::default() }, u64::from(frames) / 4)
}

#[test]
fn two_gibibytes_go_through_in_a_few_mebibytes_of_either_process() {
    const NAME: &str = "ranges::two_gibibytes_go_through_in_a_few_mebibytes_of_either_process";
    const ALONE: &str = "TAPEDECK_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // Once more, in a process of its own: the tests beside this one take memory, too.
        let this = std::env::current_exe().unwrap();
        let run = Command::new(this).args([NAME, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        print!("{said}");
        return;
    }
    let (source, samples) = huge_wav();
    let (size, read) = (source.len().unwrap(), Arc::clone(&source.read));
    let (mut sink, before, mut of_child) = (Counting(0), peak("self").unwrap(), Vec::new());
    let summary = engine("ranges-huge")
        .convert(
            Input::Ranges(Box::new(source)),
            &mut sink,
            &Options::default(),
            &Limits::default(),
            &Cancel::new(),
            &mut |_| of_child.extend(marked("ranges-huge").first().and_then(|pid| peak(&pid.to_string()))),
        )
        .unwrap();
    assert!(summary.samples.abs_diff(samples) <= 1, "{summary:?}");
    assert_eq!(summary.bytes, sink.0);
    assert!(summary.bytes_read >= size, "{summary:?}");
    // In the middle, the segments that are encoded at once have reached their length.
    let (middle, last) = (of_child[of_child.len() / 2], *of_child.last().unwrap());
    let (grown, longest) = (peak("self").unwrap() - before, read.0.load(Ordering::Relaxed));
    println!(
        "KiB: parent +{grown}, child {middle} in the middle, {last} at the end; longest read {longest} bytes"
    );
    assert!(of_child.len() > 4 && last.saturating_sub(middle) < 8 * 1024, "the child grew: {of_child:?}");
    assert!(grown < 8 * 1024, "the parent grew by {grown} KiB");
    assert!(longest <= 1 << 20, "{longest}");
}
