//! From root to an ordinary user: what needs root is the launcher's, and it runs by then.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::config;
use crate::folder;
use crate::passwd::{self, User};

/// The system user that the server runs as.
pub(crate) const USER: &str = "courier";
/// Root's, writable for the user's group, and sticky: nobody renames what is another's.
const DATA_MODE: Mode = Mode::from_raw_mode(0o1775);
/// Deepest folder below one that is given with all that is in it: more than the server makes.
const DEPTH_MAX: u32 = 8;
const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The user that a server started by root runs as: [`USER`], unless there is none or root shall
/// stay root.
pub(crate) fn user_to_be(stay: bool) -> anyhow::Result<User> {
    if stay {
        return Ok(User::ROOT);
    }
    let user =
        passwd::find(USER).context("the users of this machine cannot be read from /etc/passwd")?;
    if user.is_none() {
        tracing::warn!(
            "the server runs as root, which it does not need: make a user for it with \
             `useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {USER}`"
        );
    }
    // A user of that name that is root by another name would start itself again without an end.
    Ok(user.filter(|user| user.uid != User::ROOT.uid).unwrap_or(User::ROOT))
}

/// Gives the user what the server writes, and the right to make files in the data folder.
///
/// The folder itself stays root's, and sticky: so the launcher's folder and the templates in it,
/// which root uses again at the next start, can be neither renamed nor replaced by the user. Every
/// step goes by descriptors: what the user puts in our way (a symbolic or a hard link) leads no
/// `chown` elsewhere.
pub(crate) fn hand_over(data: &Path, user: User, domain: Option<&str>) -> anyhow::Result<()> {
    hand_over_files(data, user, domain)
        .with_context(|| format!("{} cannot be given to user {}", data.display(), user.uid))
}

fn hand_over_files(data: &Path, user: User, domain: Option<&str>) -> anyhow::Result<()> {
    let folder = rustix::fs::open(data, FOLDER_FLAGS, Mode::empty())?;
    rustix::fs::fchown(&folder, Some(Uid::ROOT), Some(Gid::from_raw(user.gid)))?;
    rustix::fs::fchmod(&folder, DATA_MODE)?;
    for name in folder::SERVER_FILES {
        give_file(&folder, name.as_ref(), user)?;
    }
    // Where the server ran as root once, what it made in them is root's.
    for name in folder::SERVER_FOLDERS {
        if let Some(own) = give_folder(&folder, name.as_ref(), user)? {
            give_content(&own, user, DEPTH_MAX).with_context(|| name.to_owned())?;
        }
    }
    let Some(domain) = domain else { return Ok(()) };
    let Some(all) = give_folder(&folder, folder::CA.as_ref(), user)? else { return Ok(()) };
    let Some(own) = give_folder(&all, domain.as_ref(), user)? else { return Ok(()) };
    for name in folder::CA_FILES {
        give_file(&own, name.as_ref(), user)?;
    }
    Ok(())
}

/// Gives a folder right in another, where it is there.
fn give_folder(parent: &OwnedFd, name: &OsStr, user: User) -> anyhow::Result<Option<OwnedFd>> {
    let flags = FOLDER_FLAGS | OFlags::NOFOLLOW;
    let folder = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => {
            return Err(std::io::Error::from(errno)).with_context(|| name.display().to_string());
        }
    };
    give(&folder, user)?;
    Ok(Some(folder))
}

/// Gives whatever a folder has that is not the user's yet.
fn give_content(folder: &OwnedFd, user: User, depth: u32) -> anyhow::Result<()> {
    anyhow::ensure!(depth > 0, "there are more than {DEPTH_MAX} folders in one another");
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let found = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            if let Some(inner) = give_folder(folder, name, user)? {
                give_content(&inner, user, depth - 1)?;
            }
        } else if found.st_uid != user.uid {
            give_file(folder, name, user)?;
        }
    }
    Ok(())
}

/// Gives a file right in a folder, where it is there.
fn give_file(parent: &OwnedFd, name: &OsStr, user: User) -> anyhow::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => {
            return Err(std::io::Error::from(errno)).with_context(|| name.display().to_string());
        }
    };
    let found = rustix::fs::fstat(&file)?;
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    let is_plain = is_file && found.st_nlink == 1;
    anyhow::ensure!(is_plain, "{} is no plain file with one name", name.display());
    give(&file, user)
}

fn give(what: &OwnedFd, user: User) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    Ok(rustix::fs::fchown(what, Some(uid), Some(gid))?)
}

/// Starts this program again as the user, with the same flags and data folder. Of root's environment
/// only what is meant for us goes along: the rest is none of a less trusted user's business, and
/// names root's own places. Returns only on failure.
pub(crate) fn become_user(user: User, data: &Path) -> anyhow::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .env_clear()
        .envs(config::own_variables())
        .env(config::DATA_VARIABLE, data)
        // Without root, the standard library also drops the supplementary groups.
        .uid(user.uid)
        .gid(user.gid)
        .exec();
    anyhow::Error::new(error).context(format!(
        "{} cannot be started as user {USER}: can that user execute it?",
        program.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    /// Ourselves: handing over to anybody else needs root.
    fn me() -> User {
        User { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_stops_the_hand_over() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "root's").unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&secret, data.join("api-key")).unwrap();
        let victim = User { uid: 12_345, gid: 12_345 };
        assert!(hand_over(&data, victim, None).is_err());
        std::fs::remove_file(data.join("api-key")).unwrap();
        std::fs::hard_link(&secret, data.join("api-key")).unwrap();
        assert!(hand_over(&data, victim, None).is_err());
        assert_eq!(std::fs::metadata(&secret).unwrap().uid(), 0);
    }

    #[test]
    fn the_data_folder_stays_roots_and_sticky() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("courier.db"), "").unwrap();
        hand_over(dir.path(), User { uid: 12_345, ..me() }, Some("e2b.test")).unwrap();
        let folder = std::fs::metadata(dir.path()).unwrap();
        assert_eq!((folder.uid(), folder.mode() & 0o7777), (0, 0o1775));
        assert_eq!(std::fs::metadata(dir.path().join("courier.db")).unwrap().uid(), 12_345);
    }

    #[test]
    fn what_a_server_made_as_root_is_given_but_nothing_that_a_link_leads_to() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "root's").unwrap();
        let data = dir.path().join("data");
        let (layers, uploads) = (data.join("images/layers"), data.join("uploads/p1"));
        for folder in [&layers, &uploads] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("file"), "").unwrap();
        }
        let user = User { uid: 12_345, gid: 12_345 };
        hand_over(&data, user, None).unwrap();
        for given in [&layers, &layers.join("file"), &uploads, &uploads.join("file")] {
            assert_eq!(std::fs::metadata(given).unwrap().uid(), user.uid, "{}", given.display());
        }
        // A link of the user's own is left alone, and one of anybody else's ends it.
        let link = uploads.join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert!(hand_over(&data, user, None).is_err());
        std::os::unix::fs::lchown(&link, Some(user.uid), Some(user.gid)).unwrap();
        hand_over(&data, user, None).unwrap();
        std::fs::hard_link(&secret, layers.join("link")).unwrap();
        assert!(hand_over(&data, user, None).is_err());
        assert_eq!(std::fs::metadata(&secret).unwrap().uid(), 0);
    }
}
