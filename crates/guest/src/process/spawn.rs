//! From a plan to a process.
//!
//! Everything that needs memory or may fail for the caller's reasons is done here, in the parent;
//! what remains between `clone` and `exec` is in [`child`].

mod child;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Gid, Pid, Uid};

use crate::user::User;
use child::{Credentials, Destination, Image};

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The first descriptor that is none of standard input, output and error.
const FIRST_FREE: i32 = 3;

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

/// Starts it in a session of its own. Call this under the reaper's lock, which reaps what could not
/// be started, too.
///
/// # Errors
/// The kernel's answer: the program or directory is missing, not permitted, a limit is reached.
pub(crate) fn launch<S: AsRef<OsStr>>(launch: Launch<'_, S>) -> io::Result<Pid> {
    let program = launch.program.as_ref();
    let argv0 = launch.argv0.map_or(program, AsRef::as_ref);
    let mut args = vec![CString::new(argv0.as_bytes())?];
    for arg in launch.args {
        args.push(CString::new(arg.as_ref().as_bytes())?);
    }
    let mut env = Vec::with_capacity(launch.env.len());
    for (name, value) in launch.env {
        env.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    let mut stdio = Vec::with_capacity(launch.stdio.len());
    for fd in launch.stdio {
        // The child moves them to 0, 1 and 2, which must not overwrite one that comes later.
        let clear = fd.as_raw_fd() >= FIRST_FREE;
        stdio.push(if clear { fd } else { rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE)? });
    }
    let user = launch.user;
    let credentials = Credentials {
        uid: Uid::from_raw(user.uid),
        gid: Gid::from_raw(user.gid),
        groups: user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
    };
    let image = Image {
        programs: candidates(program, launch.env)?,
        args,
        env,
        cwd: match launch.cwd {
            Cwd::Path(path) => Destination::Path(CString::new(path.as_os_str().as_bytes())?),
            Cwd::Opened(directory) => Destination::Opened(directory),
        },
        credentials,
        stdio,
        terminal: launch.terminal,
    };
    child::start(&image)
}

/// The files that the program may be, in the order in which `execvp` tries them.
fn candidates(program: &OsStr, env: &BTreeMap<OsString, OsString>) -> io::Result<Vec<CString>> {
    let program = program.as_bytes();
    if program.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if program.contains(&b'/') {
        return Ok(vec![CString::new(program)?]);
    }
    let path = env.get(OsStr::new("PATH")).map_or(DEFAULT_PATH.as_bytes(), |path| path.as_bytes());
    let mut files = Vec::new();
    for directory in path.split(|byte| *byte == b':') {
        // An empty entry is the working directory.
        let directory = if directory.is_empty() { b"." } else { directory };
        files.push(CString::new([directory, b"/", program].concat())?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_for_in_the_commands_own_path() {
        let env = BTreeMap::from([("PATH".into(), "/a::/b/c".into())]);
        let files = candidates(OsStr::new("ls"), &env).unwrap();
        let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(files, ["/a/ls", "./ls", "/b/c/ls"]);
        assert_eq!(candidates(OsStr::new("./x"), &env).unwrap(), [c"./x".to_owned()]);
        assert!(candidates(OsStr::new(""), &env).is_err());
    }
}
