//! What the engine process takes from itself before it touches a video.

use std::io;

use crate::Limits;

/// Sets the limits of this process; they cannot be raised again without privileges.
///
/// Memory is counted as RLIMIT_DATA, beyond what the process has now: the address space of a process with all of a distribution's
/// codec libraries says little about what a conversion takes.
pub(super) fn confine(limits: &Limits) -> io::Result<()> {
    let cpu = limits.cpu.as_secs() + u64::from(limits.cpu.subsec_nanos() > 0);
    limit(libc::RLIMIT_DATA, data_now()?.saturating_add(limits.memory))?;
    limit(libc::RLIMIT_CPU, cpu.max(1))?;
    limit(libc::RLIMIT_FSIZE, 0)?;
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_NOFILE, 4)?; // input, output, stderr, control
    // SAFETY: plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets soft and hard limit, or lowers them: an inherited hard limit may be lower already.
fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
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
fn data_now() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("/proc/self/status has no VmData"))
}
