//! Waiting on several descriptors at once.

use std::os::fd::RawFd;
use std::time::Duration;

/// Which of `fds` can be read without blocking, or are closed at the other end; negative ones are ignored. All false when the time is up.
pub(super) fn wait<const N: usize>(fds: [RawFd; N], timeout: Duration) -> [bool; N] {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `polled` holds as many entries as is said.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
    // An interrupted call is a short wait.
    polled.map(|polled| count > 0 && polled.revents != 0)
}

/// True when the other end of this socket is closed.
pub(super) fn hung_up(fd: RawFd) -> bool {
    let mut polled = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut polled, 1, 0) > 0 && polled.revents & (libc::POLLHUP | libc::POLLERR) != 0 }
}
