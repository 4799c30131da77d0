//! From a plan to a process: the only unsafe code of the daemon.
//!
//! Between `fork` and `exec` the child makes plain system calls only, on values that the parent
//! prepared: it neither allocates nor locks.

#![expect(unsafe_code, reason = "what happens between fork and exec has no safe interface")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Pid, Uid};

use crate::user::User;

/// What the kernel's killer of processes adds to a command's score, as in envd: commands go first,
/// the daemon last.
const OOM_SCORE_ADJ: &[u8] = b"100";

/// A process to be started: all is decided.
#[derive(Debug)]
pub(crate) struct Launch<'a, S> {
    /// The program; without a slash, looked up in `PATH` of `env`.
    pub(crate) program: &'a S,
    /// Its first argument, where that is not the program.
    pub(crate) argv0: Option<&'a S>,
    /// Its further arguments.
    pub(crate) args: &'a [S],
    /// Its whole environment.
    pub(crate) env: &'a BTreeMap<OsString, OsString>,
    /// Its working directory.
    pub(crate) cwd: Cwd<'a>,
    /// Whose rights it has.
    pub(crate) user: &'a User,
    /// Its standard input, output and error.
    pub(crate) stdio: [OwnedFd; 3],
    /// The descriptor among those that becomes its controlling terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

/// The working directory of a process.
#[derive(Debug)]
pub(crate) enum Cwd<'a> {
    /// At a path, which the user must be able to reach.
    Path(&'a Path),
    /// That directory, whatever the user may do there.
    Opened(OwnedFd),
}

/// A working directory, ready for use between `fork` and `exec`.
enum Destination {
    Path(CString),
    Opened(OwnedFd),
}

/// Starts it in a session of its own. Call this under the reaper's lock.
///
/// # Errors
/// The kernel's answer: the program or directory is missing, not permitted, a limit is reached.
pub(crate) fn launch<S: AsRef<OsStr>>(launch: Launch<'_, S>) -> io::Result<Pid> {
    let [stdin, stdout, stderr] = launch.stdio;
    let mut command = Command::new(launch.program);
    command.args(launch.args).env_clear().envs(launch.env);
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    if let Some(argv0) = launch.argv0 {
        command.arg0(argv0);
    }
    let cwd = match launch.cwd {
        Cwd::Path(path) => Destination::Path(CString::new(path.as_os_str().as_bytes())?),
        Cwd::Opened(directory) => Destination::Opened(directory),
    };
    let groups: Vec<Gid> = launch.user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(launch.user.uid), Gid::from_raw(launch.user.gid));
    let terminal = launch.terminal;
    let prepare = move || {
        rustix::process::setsid()?;
        if let Some(terminal) = &terminal {
            rustix::process::ioctl_tiocsctty(terminal)?;
        }
        raise_oom_score();
        keep_only_stdio();
        if let Destination::Opened(directory) = &cwd {
            rustix::process::fchdir(directory)?;
        }
        become_user(uid, gid, &groups)?;
        if let Destination::Path(path) = &cwd {
            rustix::process::chdir(path)?;
        }
        Ok(())
    };
    // SAFETY: `prepare` only makes system calls, with arguments allocated before the fork; rustix
    // issues them directly, so no lock of the C library is involved.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    // Dropping `Child` neither kills nor waits: the reaper waits.
    Pid::from_raw(child.id().cast_signed())
        .ok_or_else(|| io::Error::other("the kernel gave the process id 0"))
}

/// Gives the calling thread, which after a fork is the process, the rights of a user.
fn become_user(uid: Uid, gid: Gid, groups: &[Gid]) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_groups(groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        return Ok(());
    }
    // A daemon without rights (in tests) can only start processes of its own user.
    if rustix::process::geteuid() == uid {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
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
