//! Limits of memory, processor time, file size and descriptors, which the process cannot raise again.

use std::io;

use crate::Limits;

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// The stack of the process's first thread: the usual size, where somebody has made it unlimited.
const STACK: u64 = 8 << 20;

/// Sets the limits of this process, of whose memory `before` counts already.
///
/// Memory is counted as RLIMIT_DATA, beyond what the process had at its start: the address space of a process with all of a
/// distribution's codec libraries says little about what a conversion takes. That kind does not count shared memory, which the filter of
/// system calls denies, nor the first thread's stack, which has its own.
pub(super) fn limit(limits: &Limits, before: u64) -> io::Result<()> {
    let cpu = limits.cpu.as_secs() + u64::from(limits.cpu.subsec_nanos() > 0);
    set(libc::RLIMIT_DATA, before.saturating_add(limits.memory))?;
    set(libc::RLIMIT_STACK, STACK)?;
    set(libc::RLIMIT_CPU, cpu.max(1))?;
    set(libc::RLIMIT_FSIZE, 0)?;
    set(libc::RLIMIT_CORE, 0)?;
    set(libc::RLIMIT_NOFILE, 4) // input, output, stderr, control
}

/// Sets soft and hard limit, or lowers them: an inherited hard limit may be lower already.
fn set(resource: Resource, value: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is written, then read.
    unsafe {
        if libc::getrlimit(resource, &mut now) != 0 {
            return Err(io::Error::last_os_error());
        }
        let value = value.min(now.rlim_max);
        // At the soft limit of processor time comes SIGXCPU, at the hard one SIGKILL: leave room between, to be told apart.
        let hard =
            if resource == libc::RLIMIT_CPU { value.saturating_add(5).min(now.rlim_max) } else { value };
        match libc::setrlimit(resource, &libc::rlimit { rlim_cur: value, rlim_max: hard }) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Bytes that count for RLIMIT_DATA by now.
pub(super) fn data_now() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("/proc/self/status has no VmData"))
}
