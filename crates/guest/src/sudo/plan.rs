//! From a request to what exactly is to be run; nothing is started yet.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode as FileMode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::environment::{Environment, SECURE_PATH, Setting, environment, variable};
use super::request::{Caller, Mode, Run};
use super::text::Text;
use crate::user::{Accounts, LookupError, User};

/// The bits of a mode of which a command has at least one.
const EXECUTABLE_BITS: u32 = 0o111;

/// The user where none is named.
const ROOT: &str = "root";

/// What is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    /// The program: a path, absolute or relative to `folder`.
    pub(super) program: OsString,
    /// Its first argument.
    pub(super) argv0: OsString,
    /// Its further arguments.
    pub(super) args: Vec<OsString>,
    /// Its whole environment.
    pub(super) env: Environment,
    /// Its working directory.
    pub(super) folder: OwnedFd,
    /// Whose rights it has.
    pub(super) target: User,
}

/// Why a command cannot be run.
#[derive(Debug, Error)]
pub(super) enum PlanError {
    /// Nobody has that name or number.
    #[error("unknown user {name}")]
    UnknownUser {
        /// As asked for.
        name: String,
    },
    /// No group has that name, or the number is none.
    #[error("unknown group {name}")]
    UnknownGroup {
        /// As asked for.
        name: String,
    },
    /// The accounts cannot be read.
    #[error(transparent)]
    Accounts(#[from] LookupError),
    /// It is not in [`SECURE_PATH`], or there is nothing executable at that path.
    #[error("{name}: command not found")]
    NotFound {
        /// As asked for.
        name: String,
    },
    /// The working directory cannot be opened.
    #[error("unable to change directory to {name}: {}", std::io::Error::from(*errno))]
    Folder {
        /// As asked for.
        name: String,
        /// Why.
        errno: Errno,
    },
}

/// The account of who called.
///
/// # Errors
/// The accounts cannot be read.
pub(super) fn account(accounts: &Accounts, from: &Caller) -> Result<User, LookupError> {
    match accounts.lookup_uid(from.uid) {
        // Rights do not depend on it: whoever reached the daemon may have lost their account.
        Err(LookupError::UnknownUid { uid }) => Ok(User {
            name: format!("#{uid}"),
            uid,
            gid: from.gid,
            groups: vec![from.gid],
            home: "/".into(),
            shell: "/bin/sh".into(),
        }),
        known => known,
    }
}

impl Plan {
    /// Decides everything. `folder` is the caller's working directory.
    ///
    /// # Errors
    /// User, group, command or directory do not exist.
    pub(super) fn of(
        accounts: &Accounts,
        from: &Caller,
        run: &Run,
        folder: Option<OwnedFd>,
    ) -> Result<Self, PlanError> {
        let caller = account(accounts, from)?;
        let target = target(accounts, &caller, run)?;
        let folder = working_directory(folder, run, &target)?;
        let shell = match run.mode {
            Mode::Command => None,
            Mode::Login => Some(target.shell.clone()),
            Mode::Shell => Some(own_shell(from, &caller)),
        };
        let (program, argv0, args) = match shell {
            Some(shell) => shell_line(shell, run)?,
            None => command_line(&folder, &run.command)?,
        };
        let mut command = program.clone();
        for arg in &args {
            command.push(" ");
            command.push(arg);
        }
        let env =
            environment(from, run, Setting { caller: &caller.name, target: &target, command });
        Ok(Self { program, argv0, args, env, folder, target })
    }
}

/// The user that the command runs as, with the group that was asked for.
fn target(accounts: &Accounts, caller: &User, run: &Run) -> Result<User, PlanError> {
    let name = match (&run.user, &run.group) {
        (Some(name), _) => name,
        (None, Some(_group)) => &caller.name,
        (None, None) => ROOT,
    };
    let unknown = || PlanError::UnknownUser { name: name.to_owned() };
    let found = match name.strip_prefix('#') {
        Some(number) => accounts.lookup_uid(number.parse().map_err(|_not_one| unknown())?),
        None => accounts.lookup(name),
    };
    let mut target = match found {
        Err(LookupError::UnknownName { .. } | LookupError::UnknownUid { .. }) => {
            return Err(unknown());
        }
        found => found?,
    };
    if let Some(name) = &run.group {
        let gid = match name.strip_prefix('#') {
            Some(number) => number.parse().ok(),
            None => accounts.group(name),
        };
        target.gid = gid.ok_or_else(|| PlanError::UnknownGroup { name: name.clone() })?;
        if !target.groups.contains(&target.gid) {
            target.groups.insert(0, target.gid);
        }
    }
    Ok(target)
}

/// Opens the directory that was asked for; a login shell begins in a home, or in `/` without one.
pub(super) fn working_directory(
    folder: Option<OwnedFd>,
    run: &Run,
    target: &User,
) -> Result<OwnedFd, PlanError> {
    let open = |path: &Path, base: Option<&OwnedFd>| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match base {
            Some(base) => rustix::fs::openat(base, path, flags, FileMode::empty()),
            None => rustix::fs::open(path, flags, FileMode::empty()),
        };
        let name = path.display().to_string();
        opened.map_err(|errno| PlanError::Folder { name, errno })
    };
    let root = Path::new("/");
    match (&run.folder, run.mode, folder) {
        (Some(asked), _, folder) => {
            let base = folder.map_or_else(|| open(root, None), Ok)?;
            open(Path::new(&asked.0), Some(&base))
        }
        (None, Mode::Login, _) => open(&target.home, None).or_else(|_homeless| open(root, None)),
        (None, _, Some(folder)) => Ok(folder),
        (None, _, None) => open(root, None),
    }
}

