//! Writes changes as a layer: what is there is read now, piece by piece.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use courier_archive::{EntryPath, Header, Kind, WriteError, Writer};
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::changes::Change;
use super::own::{Content, Own};
use super::tree::{Sort, Tree, sort, times};
use crate::folder::open_folder;

/// Files up to this size are read whole, and what the daemon put into them is taken out. Bundles of
/// certificates have some 250 KiB.
const LOOKED_INTO_MAX: u64 = 4 << 20;

/// Set-user-ID and set-group-ID: no sandbox honours them, and no layer has them on files.
const SET_ID_BITS: u32 = 0o6000;

/// Why a layer was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    /// An entry cannot be read.
    #[error("cannot read /{path}: {source}")]
    Read {
        /// Which.
        path: EntryPath,
        /// Why.
        source: io::Error,
    },
    /// The layer cannot be written, or a file became shorter meanwhile.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes all of a layer.
pub(super) fn write<W: Write>(
    tree: &Tree,
    own: &Own,
    changes: &[Change],
    sink: W,
) -> Result<W, LayerError> {
    let mut layer =
        Layer { tree, own, writer: Writer::new(sink), folder: None, links: HashMap::new() };
    for change in changes {
        match change {
            Change::Put(path) => layer.put(path)?,
            Change::MountPoint(path) => {
                let header = Header::new(path.clone(), Kind::Directory);
                layer.writer.append(&header, io::empty())?;
            }
            Change::Gone(whiteout) => {
                // That it can be said was seen when the changes were found.
                if let Ok(header) = whiteout.header() {
                    layer.writer.append(&header, io::empty())?;
                }
            }
        }
    }
    Ok(layer.writer.finish()?)
}

struct Layer<'a, W: Write> {
    tree: &'a Tree,
    own: &'a Own,
    writer: Writer<W>,
    /// The folder of the entry before: the next one is often in the same.
    folder: Option<(Option<EntryPath>, OwnedFd)>,
    /// First names of files that have several, by device and number.
    links: HashMap<(u64, u64), EntryPath>,
}

impl<W: Write> Layer<'_, W> {
    /// Writes an entry as it is now; one that is gone meanwhile is not written.
    fn put(&mut self, path: &EntryPath) -> Result<(), LayerError> {
        let failed = |errno: Errno| LayerError::Read { path: path.clone(), source: errno.into() };
        let name = CString::new(path.name()).map_err(|_nul| failed(Errno::INVAL))?;
        let Some(folder) = self.folder(path).map_err(failed)? else { return Ok(()) };
        let status = match rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            status => status.map_err(failed)?,
        };
        match sort(&status) {
            Some(Sort::Symlink) => {
                let target = rustix::fs::readlinkat(folder, &name, Vec::new());
                let target = target.map_err(failed)?.into_bytes();
                if Own::is_link(path, &target) {
                    return Ok(());
                }
                let header = header(path, Kind::Symlink { target }, &status);
                Ok(self.writer.append(&header, io::empty())?)
            }
            Some(Sort::Fifo) => {
                Ok(self.writer.append(&header(path, Kind::Fifo, &status), io::empty())?)
            }
            Some(Sort::Directory) => {
                let fd = open_folder(folder, &name).map_err(failed)?;
                let mut header = header(path, Kind::Directory, &status);
                header.xattrs = attributes::read(fd.as_fd()).map_err(failed)?;
                Ok(self.writer.append(&header, io::empty())?)
            }
            Some(Sort::File) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(folder, &name, flags, Mode::empty());
                let file = match file {
                    Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
                    file => file.map_err(failed)?,
                };
                self.file(path, file.into())
            }
            Some(Sort::MountPoint) | None => Ok(()),
        }
    }

    fn file(&mut self, path: &EntryPath, file: File) -> Result<(), LayerError> {
        let failed = |source: io::Error| LayerError::Read { path: path.clone(), source };
        let status = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
        let size = u64::try_from(status.st_size).unwrap_or_default();
        let identity = (status.st_dev, status.st_ino);
        if status.st_nlink > 1
            && let Some(target) = self.links.get(&identity)
        {
            let header = header(path, Kind::Hardlink { target: target.clone() }, &status);
            return Ok(self.writer.append(&header, io::empty())?);
        }
        let xattrs = attributes::read(file.as_fd()).map_err(|errno| failed(errno.into()))?;
        if size > LOOKED_INTO_MAX {
            self.append_file(path, size, &status, (xattrs, &file))?;
        } else {
            let mut content = Vec::new();
            (&file).take(LOOKED_INTO_MAX).read_to_end(&mut content).map_err(failed)?;
            let Content::Kept(content) = self.own.content(path, content) else { return Ok(()) };
            let size = content.len() as u64;
            self.append_file(path, size, &status, (xattrs, &content[..]))?;
        }
        if status.st_nlink > 1 {
            self.links.insert(identity, path.clone());
        }
        Ok(())
    }

    fn append_file(
        &mut self,
        path: &EntryPath,
        size: u64,
        status: &Stat,
        (xattrs, content): (Attributes, impl io::Read),
    ) -> Result<(), LayerError> {
        let mut header = header(path, Kind::File { size }, status);
        header.xattrs = xattrs;
        Ok(self.writer.append(&header, content)?)
    }

    /// The folder that an entry is in, opened level by level without following a link; none where
    /// it is gone.
    fn folder(&mut self, path: &EntryPath) -> Result<Option<BorrowedFd<'_>>, Errno> {
        let parent = path.parent();
        let is_same = self.folder.as_ref().is_some_and(|(folder, _)| *folder == parent);
        if !is_same {
            let mut fd = open_folder(self.tree.root(), c".")?;
            for name in parent.iter().flat_map(EntryPath::components) {
                let name = CString::new(name).map_err(|_nul| Errno::INVAL)?;
                fd = match open_folder(fd.as_fd(), &name) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                    fd => fd?,
                };
            }
            self.folder = Some((parent, fd));
        }
        Ok(self.folder.as_ref().map(|(_, fd)| fd.as_fd()))
    }
}

fn header(path: &EntryPath, kind: Kind, status: &Stat) -> Header {
    let dropped = if kind == Kind::Directory { 0 } else { SET_ID_BITS };
    let mut header = Header::new(path.clone(), kind);
    header.mode = status.st_mode & courier_archive::MODE_BITS & !dropped;
    (header.uid, header.gid) = (status.st_uid, status.st_gid);
    header.mtime = times(status).0;
    header
}
