//! Starting an engine process, and never leaving one behind.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::serving::Serving;
use super::wire::{self, CONTROL, Request, Video};
use super::{Engine, Input};
use crate::{Limits, Options};

/// An engine process. Dropping it kills it, if it lives, and takes its body.
pub(super) struct Process {
    child: Child,
    pub output: ChildStdout,
    pub errors: ChildStderr,
    pub control: UnixStream,
    /// Dropped after the child has ended.
    pub serving: Option<Serving>,
}

impl Process {
    /// Must be called on the thread that waits for it: the child dies with the thread that started it.
    pub fn start(engine: &Engine, input: Input, options: &Options, limits: &Limits) -> io::Result<Process> {
        let (video, stdin, served) = match input {
            Input::File(file) => (Video::File, OwnedFd::from(file), None),
            Input::Ranges(source) => {
                let (ours, theirs) = UnixStream::pair()?;
                (Video::Ranges, OwnedFd::from(theirs), Some((source, ours)))
            }
        };
        let request = Request {
            video,
            options: options.clone(),
            limits: limits.clone(),
            sandbox: engine.sandbox,
            layers: engine.layers.clone(),
        };
        let (control, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&engine.program);
        command.args(&engine.args).env_clear().stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.arg0("tapedeck");
        // A group of its own: Ctrl-C on a terminal is the parent's to answer, which may want to finish this conversion.
        command.process_group(0);
        let (theirs_fd, parent) = (theirs.as_raw_fd(), std::process::id());
        // SAFETY: between fork and exec, `prepare` makes system calls only.
        unsafe { command.pre_exec(move || prepare(theirs_fd, parent)) };
        let mut child = command.spawn()?;
        drop((theirs, command)); // With the command, our copy of the video's descriptor.
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (output, errors) = output.zip(errors).expect("both were asked for as pipes");
        let mut process = Process { child, output, errors, control, serving: None };
        if let Some((source, socket)) = served {
            process.serving = Some(Serving::start(source, socket)?);
        }
        // A child that died at once closes the socket; its last words on stderr say more than our EPIPE.
        match wire::send(&mut process.control, &request).and_then(|()| process.control.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(process),
        }
    }

    /// Ends it now.
    pub fn kill(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
    }

    /// Waits for its end, and ends it when that takes long: it has closed its descriptors, so nothing is left to do.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > Duration::from_secs(2) {
                self.kill();
                return self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

/// In the child, before it becomes the engine: dies with the parent, control at its place, nothing else inherited.
fn prepare(control: RawFd, parent: u32) -> io::Result<()> {
    let ok = |result: libc::c_int| if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: system calls on plain numbers.
    unsafe {
        // Before exec: capabilities of the program's file are then not taken, and do not undo the next line.
        ok(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        ok(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        if u32::try_from(libc::getppid()) != Ok(parent) {
            return Err(io::ErrorKind::BrokenPipe.into()); // The parent died before it could be watched.
        }
        if control == CONTROL {
            ok(libc::fcntl(control, libc::F_SETFD, 0))?;
        } else {
            ok(libc::dup2(control, CONTROL))?;
        }
        // Everything of ours is opened close-on-exec; this is for what others in this program were careless with. Kernels before 5.11 do
        // not know it.
        let first = CONTROL.unsigned_abs() + 1;
        let _ = libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}
