//! What a video that has taken over its engine process could try, and what an honest conversion does.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use engine::{Cancel, Engine, Input, Limits, Options};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Tries `what`; tells `done`, or the error.
pub fn attempt(what: &str, with: &str) -> String {
    let result = match what {
        "read-file" => open(with, libc::O_RDONLY),
        "make-file" => open(with, libc::O_CREAT | libc::O_WRONLY),
        "stat" => stat(with),
        "exec" => exec(),
        "fork" => fork(),
        "spawn" => std::process::Command::new("/bin/true").status().map(drop),
        "socket" => socket(libc::AF_INET).map(drop),
        "connect" => connect(with.parse().unwrap()),
        "bind" => bind(),
        "abstract-socket" => connect_abstract(with),
        "kill" => ok(unsafe { libc::kill(with.parse().unwrap(), libc::SIGKILL) }),
        "ptrace" => ptrace(with.parse().unwrap()),
        "memory" => allocate(256 << 20),
        "shared-memory" => map(256 << 20, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
        "stack-memory" => map(256 << 20, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN),
        "cpu" => spin(Duration::from_secs(with.parse().unwrap())),
        "descriptor" => ok(unsafe { libc::dup(0) }),
        "code" => make_code(),
        "clone3" => ok(unsafe { libc::syscall(libc::SYS_clone3, 0, 0) } as i32),
        "odd-clone" => odd_clone(),
        "io-uring" => ok(unsafe { libc::syscall(libc::SYS_io_uring_setup, 0, 0) } as i32),
        "user-namespace" => ok(unsafe { libc::unshare(libc::CLONE_NEWUSER) }),
        "threads" => threads(),
        "sleep" => sleep(),
        "abort" => std::process::abort(),
        "inherited" => return inherited(),
        "privileges" => return privileges(),
        _ => return format!("no probe is called {what}"),
    };
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EACCES) => "EACCES".to_owned(),
            Some(libc::EPERM) => "EPERM".to_owned(),
            Some(libc::ENOSYS) => "ENOSYS".to_owned(),
            Some(libc::EMFILE) => "EMFILE".to_owned(),
            _ => error.to_string(),
        },
    }
}

fn ok(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes the video, so that the limit of descriptors leaves room for another.
fn make_room() {
    // SAFETY: nothing reads the video in a probe.
    unsafe { libc::close(0) };
}

fn open(path: &str, flags: i32) -> io::Result<()> {
    make_room();
    let path = CString::new(path).unwrap();
    // SAFETY: the path is a C string.
    ok(unsafe { libc::open(path.as_ptr(), flags, 0o600) })
}

fn stat(path: &str) -> io::Result<()> {
    let path = CString::new(path).unwrap();
    // SAFETY: the path is a C string; a zeroed stat is valid.
    unsafe {
        let mut facts: libc::stat = std::mem::zeroed();
        ok(libc::stat(path.as_ptr(), &raw mut facts))
    }
}

/// Becomes a shell that ends with a number of its own.
fn exec() -> io::Result<()> {
    make_room();
    let arguments = [c"sh", c"-c", c"exit 42"];
    let arguments = [arguments[0].as_ptr(), arguments[1].as_ptr(), arguments[2].as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: both lists end in a null.
    ok(unsafe { libc::execve(c"/bin/sh".as_ptr(), arguments.as_ptr(), environment.as_ptr()) })
}

fn fork() -> io::Result<()> {
    // SAFETY: the child does nothing but end.
    unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => libc::_exit(0),
            child => ok(libc::waitpid(child, std::ptr::null_mut(), 0)),
        }
    }
}

fn socket(family: i32) -> io::Result<i32> {
    make_room();
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(family, libc::SOCK_STREAM, 0) };
    ok(socket).map(|()| socket)
}

fn local(port: u16) -> libc::sockaddr_in {
    // SAFETY: a zeroed address is valid.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    address
}

fn connect(port: u16) -> io::Result<()> {
    let (socket, address) = (socket(libc::AF_INET)?, local(port));
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is as long as is said.
    ok(unsafe { libc::connect(socket, (&raw const address).cast(), length) })
}

fn bind() -> io::Result<()> {
    let (socket, address) = (socket(libc::AF_INET)?, local(0));
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is as long as is said.
    ok(unsafe { libc::bind(socket, (&raw const address).cast(), length) })
}

fn connect_abstract(name: &str) -> io::Result<()> {
    let socket = socket(libc::AF_UNIX)?;
    // SAFETY: a zeroed address is valid, and the name fits into it.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, byte) in address.sun_path[1..].iter_mut().zip(name.bytes()) {
            *place = byte as libc::c_char;
        }
        let length = size_of::<libc::sa_family_t>() + 1 + name.len();
        ok(libc::connect(socket, (&raw const address).cast(), length as libc::socklen_t))
    }
}

fn ptrace(pid: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    ok(result as i32)
}

fn allocate(bytes: usize) -> io::Result<()> {
    let touched = vec![1_u8; bytes];
    assert_eq!(std::hint::black_box(touched).len(), bytes);
    Ok(())
}

/// Maps so much memory, and writes to its end.
fn map(bytes: usize, flags: i32) -> io::Result<()> {
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: fresh memory, which nothing else knows, and a place within it.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), bytes, writable, flags, -1, 0);
        ok(if memory == libc::MAP_FAILED { -1 } else { 0 })?;
        memory.cast::<u8>().add(bytes - 1).write_volatile(1);
    }
    Ok(())
}

