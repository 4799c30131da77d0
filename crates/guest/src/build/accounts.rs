//! Makes users in `/etc/passwd` and `/etc/group`, as they are on Debian and Alpine alike. An image
//! may have no program that does it.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use courier_protocol::envd::build::Account;

use crate::user::{Accounts, LookupError};

/// The first number that is given: where distributions begin to count people.
const FIRST_ID: u32 = 1_000;

/// The last number that is given; `nobody` and others come behind it.
const LAST_ID: u32 = 59_999;

/// Numbers of groups of the system that are given, from the highest on: as `groupadd --system`.
const SYSTEM_IDS: std::ops::RangeInclusive<u32> = 100..=999;

/// Most bytes of a name, as Linux has it (`LOGIN_NAME_MAX`).
const NAME_MAX: usize = 32;

/// Most bytes of a file of accounts.
const FILE_MAX: u64 = 1 << 20;

/// Most levels and entries of `/etc/skel`; distributions have two and some ten.
const SKELETON_DEPTH_MAX: u32 = 8;
const SKELETON_ENTRIES_MAX: usize = 1_000;

/// The shell of a user who is made.
const SHELL: &str = "/bin/bash";

/// What is given to a new user, and to the home of one.
const SKELETON: &str = "etc/skel";

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
const SHADOW: &str = "etc/shadow";

/// Why a user was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// It is no name.
    #[error(
        "{name:?} cannot be a user's name: use 1 to {NAME_MAX} of a-z, A-Z, 0-9, '_', '.' and '-', \
         not a digit, '.' or '-' first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// All numbers are taken.
    #[error("no number is free for {name}")]
    NoNumber {
        /// The user or group.
        name: String,
    },
    /// A file is too long to be one of accounts.
    #[error("/{path} is longer than {FILE_MAX} bytes")]
    TooLong {
        /// Which.
        path: &'static str,
    },
    /// The new user cannot be found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The user of that name; made, with a group of the same name and a home, where there is none.
///
/// # Errors
/// [`AccountError`].
pub(crate) fn ensure(root: &Path, name: &str) -> Result<Account, AccountError> {
    let accounts = Accounts::under(root);
    let user = match accounts.lookup(name) {
        Ok(user) => user,
        Err(LookupError::UnknownName { .. }) => {
            check(name)?;
            add(root, name)?;
            // What was read before does not have the user.
            Accounts::under(root).lookup(name)?
        }
        // An image made from nothing has no users at all, not even root.
        Err(LookupError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            check(name)?;
            append(root, PASSWD, "root:x:0:0:root:/root:/bin/sh")?;
            add(root, name)?;
            Accounts::under(root).lookup(name)?
        }
        Err(error) => return Err(error.into()),
    };
    let home = user.home.strip_prefix("/").unwrap_or(&user.home);
    make_home(root, home, (user.uid, user.gid))?;
    Ok(Account {
        name: user.name,
        uid: user.uid,
        gid: user.gid,
        home: user.home.to_string_lossy().into_owned(),
    })
}

/// Makes a group of the system where there is none, and the user a member of it.
///
/// # Errors
/// [`AccountError`].
pub(super) fn ensure_member(root: &Path, group: &str, user: &str) -> Result<(), AccountError> {
    let text = read(root, GROUP)?;
    let mut is_found = false;
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut fields = line.splitn(4, ':');
            let is_group = fields.next() == Some(group);
            if !is_group {
                return line.to_owned();
            }
            is_found = true;
            let members = fields.nth(2).unwrap_or_default();
            if members.split(',').any(|member| member.trim() == user) {
                return line.to_owned();
            }
            let separator = if members.is_empty() { "" } else { "," };
            format!("{line}{separator}{user}")
        })
        .collect();
    if is_found {
        let changed = lines.join("\n") + "\n";
        return if changed == text { Ok(()) } else { write(root, GROUP, &changed) };
    }
    let taken = numbers(&text);
    let gid = SYSTEM_IDS.rev().find(|gid| !taken.contains(gid));
    let gid = gid.ok_or_else(|| AccountError::NoNumber { name: group.to_owned() })?;
    append(root, GROUP, &format!("{group}:x:{gid}:{user}"))
}

fn check(name: &str) -> Result<(), AccountError> {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if begins && name.len() <= NAME_MAX && name.bytes().all(is_char) {
        Ok(())
    } else {
        let name = name.chars().take(64).collect();
        Err(AccountError::Name { name })
    }
}

