//! Archives of COPY steps: `UPLOADS/PROJECT/DIGEST`, where the digest is that of the bytes.
//!
//! A client calls an archive by a hash of its own making, which says nothing about the bytes; so a
//! file is named by what is in it, and a row says which file a hash means. A file is whole, synced
//! and well-formed before its row is written. Rows go when they were not used for long or the
//! project has too much; files without a row go with the sweep.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use courier_store::{StoreError, UploadBounds, UploadRow};
use courier_types::ProjectId;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::shape::{self, ShapeError};
use super::turns::{Turn, Turns};
use crate::app::App;
use crate::http::ApiError;
use crate::{clock, random};

/// Longest time for one upload: the SDKs wait as long.
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_hours(1);

/// Longest silence of a client that uploads.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Free space that uploads leave on the disk of the data folder: the database's, and sandboxes'.
const RESERVE_BYTES: u64 = 1 << 30;

/// Seconds after which one of them has ended, maybe.
const BUSY_RETRY_SECS: u16 = 5;

/// Seconds after which somebody has made room, maybe.
const NO_ROOM_RETRY_SECS: u16 = 60;

/// How long an archive that nobody uses is kept: as long as people come back to a project.
const KEPT_FOR: Duration = Duration::from_hours(24 * 7);

/// Archives that one project may have: each is a row and a file.
const COUNT_MAX: u64 = 10_000;

/// Seconds after which files without a row may have gone.
const REPLACED_RETRY_SECS: u16 = 600;

/// How long a file without a row is kept: builds that are under way may still read it.
const FILE_GRACE: Duration = Duration::from_hours(2);

/// Where archives are.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    turns: Turns,
}

/// Why an archive was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the archive has {size} bytes; at most {max} are taken")]
    TooLarge { size: u64, max: u64 },
    #[error("too many uploads at once")]
    Busy,
    #[error("there is no room for the archive on the server's disk")]
    NoRoom,
    #[error("the project has replaced so many archives that the old ones must go first")]
    Replaced,
    #[error("{got} bytes came of the {announced} that Content-Length announced")]
    CutOff { got: u64, announced: u64 },
    #[error("nothing came for {} seconds", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the archive is malformed: {0}")]
    Shape(#[from] ShapeError),
    #[error("the archive could not be stored")]
    Disk(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge { .. } => Self::too_large(error.to_string()),
            UploadError::Busy => Self::unavailable(error.to_string(), BUSY_RETRY_SECS),
            UploadError::NoRoom => Self::unavailable(error.to_string(), NO_ROOM_RETRY_SECS),
            UploadError::Replaced => Self::too_many(error.to_string(), REPLACED_RETRY_SECS),
            UploadError::CutOff { .. } | UploadError::Shape(_) => {
                Self::bad_request(error.to_string())
            }
            UploadError::Silent => Self::request_timeout(error.to_string()),
            UploadError::Disk(_) => Self::internal(&error),
            UploadError::Store(error) => error.into(),
        }
    }
}

/// An archive on its way in.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Whose it is.
    pub(crate) project: ProjectId,
    /// What its owner calls it.
    pub(crate) hash: String,
    /// Its size, as announced.
    pub(crate) size: u64,
}

impl Uploads {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, turns: Turns::default() }
    }

    fn of(&self, project: &ProjectId) -> PathBuf {
        self.folder.join(project.as_str())
    }

    /// Opens an archive.
    pub(super) async fn open(&self, project: &ProjectId, digest: &str) -> io::Result<File> {
        File::open(self.of(project).join(digest)).await
    }
}

/// An archive of the project that is there; it counts as used now.
pub(crate) async fn find(
    app: &App,
    project: &ProjectId,
    hash: &str,
) -> Result<Option<UploadRow>, StoreError> {
    let row = app.store.use_upload(project, hash, clock::now()).await?;
    let Some(row) = row else { return Ok(None) };
    let there = app.uploads.open(project, &row.digest).await.is_ok();
    Ok(Some(row).filter(|_| there))
}

/// Takes an archive in, whole, or not at all.
pub(crate) async fn receive(app: &App, upload: Upload, body: Body) -> Result<(), UploadError> {
    let max = app.config.upload_max_bytes.min(app.config.uploads_max_bytes);
    if upload.size > max {
        return Err(UploadError::TooLarge { size: upload.size, max });
    }
    let turn = app.uploads.turns.take(&upload.project).ok_or(UploadError::Busy)?;
    let folder = app.uploads.of(&upload.project);
    tokio::fs::create_dir_all(&folder).await.map_err(UploadError::Disk)?;
    let bounds = UploadBounds { bytes: app.config.uploads_max_bytes, count: COUNT_MAX };
    check_room(&folder, bounds, upload.size).await?;
    let temporary = tempfile_in(&folder).await.map_err(UploadError::Disk)?;
    let digest = write(&temporary, upload.size, body).await?;
    let at = folder.join(&digest);
    // The turn goes along: looking at an archive is not given up when its client is.
    let kept = tokio::task::spawn_blocking(move || keep(temporary, &at, turn));
    kept.await.map_err(|join| UploadError::Disk(io::Error::other(join)))??;
    let row = UploadRow {
        project_id: upload.project,
        hash: upload.hash,
        digest,
        size_bytes: upload.size,
        used_at: clock::now(),
    };
    Ok(app.store.put_upload(&row, bounds).await?)
}