/// Uses the processor for so long.
fn spin(time: Duration) -> io::Result<()> {
    loop {
        let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `used` is written.
        ok(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut used) })?;
        if Duration::new(used.tv_sec as u64, used.tv_nsec as u32) > time {
            return Ok(());
        }
        std::hint::black_box((0..100_000_u64).sum::<u64>());
    }
}

/// Makes memory executable that was written to.
fn make_code() -> io::Result<()> {
    const SIZE: usize = 4096;
    let (writable, executable) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
    // SAFETY: fresh memory, which nothing else knows.
    unsafe {
        let memory =
            libc::mmap(std::ptr::null_mut(), SIZE, writable, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        ok(if memory == libc::MAP_FAILED { -1 } else { 0 })?;
        ok(libc::mprotect(memory, SIZE, executable))
    }
}

/// Starts a thread in a name space of its own, which the kernel refuses in its own words where it is asked.
fn odd_clone() -> io::Result<()> {
    let thread =
        libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    // SAFETY: no thread comes of it.
    ok(unsafe { libc::syscall(libc::SYS_clone, thread | libc::CLONE_NEWUSER, 0, 0, 0, 0) } as i32)
}

/// What an encoder of several threads does: names, memory, maps, channels, locks, time-outs, a panic.
fn threads() -> io::Result<()> {
    let started = Arc::new((Mutex::new(0), Condvar::new()));
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = |number: u64| {
        let (started, sender) = (Arc::clone(&started), sender.clone());
        move || {
            *started.0.lock().unwrap() += 1;
            started.1.notify_all();
            let map: HashMap<u64, Vec<u64>> = (0..50).map(|n| (n, vec![number; 20_000])).collect();
            thread::sleep(Duration::from_millis(5));
            sender.send(map.values().flatten().sum::<u64>()).unwrap();
            drop(sender);
            assert!(number != 3, "one of the threads panics");
        }
    };
    let spawn = |number: u64| thread::Builder::new().name(format!("encoder {number}")).spawn(work(number));
    let threads = (1..=4).map(spawn).collect::<io::Result<Vec<_>>>()?;
    drop(sender);
    let all = started.1.wait_while(started.0.lock().unwrap(), |count| *count < 4).unwrap();
    assert_eq!(*all, 4);
    drop(all);
    let mut sums: Vec<u64> = receiver.iter().collect();
    sums.sort_unstable();
    assert_eq!(sums, [1, 2, 3, 4].map(|number| number * 1_000_000));
    assert!(matches!(
        receiver.recv_timeout(Duration::from_millis(5)),
        Err(mpsc::RecvTimeoutError::Disconnected)
    ));
    assert_eq!(threads.into_iter().filter_map(|thread| thread.join().err()).count(), 1);
    assert!(thread::available_parallelism()?.get() > 0);
    Ok(())
}

/// Long enough to be stopped in it.
fn sleep() -> io::Result<()> {
    let (begun, time) = (Instant::now(), Duration::from_secs(1));
    thread::sleep(time);
    if begun.elapsed() < time { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

/// The open descriptors, and how many variables the environment has.
fn inherited() -> String {
    // SAFETY: plain numbers.
    let open = (0..64).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1);
    let open: Vec<String> = open.map(|fd| fd.to_string()).collect();
    format!("descriptors {}; {} variables", open.join(" "), std::env::vars_os().count())
}

fn privileges() -> String {
    // SAFETY: plain numbers.
    let ask = |option| unsafe { libc::prctl(option, 0, 0, 0, 0) };
    format!("no new {}, dumpable {}", ask(libc::PR_GET_NO_NEW_PRIVS), ask(libc::PR_GET_DUMPABLE))
}

/// Makes this machine one whose kernel, or container runtime, has no such layer.
pub fn lack(what: &str) {
    let (call, answer) = match what {
        "landlock" => (libc::SYS_landlock_create_ruleset, libc::ENOSYS),
        "landlock-by-profile" => (libc::SYS_landlock_create_ruleset, libc::EPERM),
        _ => (libc::SYS_seccomp, libc::EINVAL),
    };
    let rules = BTreeMap::from([(call, Vec::new())]);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let answer = SeccompAction::Errno(answer.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// Lets itself be traced, as far as it is up to itself, and stands until it is killed.
pub fn stand() -> ExitCode {
    const ANYBODY: libc::c_ulong = libc::c_ulong::MAX;
    // SAFETY: plain numbers. Where there is no such restriction, there is no such option.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, ANYBODY, 0, 0, 0) };
    println!("here");
    loop {
        thread::park();
    }
}

/// Waits for an engine process that works on and on, reads nothing and writes nothing; its mark is `mark-` and this name.
pub fn wait_for_ever(name: &str) -> ExitCode {
    let mark = format!("mark-{name}");
    let engine = Engine::program(std::env::current_exe().unwrap(), ["probe", "cpu", "60", &mark]);
    let (options, limits) = (Options::default(), Limits::default());
    let nothing: &[u8] = &[];
    let input = Input::Ranges(Box::new(nothing));
    let _ = engine.convert(input, &mut Vec::new(), &options, &limits, &Cancel::new(), &mut |_| ());
    ExitCode::FAILURE
}
