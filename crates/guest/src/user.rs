//! Who is who inside the sandbox, from `/etc/passwd` and `/etc/group`.
//!
//! The daemon is statically linked, so the C library's name services are out of reach; both files
//! are read here, again whenever they changed (a command may have added a user a moment ago). The
//! sandbox's image and its commands wrote them: whatever they hold, reading is bounded and a line
//! that does not parse is skipped, as the C library does.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

/// Most bytes read of either file; what is beyond is not seen. Some 10,000 users fit.
const FILE_MAX: u64 = 1 << 20;

/// Most supplementary groups of one user. The kernel allows 65,536; no image comes near.
const GROUPS_MAX: usize = 1_024;

/// The shell of a user whose line names none; as in passwd(5).
const DEFAULT_SHELL: &str = "/bin/sh";

/// One user, as a process of theirs needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// Login name.
    pub(crate) name: String,
    /// Numeric user id.
    pub(crate) uid: u32,
    /// Numeric id of the primary group.
    pub(crate) gid: u32,
    /// All groups, the primary one first, each once.
    pub(crate) groups: Vec<u32>,
    /// Home directory; `/` where the line names none that is absolute.
    pub(crate) home: PathBuf,
    /// Login shell.
    pub(crate) shell: PathBuf,
}

/// Why a user could not be found.
#[derive(Debug, Error)]
pub(crate) enum LookupError {
    /// No line has that name. The text is part of the wire.
    #[error("invalid username: '{name}'")]
    UnknownName {
        /// The name asked for.
        name: String,
    },
    /// No line has that number.
    #[error("no user has the id {uid}")]
    UnknownUid {
        /// The number asked for.
        uid: u32,
    },
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Finds users and groups under one root directory. Clones share what was read.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    passwd: Arc<Source>,
    group: Arc<Source>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::under(Path::new("/"))
    }
}

impl Accounts {
    /// The accounts of the system whose root directory is `root`.
    pub(crate) fn under(root: &Path) -> Self {
        let source = |path| Arc::new(Source { path: root.join(path), last: Mutex::default() });
        Self { passwd: source("etc/passwd"), group: source("etc/group") }
    }

    /// The user of that name.
    ///
    /// # Errors
    /// [`LookupError::UnknownName`], or [`LookupError::Read`] when there is no readable `passwd`.
    pub(crate) fn lookup(&self, name: &str) -> Result<User, LookupError> {
        let text = self.passwd.text()?;
        passwd_lines(&text)
            .find(|line| line.name == name)
            .map(|line| self.user(&line))
            .ok_or_else(|| LookupError::UnknownName { name: name.to_owned() })
    }

    /// The first user of that number.
    ///
    /// # Errors
    /// [`LookupError::UnknownUid`], or [`LookupError::Read`] when there is no readable `passwd`.
    pub(crate) fn lookup_uid(&self, uid: u32) -> Result<User, LookupError> {
        let text = self.passwd.text()?;
        passwd_lines(&text)
            .find(|line| line.uid == uid)
            .map(|line| self.user(&line))
            .ok_or(LookupError::UnknownUid { uid })
    }

    /// The number of the group of that name; none where there is no such group.
    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        let text = self.group.text().ok()?;
        group_lines(&text).find(|line| line.name == name).map(|line| line.gid)
    }

    /// The names of all users and groups, to be asked many times.
    pub(crate) fn names(&self) -> Names {
        let passwd = self.passwd.text().unwrap_or_default();
        let group = self.group.text().unwrap_or_default();
        let mut names = Names::default();
        for line in passwd_lines(&passwd) {
            names.users.entry(line.uid).or_insert_with(|| line.name.to_owned());
        }
        for line in group_lines(&group) {
            names.groups.entry(line.gid).or_insert_with(|| line.name.to_owned());
        }
        names
    }

    fn user(&self, line: &PasswdLine<'_>) -> User {
        let mut groups = vec![line.gid];
        // A system without a readable group file has no supplementary groups.
        let text = self.group.text().unwrap_or_default();
        for group in group_lines(&text) {
            let is_member = group.members.split(',').any(|member| member.trim() == line.name);
            if is_member && groups.len() < GROUPS_MAX && !groups.contains(&group.gid) {
                groups.push(group.gid);
            }
        }
        let home = if line.home.starts_with('/') { line.home } else { "/" };
        let shell = if line.shell.is_empty() { DEFAULT_SHELL } else { line.shell };
        User {
            name: line.name.to_owned(),
            uid: line.uid,
            gid: line.gid,
            groups,
            home: home.into(),
            shell: shell.into(),
        }
    }
}

/// Names of users and groups by number, as they were at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    users: std::collections::HashMap<u32, String>,
    groups: std::collections::HashMap<u32, String>,
}