/// Adds the lines of a user and, where it has none, of their group.
fn add(root: &Path, name: &str) -> Result<(), AccountError> {
    let (users, groups) = (read(root, PASSWD)?, read(root, GROUP)?);
    let taken = numbers(&users);
    let own_group = Accounts::under(root).group(name);
    let mut reserved = numbers(&groups);
    if let Some(gid) = own_group {
        reserved.remove(&gid);
    }
    let uid = (FIRST_ID..=LAST_ID).find(|id| !taken.contains(id) && !reserved.contains(id));
    let uid = uid.ok_or_else(|| AccountError::NoNumber { name: name.to_owned() })?;
    let gid = own_group.unwrap_or(uid);
    if own_group.is_none() {
        append(root, GROUP, &format!("{name}:x:{gid}:"))?;
    }
    let has_shadow = root.join(SHADOW).is_file();
    if has_shadow {
        // No password is right; days since 1970 do not matter then.
        append(root, SHADOW, &format!("{name}:*:::::::"))?;
    }
    let password = if has_shadow { "x" } else { "*" };
    append(root, PASSWD, &format!("{name}:{password}:{uid}:{gid}::/home/{name}:{SHELL}"))
}

/// The numbers of all lines, in the third field of users and groups alike.
fn numbers(text: &str) -> HashSet<u32> {
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

/// A file's text; empty where there is none. What is not UTF-8 stays out of what is written here.
fn read(root: &Path, path: &'static str) -> Result<String, AccountError> {
    let full = root.join(path);
    match fs::metadata(&full) {
        Ok(status) if status.size() > FILE_MAX => return Err(AccountError::TooLong { path }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(AccountError::Write { path: full, source }),
    }
    fs::read_to_string(&full).map_err(|source| AccountError::Write { path: full, source })
}

/// Adds a line.
fn append(root: &Path, path: &'static str, line: &str) -> Result<(), AccountError> {
    let text = read(root, path)?;
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    write(root, path, &format!("{text}{separator}{line}\n"))
}

/// Replaces a file at once; it keeps its mode.
fn write(root: &Path, path: &str, text: &str) -> Result<(), AccountError> {
    let full = root.join(path);
    let failed = |source| AccountError::Write { path: full.clone(), source };
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let status = fs::metadata(&full);
    let mode = status.as_ref().map_or(0o644, |status| status.mode() & 0o777);
    let temporary = full.with_extension("courier-new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&temporary).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    if let Ok(status) = &status {
        std::os::unix::fs::fchown(&file, Some(status.uid()), Some(status.gid())).map_err(failed)?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    fs::rename(&temporary, &full).map_err(failed)
}

/// Makes a home as `useradd --create-home` does; one that is there stays as it is.
fn make_home(root: &Path, home: &Path, owner: (u32, u32)) -> Result<(), AccountError> {
    let full = root.join(home);
    if home.as_os_str().is_empty() || full.symlink_metadata().is_ok() {
        return Ok(());
    }
    let failed = |source| AccountError::Write { path: full.clone(), source };
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::DirBuilder::new().mode(0o755).create(&full).map_err(failed)?;
    std::os::unix::fs::chown(&full, Some(owner.0), Some(owner.1)).map_err(failed)?;
    let mut left = SKELETON_ENTRIES_MAX;
    copy_skeleton(&root.join(SKELETON), &full, (owner, SKELETON_DEPTH_MAX), &mut left)
        .map_err(failed)
}

/// Copies what is in a folder, as the owner's. What is neither file, folder nor link is left out.
fn copy_skeleton(
    from: &Path,
    to: &Path,
    (owner, depth): ((u32, u32), u32),
    left: &mut usize,
) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if *left == 0 || depth == 0 {
            return Ok(());
        }
        *left -= 1;
        let (status, target) = (entry.metadata()?, to.join(entry.file_name()));
        if status.is_dir() {
            fs::DirBuilder::new().mode(status.mode() & 0o777).create(&target)?;
            copy_skeleton(&entry.path(), &target, (owner, depth - 1), left)?;
        } else if status.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else if status.is_file() {
            fs::copy(entry.path(), &target)?;
        } else {
            continue;
        }
        std::os::unix::fs::lchown(&target, Some(owner.0), Some(owner.1))?;
    }
    Ok(())
}
