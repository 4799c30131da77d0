//! Between `clone` and `exec`: the only unsafe code of the daemon.
//!
//! The child shares the daemon's memory until it has executed its program, and the thread that made
//! it waits for that, as with `vfork`: copying an address space is what costs most in a sandbox. So
//! the child makes plain system calls on what the parent prepared; it neither allocates nor locks
//! nor panics, it has a stack of its own, and all signals are blocked until their handlers are gone.

#![expect(unsafe_code, reason = "what happens between clone and exec has no safe interface")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Uid};

/// What the kernel's killer of processes adds to a command's score, as in envd: commands go first,
/// the daemon last.
const OOM_SCORE_ADJ: &[u8] = b"100";

/// The child's stack, in units that keep its alignment: 128 KiB. It calls a few functions deep.
const STACK_UNITS: usize = 8 * 1024;

/// Exit code of a child that could not execute its program; nobody sees it.
const NEVER_RAN: c_int = 127;

/// Signals that the daemon ignores or handles. `exec` resets handlers by itself, but not what is
/// ignored, and no handler may run in the child while it shares our memory.
const DAEMON_SIGNALS: [c_int; 2] = [libc::SIGPIPE, libc::SIGCHLD];

/// Everything that the child needs.
pub(super) struct Image {
    /// Files to try, in order.
    pub(super) programs: Vec<CString>,
    pub(super) args: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: Destination,
    pub(super) credentials: Credentials,
    /// Standard input, output and error; none of them is 0, 1 or 2 here.
    pub(super) stdio: Vec<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
}

/// The working directory.
pub(super) enum Destination {
    Path(CString),
    Opened(OwnedFd),
}

/// Whose rights it has.
pub(super) struct Credentials {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
}

/// The image as the kernel wants it, and where the child says what went wrong.
struct Prepared<'a> {
    image: &'a Image,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// Number of the error; 0 while there is none.
    errno: AtomicI32,
}

/// Starts a process.
pub(super) fn start(image: &Image) -> io::Result<Pid> {
    let prepared = Prepared {
        image,
        argv: pointers(&image.args),
        envp: pointers(&image.env),
        errno: AtomicI32::new(0),
    };
    let mut stack: Vec<MaybeUninit<u128>> = Vec::with_capacity(STACK_UNITS);
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let argument = ptr::from_ref(&prepared).cast_mut().cast::<c_void>();
    let before = block_signals()?;
    // SAFETY: `enter` gets the `Prepared` that it expects, and the top of a stack that nobody else
    // uses. CLONE_VFORK holds this thread until the child has executed or exited, so both outlive
    // the child's use of them, and of our memory.
    let pid = unsafe {
        libc::clone(enter, top.cast(), libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, argument)
    };
    let failed = io::Error::last_os_error();
    set_signals(&before)?;
    if pid < 0 {
        return Err(failed);
    }
    match prepared.errno.load(Ordering::Acquire) {
        0 => Pid::from_raw(pid).ok_or_else(|| io::Error::other("the kernel gave the process id 0")),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// Blocks all signals of this thread; returns those that were blocked before.
fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the pointer is to a set that the call fills.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::uninit();
    // SAFETY: `all` was filled above, and `before` is filled by the call.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    // SAFETY: the call succeeded, so it has filled the set.
    Ok(unsafe { before.assume_init() })
}

fn set_signals(signals: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialised, and the old one is not asked for.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, signals, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// The child's whole life before its program.
extern "C" fn enter(argument: *mut c_void) -> c_int {
    // SAFETY: `start` passes a pointer to a `Prepared` that lives until this child is gone from its
    // memory.
    let prepared = unsafe { &*argument.cast::<Prepared<'_>>() };
    let errno = match become_image(prepared.image) {
        Ok(()) => execute(prepared),
        Err(errno) => errno,
    };
    prepared.errno.store(errno.raw_os_error(), Ordering::Release);
    NEVER_RAN
}

fn become_image(image: &Image) -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    for (fd, target) in image.stdio.iter().zip(0..) {
        // SAFETY: the call takes two numbers. The child has a table of descriptors of its own, so
        // nothing of ours is closed by it.
        if unsafe { libc::dup2(fd.as_raw_fd(), target) } < 0 {
            return Err(last_errno());
        }
    }
    if let Some(terminal) = &image.terminal {
        rustix::process::ioctl_tiocsctty(terminal)?;
    }
    raise_oom_score();
    if let Destination::Opened(directory) = &image.cwd {
        rustix::process::fchdir(directory)?;
    }
    become_user(&image.credentials)?;
    if let Destination::Path(path) = &image.cwd {
        rustix::process::chdir(path)?;
    }
    keep_only_stdio();
    reset_signals()
}

/// Tries one file after the other; returns only when none could be executed.
fn execute(prepared: &Prepared<'_>) -> Errno {
    let mut worst = Errno::NOENT;
    for program in &prepared.image.programs {
        // SAFETY: all three are NUL-terminated, and the arrays end with a null pointer.
        unsafe { libc::execve(program.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr()) };
        match last_errno() {
            Errno::NOENT | Errno::NOTDIR => {}
            // Another directory may have one that can be executed.
            Errno::ACCESS => worst = Errno::ACCESS,
            errno => return errno,
        }
    }
    worst
}

/// Gives the calling thread, which here is a process, the rights of a user.
fn become_user(credentials: &Credentials) -> rustix::io::Result<()> {
    let Credentials { uid, gid, groups } = credentials;
    if rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_groups(groups)?;
        rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
        return rustix::thread::set_thread_res_uid(*uid, *uid, *uid);
    }
    // A daemon without rights (in tests) can only start processes of its own user.
    if rustix::process::geteuid() == *uid { Ok(()) } else { Err(Errno::PERM) }
}

/// Has `exec` close everything but standard input, output and error. All our descriptors close
/// themselves; this is for those that whoever started the daemon left open.
fn keep_only_stdio() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes three numbers and touches no memory of ours; a kernel that does not
    // know it says so, which changes nothing.
    unsafe {
        libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
}

/// Best effort: not every kernel lets us.
fn raise_oom_score() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _refused = rustix::io::write(&file, OOM_SCORE_ADJ);
    }
}

/// Leaves the program the signals as every program expects them.
fn reset_signals() -> rustix::io::Result<()> {
    for signal in DAEMON_SIGNALS {
        // SAFETY: the default disposition is no handler of ours. The child's table is its own.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(last_errno());
        }
    }
    let mut none = MaybeUninit::uninit();
    // SAFETY: the pointer is to a set that the call fills.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` was filled above.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(result)) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
