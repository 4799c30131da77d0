//! What changes a volume. A file is written beside its place and then moved there, so nobody sees
//! half of it; an answer says that it would survive a crash of the host.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use courier_protocol::envd::volume::VolumeCall;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::files::error::FilesError;
use crate::files::incoming::Incoming;
use crate::filesystem::error::FilesystemError;

use super::VolumeError;
use super::place::{Place, PlaceError};

/// Mode of a new file that nobody says one for.
const FILE_MODE: u32 = 0o644;
/// The same of a new folder.
const FOLDER_MODE: u32 = 0o755;
/// The permissions in a mode.
const PERMISSIONS: u32 = 0o7777;

/// Whose a new file is, and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ownership {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Looks whether a file can be written there, and makes its parents where that is wanted. What the
/// call does not say is as the file has it, or as its folder has it.
pub(super) fn prepare(place: &Place, call: &VolumeCall) -> Result<Ownership, VolumeError> {
    let parent = place.parent().ok_or(PlaceError::Root)?;
    if call.force {
        make_all(&parent, None)?;
    }
    let failed = |error| FilesystemError::io("write", &place.shown, error);
    let before = match fs::symlink_metadata(&place.inside) {
        Ok(meta) if meta.is_dir() => {
            let path = place.shown.clone();
            return Err(FilesystemError::NotAFile { path, kind: "directory" }.into());
        }
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error).into()),
    };
    let folder = fs::metadata(&parent.inside)
        .map_err(|error| FilesystemError::io("write into", &parent.shown, error))?;
    let like = before.as_ref().unwrap_or(&folder);
    let mode = before.as_ref().map_or(FILE_MODE, |meta| meta.mode());
    Ok(Ownership {
        uid: call.uid.unwrap_or_else(|| like.uid()),
        gid: call.gid.unwrap_or_else(|| like.gid()),
        mode: call.mode.unwrap_or(mode) & PERMISSIONS,
    })
}

/// Writes the body to the place.
pub(super) async fn write(
    place: &Place,
    owner: Ownership,
    incoming: &mut Incoming,
) -> Result<(), VolumeError> {
    let beside = beside(&place.inside);
    let written = fill((&beside, &place.shown), owner, incoming).await;
    let failed = |error| FilesystemError::io("write", &place.shown, error);
    let moved = match written {
        Ok(()) => tokio::fs::rename(&beside, &place.inside).await.map_err(|e| failed(e).into()),
        Err(error) => Err(error),
    };
    if let Err(error) = moved {
        // The error that is told is the first one.
        let _left = tokio::fs::remove_file(&beside).await;
        return Err(error);
    }
    let folder = place.inside.parent().unwrap_or(&place.inside);
    File::open(folder).await.map_err(failed)?.sync_all().await.map_err(failed)?;
    Ok(())
}

/// Makes a file at a path of nobody's, for the place that is shown.
async fn fill(
    (path, shown): (&Path, &Path),
    owner: Ownership,
    incoming: &mut Incoming,
) -> Result<(), VolumeError> {
    let failed = |error| FilesystemError::io("write", shown, error);
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).await.map_err(failed)?;
    while let Some(bytes) = incoming.next().await? {
        file.write_all(&bytes).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    let file = file.into_std().await;
    let finished = tokio::task::spawn_blocking(move || {
        std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
        file.set_permissions(fs::Permissions::from_mode(owner.mode))?;
        file.sync_all()
    });
    let finished =
        finished.await.map_err(|error| FilesError::from(FilesystemError::from(error)))?;
    finished.map_err(|error| failed(error).into())
}

/// A name that nobody else uses, in the same folder.
fn beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".courier-upload-{}-{count}", crate::volumes::stamp()))
}

/// Makes a folder.
pub(super) fn make_folder(place: &Place, call: &VolumeCall) -> Result<(), VolumeError> {
    if call.force {
        make_all(place, call.mode)?;
    } else {
        make(place, call.mode)?;
    }
    change(place, call)
}

/// Makes a folder with its missing parents; one that is there is fine.
fn make_all(place: &Place, mode: Option<u32>) -> Result<(), VolumeError> {
    let missing: Vec<Place> = std::iter::successors(Some(place.clone()), Place::parent)
        .take_while(|place| is_missing(&place.inside))
        .collect();
    if missing.is_empty() && !place.inside.is_dir() {
        return Err(FilesystemError::NotADirectoryInTheWay { path: place.shown.clone() }.into());
    }
    missing.iter().rev().try_for_each(|folder| make(folder, mode.filter(|_| folder == place)))
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Makes one folder, whose owner is that of the folder it is in.
fn make(place: &Place, mode: Option<u32>) -> Result<(), VolumeError> {
    let path = &place.inside;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            FilesystemError::DirectoryExists { path: place.shown.clone() }
        }
        _ => FilesystemError::io("make directory", &place.shown, error),
    };
    let parent = path.parent().unwrap_or(path);
    let owner = fs::metadata(parent).map_err(failed)?;
    fs::DirBuilder::new().mode(mode.unwrap_or(FOLDER_MODE)).create(path).map_err(failed)?;
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(())
}

/// Gives what is there another owner and mode, as far as the call says one. Links have no mode.
pub(super) fn change(place: &Place, call: &VolumeCall) -> Result<(), VolumeError> {
    let path = &place.inside;
    let failed = |error| FilesystemError::io("change", &place.shown, error);
    if call.uid.is_some() || call.gid.is_some() {
        std::os::unix::fs::lchown(path, call.uid, call.gid).map_err(failed)?;
    }
    let is_link = fs::symlink_metadata(path).map_err(failed)?.is_symlink();
    if let Some(mode) = call.mode.filter(|_| !is_link) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & PERMISSIONS))
            .map_err(failed)?;
    }
    Ok(())
}
