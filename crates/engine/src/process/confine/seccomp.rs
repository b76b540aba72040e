//! The system calls of a conversion, and what becomes of all others.
//!
//! A list says what passes. Anything else is answered as if the kernel did not have it (ENOSYS): every libc knows how to go on from
//! there, so that one which is newer than this list, and tries something newer first, costs nothing. `clone3` is the example: glibc
//! falls back to `clone`, whose flags a filter can see. Calls that no libc, codec or encoder makes on its own, though, mean that
//! someone else's code runs in here: they end the process at once (SIGSYS), and the parent tells the operator.
//!
//! Nothing that takes a path passes, not even a question about a file, which Landlock would let through. Nothing that opens a
//! descriptor passes, no memory becomes code, and none is mapped that the limit of memory would not count.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What passes, whatever its arguments are.
const ALLOWED: &[i64] = &[
    // Input, output, control and stderr, which are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_ppoll,
    libc::SYS_fstat,
    libc::SYS_close,
    // Memory. What maps it, or changes its protection, is in `allowed`.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads: their start and end, locks and condition variables, and how many are worth while.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals of its own: stack overflow, abort. A call that a stop of the process has interrupted goes on by `restart_syscall`.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    // Time, where the kernel does not answer without a call.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    // Seeds of hash maps. The size of memory: glibc's qsort asks, and takes a refusal for an answer.
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
];

/// What an older architecture has beside them.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[i64] = &[libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[i64] = &[];

/// What ends the process.
const FATAL: &[i64] = &[
    // Another program. Another process is in `fatal`.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    // The network.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Corners of the kernel through which others have broken out.
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_perf_event_open,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

#[cfg(target_arch = "x86_64")]
const FATAL_OLD: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FATAL_OLD: &[i64] = &[];

/// What every thread of a process shares with the others; a `clone` that shares less starts a process, or something odder.
const THREAD: u64 =
    (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;

/// What no thread of ours has of its own.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;

/// Memory that RLIMIT_DATA does not count: what is shared, and what grows downwards like a stack.
const UNCOUNTED: u64 = (libc::MAP_SHARED | libc::MAP_GROWSDOWN) as u64;

/// Binds this thread, and all that it starts, to the lists. Nothing can be set up after it.
pub(super) fn filter() -> io::Result<()> {
    let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let fatal = compile(fatal()?, SeccompAction::Allow, SeccompAction::KillProcess)?;
    let allowed = compile(allowed()?, enosys, SeccompAction::Allow)?;
    // Of several filters the kernel takes the severest word. The list of what passes comes last: it denies another filter.
    for program in [fatal, allowed] {
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn compile(rules: Rules, others: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, others, listed, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn fatal() -> io::Result<Rules> {
    let mut rules = whatever_arguments(&[FATAL, FATAL_OLD]);
    let process = argument(0, Length::Qword, Is::MaskedEq(libc::CLONE_THREAD as u64), 0)?;
    rules.insert(libc::SYS_clone, vec![process]);
    Ok(rules)
}

fn allowed() -> io::Result<Rules> {
    let mut rules = whatever_arguments(&[ALLOWED, ALLOWED_OLD]);
    let no_code = || condition(2, Length::Qword, Is::MaskedEq(libc::PROT_EXEC as u64), 0);
    let counted = condition(3, Length::Qword, Is::MaskedEq(UNCOUNTED), 0)?;
    let is = |index, value: i32| argument(index, Length::Dword, Is::Eq, u64::from(value.unsigned_abs()));
    rules.insert(libc::SYS_mmap, vec![all(vec![no_code()?, counted])?]);
    rules.insert(libc::SYS_mprotect, vec![all(vec![no_code()?])?]);
    rules.insert(
        libc::SYS_clone,
        vec![argument(0, Length::Qword, Is::MaskedEq(THREAD | NAMESPACES), THREAD)?],
    );
    // Over the control socket alone: without an address.
    rules.insert(libc::SYS_sendto, vec![argument(4, Length::Qword, Is::Eq, 0)?]);
    // Reading flags. Others would have the kernel send signals.
    rules.insert(libc::SYS_fcntl, vec![is(1, libc::F_GETFD)?, is(1, libc::F_GETFL)?]);
    // Naming a thread.
    rules.insert(libc::SYS_prctl, vec![is(0, libc::PR_SET_NAME)?]);
    // Aborting.
    rules.insert(libc::SYS_tgkill, vec![argument(0, Length::Dword, Is::Eq, std::process::id().into())?]);
    Ok(rules)
}

fn whatever_arguments(lists: &[&[i64]]) -> Rules {
    lists.iter().copied().flatten().map(|call| (*call, Vec::new())).collect()
}

/// A call whose argument at `index` is so.
fn argument(index: u8, length: Length, is: Is, value: u64) -> io::Result<SeccompRule> {
    all(vec![condition(index, length, is, value)?])
}

/// A call that is all of these.
fn all(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

fn condition(index: u8, length: Length, is: Is, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(index, length, is, value).map_err(io::Error::other)
}
