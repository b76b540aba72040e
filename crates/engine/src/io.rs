//! What a conversion reads from and writes to.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// The video: bytes readable at any offset, the same ones every time.
///
/// A `Source` that is given to [`convert()`](crate::convert()) must not panic: it is called from within libav, and the process would end.
#[expect(
    clippy::len_without_is_empty,
    reason = "an empty video is an error of the conversion, not a case of its own"
)]
pub trait Source {
    /// The number of bytes.
    fn len(&self) -> io::Result<u64>;

    /// Reads at most `buf.len()` bytes at `offset`; 0 is the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        let facts = facts(self)?;
        if facts.st_mode & libc::S_IFMT == libc::S_IFREG {
            return u64::try_from(facts.st_size).map_err(io::Error::other);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file and cannot be read at offsets: save it to a file first",
        ))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// What the kernel says about an open file.
///
/// By the call itself: std asks by `statx` and some versions of glibc by `newfstatat`, which take paths and are therefore denied to the
/// engine process.
fn facts(file: &File) -> io::Result<libc::stat> {
    // SAFETY: a zeroed stat is valid, and on the 64-bit systems that this is made for the kernel's is the libc's.
    unsafe {
        let mut facts: libc::stat = std::mem::zeroed();
        match libc::syscall(libc::SYS_fstat, file.as_raw_fd(), &raw mut facts) {
            0 => Ok(facts),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Where the MP3 goes, in order, once.
///
/// After an error of the conversion, what a sink holds is to be thrown away.
pub trait Sink {
    /// Appends all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes `bytes` over what stands at `offset`. Called at most once, last, and never past the first 255 KiB: the frame that
    /// says how long the sound is stands at the head and is known at the end.
    fn rewrite_head(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// A [`Sink`] that writes a file from its beginning.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    written: u64,
}

impl FileSink {
    /// Writes to `file`, which is open for writing and empty.
    pub fn new(file: File) -> FileSink {
        FileSink { file, written: 0 }
    }

    /// The file, not synced.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn rewrite_head(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
}

/// The head of an MP3 that may be rewritten: one chunk of GridFS. Tags, cover and the Info frame behind them lie within.
pub(crate) const HEAD: u64 = 255 * 1024;

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn rewrite_head(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let end = at.checked_add(bytes.len()).filter(|end| *end <= self.len());
        let end = end.ok_or_else(|| io::Error::other("the head to rewrite lies past the end"))?;
        self[at..end].copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for &[u8] {
    fn len(&self) -> io::Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}