/// Refuses an archive for which the disk has no room, or where the project's files take twice what its archives may: what was replaced
/// is there until no build can want it any more.
async fn check_room(folder: &Path, bounds: UploadBounds, size: u64) -> Result<(), UploadError> {
    let folder = folder.to_owned();
    let looked = tokio::task::spawn_blocking(move || Ok((used(&folder)?, free(&folder)?)));
    let ((count, bytes), free) = looked
        .await
        .map_err(|join| UploadError::Disk(io::Error::other(join)))?
        .map_err(UploadError::Disk)?;
    if free < size.saturating_add(RESERVE_BYTES) {
        return Err(UploadError::NoRoom);
    }
    let full = bytes.saturating_add(size) > bounds.bytes.saturating_mul(2)
        || count >= bounds.count.saturating_mul(2);
    if full { Err(UploadError::Replaced) } else { Ok(()) }
}

/// Number and bytes of the files of a folder.
fn used(folder: &Path) -> io::Result<(u64, u64)> {
    let mut used = (0_u64, 0_u64);
    for file in std::fs::read_dir(folder)? {
        match file?.metadata() {
            Ok(file) => used = (used.0 + 1, used.1.saturating_add(file.len())),
            // The sweep was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(used)
}

/// Bytes that the disk of a folder still takes.
fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

async fn tempfile_in(folder: &Path) -> io::Result<NamedTempFile> {
    let folder = folder.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        tempfile::Builder::new().prefix(".upload-").tempfile_in(folder)
    });
    made.await.map_err(io::Error::other)?
}

/// Writes exactly that many bytes of a body; returns their SHA-256 in hexadecimal.
async fn write(
    temporary: &NamedTempFile,
    announced: u64,
    mut body: Body,
) -> Result<String, UploadError> {
    let file = temporary.as_file().try_clone().map_err(UploadError::Disk)?;
    let mut file = File::from_std(file);
    let (mut hash, mut got) = (Sha256::new(), 0_u64);
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let Some(frame) = frame.map_err(|_elapsed| UploadError::Silent)? else { break };
        let Ok(frame) = frame else { return Err(UploadError::CutOff { got, announced }) };
        let Ok(bytes) = frame.into_data() else { continue };
        got = got.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if got > announced {
            return Err(UploadError::CutOff { got, announced });
        }
        hash.update(&bytes);
        file.write_all(&bytes).await.map_err(UploadError::Disk)?;
    }
    if got != announced {
        return Err(UploadError::CutOff { got, announced });
    }
    file.flush().await.map_err(UploadError::Disk)?;
    Ok(random::hex(&<[u8; 32]>::from(hash.finalize())))
}

/// Looks at an archive, and puts it where it belongs.
fn keep(temporary: NamedTempFile, at: &Path, _turn: Turn) -> Result<(), UploadError> {
    shape::check(temporary.path())?;
    temporary.as_file().sync_all().map_err(UploadError::Disk)?;
    temporary.persist(at).map_err(|error| UploadError::Disk(error.error))?;
    let folder = at.parent().unwrap_or(at);
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(UploadError::Disk)
}

/// Forgets archives that were not used for long, and files that no row means.
pub(super) async fn sweep(app: &App) -> Result<(), SweepError> {
    app.store.expire_uploads(clock::before(clock::now(), KEPT_FOR)).await?;
    let folder = app.uploads.folder.clone();
    let old = tokio::task::spawn_blocking(move || old_files(&folder));
    for (project, digest, path) in old.await.map_err(io::Error::other)?? {
        if !app.store.has_upload(&project, &digest).await? {
            tokio::fs::remove_file(&path).await?;
        }
    }
    Ok(())
}

/// Why a sweep of archives failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the folder of uploads cannot be swept")]
    Folder(#[from] io::Error),
}

/// Every file that was there for a while: project, name, path.
fn old_files(folder: &Path) -> io::Result<Vec<(String, String, PathBuf)>> {
    let mut old = Vec::new();
    let projects = match std::fs::read_dir(folder) {
        Ok(projects) => projects,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(old),
        Err(error) => return Err(error),
    };
    for project in projects {
        let project = project?;
        for file in std::fs::read_dir(project.path())? {
            let file = file?;
            let modified = file.metadata()?.modified()?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            let names = (project.file_name().into_string(), file.file_name().into_string());
            if let (Ok(project), Ok(name)) = names
                && age > FILE_GRACE
            {
                old.push((project, name, file.path()));
            }
        }
    }
    Ok(old)
}