impl Names {
    /// The name of a user, or their number where there is none.
    pub(crate) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    /// The name of a group, or its number where there is none.
    pub(crate) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let _comment = fields.next()?;
        let home = fields.next()?;
        let shell = fields.next().unwrap_or_default();
        Some(PasswdLine { name, uid, gid, home, shell })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let _password = fields.next()?;
        let gid = fields.next()?.parse().ok()?;
        let members = fields.next().unwrap_or_default();
        Some(GroupLine { name, gid, members })
    })
}

/// One of the two files, with its text as it was read last.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Arc<str>)>>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(status: &Metadata) -> Self {
        Self {
            device: status.dev(),
            inode: status.ino(),
            size: status.size(),
            modified: (status.mtime(), status.mtime_nsec()),
            changed: (status.ctime(), status.ctime_nsec()),
        }
    }
}

impl Source {
    /// At most [`FILE_MAX`] bytes of the file, had without waiting, whatever stands in its place (a
    /// FIFO put there by a command must not hang the daemon).
    fn text(&self) -> Result<Arc<str>, LookupError> {
        let failed = |source: io::Error| LookupError::Read { path: self.path.clone(), source };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::from(&std::fs::metadata(&self.path).map_err(failed)?);
        if let Some((known, text)) = &*last
            && *known == stamp
        {
            return Ok(Arc::clone(text));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        let file = File::from(file);
        // Before its text: a change while it is read shows the next time.
        let status = file.metadata().map_err(failed)?;
        if !status.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let text: Arc<str> = String::from_utf8_lossy(&bytes).into();
        *last = Some((Stamp::from(&status), Arc::clone(&text)));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(passwd: &str, group: &str) -> (tempfile::TempDir, Accounts) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(root.path().join("etc/group"), group).unwrap();
        let accounts = Accounts::under(root.path());
        (root, accounts)
    }

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:\n";
    const GROUP: &str = "root:x:0:\nuser:x:1000:\nsudo:x:27:other,user\ndocker:x:99:user,user\n";

    #[test]
    fn a_user_has_their_line_and_all_their_groups_each_once() {
        let (_root, accounts) = accounts(PASSWD, GROUP);
        let user = accounts.lookup("user").unwrap();
        assert_eq!((user.uid, user.gid), (1000, 1000));
        assert_eq!(user.groups, [1000, 27, 99]);
        assert_eq!(user.home, Path::new("/home/user"));
        assert_eq!(user.shell, Path::new("/bin/sh"), "an empty shell is the default one");
        assert_eq!(accounts.lookup_uid(0).unwrap().name, "root");
        assert_eq!((accounts.group("sudo"), accounts.group("wheel")), (Some(27), None));
    }

    #[test]
    fn an_unknown_name_is_told_in_the_words_of_the_wire() {
        let (_root, accounts) = accounts(PASSWD, GROUP);
        let error = accounts.lookup("nobody").unwrap_err();
        assert_eq!(error.to_string(), "invalid username: 'nobody'");
        assert!(matches!(accounts.lookup_uid(7), Err(LookupError::UnknownUid { uid: 7 })));
    }

    #[test]
    fn lines_that_do_not_parse_are_skipped() {
        let (_root, accounts) =
            accounts(&format!("# comment\n\n:x:1:1::/:\nbad:x:many:0::/:\nshort:x\n{PASSWD}"), "x");
        assert_eq!(accounts.lookup("user").unwrap().groups, [1000]);
        assert!(accounts.lookup("bad").is_err());
        assert!(accounts.lookup("").is_err());
    }

    #[test]
    fn a_fifo_in_place_of_passwd_is_refused_at_once() {
        let (root, accounts) = accounts(PASSWD, GROUP);
        let path = root.path().join("etc/passwd");
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(accounts.lookup("user"), Err(LookupError::Read { .. })));
    }

    #[test]
    fn a_user_who_was_just_added_is_found() {
        let (root, accounts) = accounts(PASSWD, GROUP);
        assert!(accounts.lookup("ada").is_err());
        let path = root.path().join("etc/passwd");
        std::fs::write(&path, format!("{PASSWD}ada:x:7:7::/:\n")).unwrap();
        assert_eq!(accounts.lookup("ada").unwrap().uid, 7);
        std::fs::write(path.with_extension("new"), format!("{PASSWD}ada:x:8:8::/:\n")).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        assert_eq!(accounts.lookup("ada").unwrap().uid, 8);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(accounts.lookup("ada"), Err(LookupError::Read { .. })));
    }

    #[test]
    fn numbers_without_a_name_stand_for_themselves() {
        let (_root, accounts) = accounts(PASSWD, GROUP);
        let names = accounts.names();
        assert_eq!((names.user(1000).as_str(), names.group(27).as_str()), ("user", "sudo"));
        assert_eq!((names.user(4242).as_str(), names.group(4242).as_str()), ("4242", "4242"));
    }
}