/// The shell of `-s`: the one that the caller uses, or theirs by the accounts.
fn own_shell(from: &Caller, caller: &User) -> PathBuf {
    match variable(from, "SHELL").filter(|shell| !shell.is_empty()) {
        Some(shell) => shell.into(),
        None => caller.shell.clone(),
    }
}

type Line = (OsString, OsString, Vec<OsString>);

fn shell_line(shell: PathBuf, run: &Run) -> Result<Line, PlanError> {
    let base = shell.file_name().unwrap_or(shell.as_os_str());
    let mut argv0 = OsString::from(if run.mode == Mode::Login { "-" } else { "" });
    argv0.push(base);
    let program = if shell.is_absolute() {
        shell.clone().into_os_string()
    } else {
        let found = in_secure_path(shell.as_os_str());
        found.ok_or_else(|| PlanError::NotFound { name: shell.display().to_string() })?
    };
    let args = match run.command.as_slice() {
        [] => Vec::new(),
        words => vec!["-c".into(), quoted(words)],
    };
    Ok((program, argv0, args))
}

fn command_line(folder: &OwnedFd, command: &[Text]) -> Result<Line, PlanError> {
    let none = || PlanError::NotFound { name: String::new() };
    let (name, args) = command.split_first().ok_or_else(none)?;
    let program =
        locate(folder, &name.0).ok_or_else(|| PlanError::NotFound { name: name.shown() })?;
    Ok((program, name.0.clone(), args.iter().map(|arg| arg.0.clone()).collect()))
}

/// Where a command is: at that path, if it has a slash, else in [`SECURE_PATH`].
pub(super) fn locate(folder: &OwnedFd, name: &OsStr) -> Option<OsString> {
    if name.is_empty() {
        return None;
    }
    if !name.as_bytes().contains(&b'/') {
        return in_secure_path(name);
    }
    is_command(folder, Path::new(name)).then(|| name.to_owned())
}

fn in_secure_path(name: &OsStr) -> Option<OsString> {
    let mut candidates = SECURE_PATH.split(':').map(|directory| Path::new(directory).join(name));
    let found = candidates.find(|path| is_command(rustix::fs::CWD, path))?;
    Some(found.into_os_string())
}

fn is_command(base: impl std::os::fd::AsFd, path: &Path) -> bool {
    rustix::fs::statat(base, path, AtFlags::empty()).is_ok_and(|status| {
        FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
            && status.st_mode & EXECUTABLE_BITS != 0
    })
}

/// The words as one line for a shell, quoted as sudo(8) says: letters, digits, `_`, `-` and `$` are
/// themselves, so variables are those of the target.
fn quoted(words: &[Text]) -> OsString {
    let mut line = Vec::new();
    for (place, word) in words.iter().enumerate() {
        if place > 0 {
            line.push(b' ');
        }
        if word.bytes().is_empty() {
            line.extend_from_slice(b"''");
        }
        for byte in word.bytes() {
            match byte {
                // A backslash before it would take it away.
                b'\n' => line.extend_from_slice(b"'\n'"),
                // Parts of longer characters, which a shell would not see as one any more.
                0x80.. => line.push(*byte),
                b'_' | b'-' | b'$' => line.push(*byte),
                byte if byte.is_ascii_alphanumeric() => line.push(*byte),
                byte => line.extend_from_slice(&[b'\\', *byte]),
            }
        }
    }
    OsString::from_vec(line)
}

#[cfg(test)]
mod tests;
