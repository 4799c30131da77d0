//! Where an upload is written: one file, in few large writes on a thread that may block, while more
//! of the body arrives.
//!
//! What watchers see of a new file is exactly: created, attributes changed (its owner), written.
//! When a body is cut off, what had arrived stays in the file, as when a program is killed while it
//! writes; the request fails.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use crate::filesystem::error::FilesystemError;
use crate::filesystem::{Watches, directories};
use crate::user::User;

use super::download::SMALL_MAX;
use super::metadata::{self, Metadata};

/// Bytes written at once. A smaller file is written with one call.
const BATCH_BYTES: usize = 512 * 1_024;

/// Pieces written at once: as many as one call takes (`IOV_MAX`).
const BATCH_PIECES: usize = 1_024;

/// Mode of a new file: 0666 less the usual umask 022.
const MODE: u32 = 0o644;

/// What to write to, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Absolute path.
    pub(crate) path: PathBuf,
    /// Whose the file and its new parents are.
    pub(crate) user: User,
    /// The metadata that replaces what the file has.
    pub(crate) metadata: Arc<Metadata>,
    /// Who is told of new parents.
    pub(crate) watches: Arc<Watches>,
}

/// How far it has come.
#[derive(Debug)]
enum Step {
    /// Nothing has been written, and the file has not been touched.
    Fresh(Target),
    Open(PathBuf, File),
}

type Job = JoinHandle<Result<Step, FilesystemError>>;

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Sink {
    /// The step, while no job has it.
    idle: Option<Step>,
    job: Option<Job>,
    batch: VecDeque<Bytes>,
    batch_bytes: usize,
}

impl Sink {
    /// A sink for `target`, which is not touched yet.
    pub(crate) fn new(target: Target) -> Self {
        Self { idle: Some(Step::Fresh(target)), job: None, batch: VecDeque::new(), batch_bytes: 0 }
    }

    /// Takes in more of the content.
    ///
    /// # Errors
    /// That of an earlier write.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), FilesystemError> {
        self.batch_bytes += bytes.len();
        self.batch.push_back(bytes);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_PIECES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what is left and closes the file.
    ///
    /// # Errors
    /// That of a write.
    pub(crate) async fn finish(mut self) -> Result<(), FilesystemError> {
        let is_small = self.batch_bytes <= SMALL_MAX;
        match self.idle.take() {
            Some(step @ Step::Fresh(_)) if is_small => {
                write_batch(step, self.batch)?;
                return Ok(());
            }
            step => self.idle = step,
        }
        if !self.batch.is_empty() || matches!(self.idle, Some(Step::Fresh(_))) {
            self.flush().await?;
        }
        self.settle().await
    }

    /// Waits for what is being written, after an error elsewhere.
    pub(crate) async fn abandon(mut self) {
        // The error that is told is the first one.
        let _ = self.settle().await;
    }

    /// Begins to write the batch, once the one before it is written.
    async fn flush(&mut self) -> Result<(), FilesystemError> {
        self.settle().await?;
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        // After an error there is no step, and nobody goes on writing.
        let Some(step) = self.idle.take() else { return Ok(()) };
        self.job = Some(tokio::task::spawn_blocking(move || {
            let (path, file) = match step {
                Step::Fresh(target) => (target.path.clone(), open(&target)?),
                Step::Open(path, file) => (path, file),
            };
            write_all(&file, batch)
                .map_err(|source| FilesystemError::io("write", &path, source))?;
            Ok(Step::Open(path, file))
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), FilesystemError> {
        if let Some(job) = self.job.take() {
            self.idle = Some(job.await??);
        }
        Ok(())
    }
}

/// Writes a batch, to a file that is opened first where nothing has been written yet.
fn write_batch(step: Step, batch: VecDeque<Bytes>) -> Result<Step, FilesystemError> {
    let (path, file) = match step {
        Step::Fresh(target) => (target.path.clone(), open(&target)?),
        Step::Open(path, file) => (path, file),
    };
    write_all(&file, batch).map_err(|source| FilesystemError::io("write", &path, source))?;
    Ok(Step::Open(path, file))
}

/// Opens the target for writing from its beginning, as the user's, with its metadata.
fn open(target: &Target) -> Result<File, FilesystemError> {
    let path = &target.path;
    if let Some(parent) = path.parent() {
        directories::ensure(parent, &target.user, &target.watches)?;
    }
    let file = open_for_writing(path, OFlags::TRUNC)?;
    let (uid, gid) = (Uid::from_raw(target.user.uid), Gid::from_raw(target.user.gid));
    rustix::fs::fchown(&file, Some(uid), Some(gid))
        .map_err(|errno| FilesystemError::io("change the owner of", path, errno))?;
    metadata::replace(&file, &target.metadata)
        .map_err(|source| FilesystemError::io("set the metadata of", path, source))?;
    Ok(file)
}

/// Opens a regular file for writing, made when it is not there. Never waits, whatever is there.
pub(super) fn open_for_writing(path: &Path, how: OFlags) -> Result<File, FilesystemError> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | how;
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(MODE)) {
        Ok(file) => File::from(file),
        Err(Errno::ISDIR) => return Err(not_a_file(path, "directory")),
        // A FIFO that nobody reads, or a socket.
        Err(Errno::NXIO) => return Err(not_a_file(path, "FIFO or socket")),
        Err(errno) => return Err(FilesystemError::io("open", path, errno)),
    };
    refuse_special(&file, path)?;
    Ok(file)
}

/// Refuses what is no regular file.
pub(super) fn refuse_special(file: &File, path: &Path) -> Result<(), FilesystemError> {
    use std::os::unix::fs::FileTypeExt as _;
    let status = file.metadata().map_err(|source| FilesystemError::io("stat", path, source))?;
    let kind = status.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(not_a_file(
        path,
        match kind {
            kind if kind.is_dir() => "directory",
            kind if kind.is_fifo() => "FIFO",
            kind if kind.is_socket() => "socket",
            _ => "device",
        },
    ))
}

pub(super) fn not_a_file(path: &Path, kind: &'static str) -> FilesystemError {
    FilesystemError::NotAFile { path: path.to_owned(), kind }
}

/// Writes all pieces, with one call where the kernel takes them at once.
fn write_all(file: &File, mut pieces: VecDeque<Bytes>) -> io::Result<()> {
    while !pieces.is_empty() {
        let slices: Vec<IoSlice<'_>> =
            pieces.iter().take(BATCH_PIECES).map(|piece| IoSlice::new(piece)).collect();
        let mut written = match rustix::io::writev(file, &slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        while let Some(piece) = pieces.front_mut() {
            let taken = written.min(piece.len());
            piece.advance(taken);
            written -= taken;
            if !piece.is_empty() {
                break;
            }
            pieces.pop_front();
        }
    }
    Ok(())
}
