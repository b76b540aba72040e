//! A file that has no name until it is whole: not even kill -9 leaves half an MP3 behind.

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, open},
    io::Errno,
};
use std::{
    fs::{self, File},
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// A file in the making.
pub struct Target {
    file: File,
    /// Where the file system knows no nameless files: its name while it is made.
    draft: Option<PathBuf>,
}

impl Target {
    /// Begins a file in the folder of `output`.
    pub fn beside(output: &Path) -> io::Result<Target> {
        let folder = match output.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        match open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(Target { file: file.into(), draft: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let draft = folder.join(draft_name());
                Ok(Target { file: File::create_new(&draft)?, draft: Some(draft) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The file, to be written from its beginning.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives it its name, whole.
    pub fn publish(self, output: &Path, overwrite: bool) -> io::Result<()> {
        self.begin_write_back();
        let name = |output: &Path| match &self.draft {
            Some(draft) => fs::hard_link(draft, output),
            None => {
                let nameless = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                Ok(linkat(CWD, &nameless, CWD, output, AtFlags::SYMLINK_FOLLOW)?)
            }
        };
        if !overwrite {
            return name(output);
        }
        let draft = output.with_file_name(draft_name());
        name(&draft)?;
        fs::rename(&draft, output).inspect_err(|_| drop(fs::remove_file(&draft)))
    }
}

impl Target {
    /// Has the kernel begin to write the file to the disk, before its name is written. A file system that orders data before names (ext4, as
    /// it comes) shows after a power cut the whole file or none. Waiting for the disk, as a server must before it answers, would
    /// take longer than converting a short video; here the video is still there.
    fn begin_write_back(&self) {
        // SAFETY: the descriptor is open. The call is a hint: where it is not known, nothing is lost.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // It may be gone already.
            let _ = fs::remove_file(draft);
        }
    }
}

/// A name that nobody has taken. By the standard library's random numbers: those for secrets take 30 ms to be ready, as long as
/// converting ten seconds of sound.
fn draft_name() -> String {
    format!(".tapedeck-{:016x}.part", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_has_no_name_until_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("talk.mp3");
        let target = Target::beside(&output).unwrap();
        target.file().unwrap().write_all(b"half").unwrap();
        assert!(!output.exists());
        drop(target);
        assert_eq!(names(dir.path()), 0);
    }

    #[test]
    fn what_came_meanwhile_is_overwritten_only_if_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("talk.mp3");
        let made = || {
            let target = Target::beside(&output).unwrap();
            target.file().unwrap().write_all(b"new").unwrap();
            target
        };
        let ours = made();
        fs::write(&output, "theirs").unwrap();
        assert_eq!(ours.publish(&output, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&output).unwrap(), b"theirs");
        made().publish(&output, true).unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"new");
        assert_eq!(names(dir.path()), 1);
    }
}
