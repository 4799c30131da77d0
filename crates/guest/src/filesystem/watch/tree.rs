//! The directories of one watch, and how events change which they are.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use courier_protocol::envd::filesystem::EventType;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::super::error::FilesystemError;
use super::Told;
use super::raw::{self, RawEvent};

/// Most directories of one watch. Linux's default allows a user 8,192 or more in all.
pub(crate) const DIRECTORIES_MAX: usize = 8_192;

/// How far down a watch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The directory's own entries.
    Directory,
    /// Everything below it, directories to come included.
    Recursive,
}

/// The inotify instance of one watch, and what each of the kernel's watches in it stands for.
#[derive(Debug)]
pub(crate) struct Tree {
    inotify: OwnedFd,
    /// The watched directory as it was asked for.
    root: PathBuf,
    /// The same without links.
    real: PathBuf,
    scope: Scope,
    /// The watched directories by the kernel's number, relative to the root.
    directories: Mutex<HashMap<i32, PathBuf>>,
}

/// Whether a directory was watched before.
enum Added {
    New(i32),
    Known,
    /// It is gone, or no directory.
    Gone,
}

impl Tree {
    /// Begins to watch the directory at `root`.
    ///
    /// # Errors
    /// [`FilesystemError`], when it is none or there are too many.
    pub(crate) fn watch(root: PathBuf, scope: Scope) -> Result<Self, FilesystemError> {
        let failed = |source| FilesystemError::io("watch", &root, source);
        let real = fs::canonicalize(&root).map_err(failed)?;
        if !fs::metadata(&real).map_err(failed)?.is_dir() {
            return Err(FilesystemError::NotADirectory { path: root });
        }
        let inotify = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Err(Errno::MFILE | Errno::NFILE) => return Err(FilesystemError::TooManyWatches),
            other => other.map_err(|errno| FilesystemError::io("watch", &root, errno))?,
        };
        let tree = Self { inotify, root, real, scope, directories: Mutex::default() };
        if matches!(tree.add(Path::new(""))?, Added::Gone) {
            return Err(FilesystemError::Missing { path: tree.root });
        }
        if scope == Scope::Recursive {
            tree.add_below(PathBuf::new())?;
        }
        Ok(tree)
    }

    /// The watched directory as it was asked for.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(super) fn inotify(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Whether directories that come to be below it are watched too.
    pub(crate) fn is_recursive(&self) -> bool {
        self.scope == Scope::Recursive
    }

    /// Watches a directory that the daemon has just made and put nothing into. `path` is without
    /// links.
    ///
    /// # Errors
    /// [`FilesystemError`], when it cannot be watched.
    pub(crate) fn add_made(&self, path: &Path) -> Result<(), FilesystemError> {
        match path.strip_prefix(&self.real) {
            Ok(relative) if self.is_recursive() => self.add(relative).map(drop),
            _ => Ok(()),
        }
    }

    /// What `event` tells, and the changes of the tree that it asks for. Events that belong to it
    /// may be taken from or added to `pending`.
    pub(super) fn take_in(
        &self,
        event: &RawEvent,
        pending: &mut VecDeque<RawEvent>,
        told: &mut Vec<Told>,
    ) -> Result<(), FilesystemError> {
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err(FilesystemError::EventsLost { path: self.root.clone() });
        }
        let Some(directory) = self.directories().get(&event.watch).cloned() else {
            // Of a directory that has been moved away meanwhile.
            return Ok(());
        };
        if event.flags.contains(ReadFlags::IGNORED) {
            self.directories().remove(&event.watch);
            return Ok(());
        }
        let Some(name) = &event.name else {
            // A directory below is told of by the one above it.
            if directory.as_os_str().is_empty() {
                told.extend(kinds(event.flags).map(|kind| Told { path: PathBuf::new(), kind }));
            }
            return Ok(());
        };
        let path = directory.join(name);
        told.extend(kinds(event.flags).map(|kind| Told { path: path.clone(), kind }));
        if self.is_recursive() && event.flags.contains(ReadFlags::ISDIR) {
            self.follow(event, path, pending, told)?;
        }
        Ok(())
    }

    /// Keeps the tree complete when a directory came, moved or went.
    fn follow(
        &self,
        event: &RawEvent,
        path: PathBuf,
        pending: &mut VecDeque<RawEvent>,
        told: &mut Vec<Told>,
    ) -> Result<(), FilesystemError> {
        if event.flags.contains(ReadFlags::CREATE) {
            self.enter(path, pending, told)
        } else if event.flags.contains(ReadFlags::MOVED_TO) {
            if !matches!(self.add(&path)?, Added::Gone) {
                self.add_below(path)?;
            }
            Ok(())
        } else if event.flags.contains(ReadFlags::MOVED_FROM) {
            if pending.is_empty() {
                raw::read_some(self, pending)?;
            }
            let arrival = pending.front().filter(|next| next.cookie == event.cookie);
            let arrival = arrival.and_then(|next| {
                let directory = self.directories().get(&next.watch).cloned()?;
                Some(directory.join(next.name.as_ref()?))
            });
            self.relocate(&path, arrival.as_deref());
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Watches a directory that someone made, and tells what is in it already and will not be told
    /// by the kernel.
    fn enter(
        &self,
        path: PathBuf,
        pending: &mut VecDeque<RawEvent>,
        told: &mut Vec<Told>,
    ) -> Result<(), FilesystemError> {
        let mut to_enter = vec![path];
        while let Some(path) = to_enter.pop() {
            let Added::New(watch) = self.add(&path)? else { continue };
            let Ok(children) = fs::read_dir(self.real.join(&path)) else { continue };
            let mut children: Vec<_> = children.filter_map(Result::ok).collect();
            children.sort_by_key(fs::DirEntry::file_name);
            raw::read_all(self, pending)?;
            let waiting: HashSet<OsString> = pending
                .iter()
                .filter(|event| event.watch == watch)
                .filter(|event| event.flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO))
                .filter_map(|event| event.name.clone())
                .collect();
            for child in children.iter().filter(|child| !waiting.contains(&child.file_name())) {
                let path = path.join(child.file_name());
                told.push(Told { path: path.clone(), kind: EventType::Create });
                let Ok(status) = child.metadata() else { continue };
                if status.is_file() && status.len() > 0 {
                    told.push(Told { path, kind: EventType::Write });
                } else if status.is_dir() {
                    to_enter.push(path);
                }
            }
        }
        Ok(())
    }

    /// Watches all directories below one that is watched.
    fn add_below(&self, path: PathBuf) -> Result<(), FilesystemError> {
        let mut to_read = vec![path];
        while let Some(path) = to_read.pop() {
            // What vanishes meanwhile needs no watch.
            let Ok(children) = fs::read_dir(self.real.join(&path)) else { continue };
            for child in children.filter_map(Result::ok) {
                let is_directory = child.file_type().is_ok_and(|kind| kind.is_dir());
                let path = path.join(child.file_name());
                if is_directory && !matches!(self.add(&path)?, Added::Gone) {
                    to_read.push(path);
                }
            }
        }
        Ok(())
    }

    fn add(&self, relative: &Path) -> Result<Added, FilesystemError> {
        let mut directories = self.directories();
        let path = self.real.join(relative);
        let flags = WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MODIFY
            | WatchFlags::MOVE_SELF
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        let watch = match inotify::add_watch(&self.inotify, &path, flags) {
            Ok(watch) => watch,
            // One whose path is too long for the kernel is out of every other RPC's reach too.
            Err(
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NAMETOOLONG,
            ) => return Ok(Added::Gone),
            Err(Errno::NOSPC) => {
                return Err(FilesystemError::TooManyDirectories { path: self.root.clone() });
            }
            Err(errno) => return Err(FilesystemError::io("watch", &path, errno)),
        };
        if directories.insert(watch, relative.to_owned()).is_some() {
            return Ok(Added::Known);
        }
        if directories.len() > DIRECTORIES_MAX {
            return Err(FilesystemError::TooManyDirectories { path: self.root.clone() });
        }
        Ok(Added::New(watch))
    }

    /// Changes the paths of a directory that moved and of all below it, or forgets them when it
    /// left the tree.
    fn relocate(&self, from: &Path, to: Option<&Path>) {
        let mut gone = Vec::new();
        for (watch, path) in self.directories().iter_mut() {
            let Ok(below) = path.strip_prefix(from) else { continue };
            match to {
                Some(to) if below.as_os_str().is_empty() => *path = to.to_owned(),
                Some(to) => *path = to.join(below),
                None => gone.push(*watch),
            }
        }
        for watch in gone {
            self.directories().remove(&watch);
            // It fails when the directory has been deleted: then the kernel's watch is gone too.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    fn directories(&self) -> MutexGuard<'_, HashMap<i32, PathBuf>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel's flags mean in the wire's words. One event can be several.
fn kinds(flags: ReadFlags) -> impl Iterator<Item = EventType> {
    [
        (ReadFlags::CREATE | ReadFlags::MOVED_TO, EventType::Create),
        (ReadFlags::MOVED_FROM | ReadFlags::MOVE_SELF, EventType::Rename),
        (ReadFlags::ATTRIB, EventType::Chmod),
        (ReadFlags::MODIFY, EventType::Write),
        (ReadFlags::DELETE | ReadFlags::DELETE_SELF, EventType::Remove),
    ]
    .into_iter()
    .filter(move |(kind, _)| flags.intersects(*kind))
    .map(|(_, kind)| kind)
}
