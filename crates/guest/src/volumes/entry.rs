//! What is at a place of a volume, as the wire shows it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;

use courier_protocol::e2b::{VolumeEntry, VolumeEntryKind};
use courier_types::Timestamp;

use crate::filesystem::error::FilesystemError;

use super::VolumeError;
use super::place::Place;

/// Most entries of one list.
const ENTRIES_MAX: usize = 10_000;

/// Deepest list.
const DEPTH_MAX: u32 = 64;

/// The permissions in a mode.
const PERMISSIONS: u32 = 0o7777;

/// What is there itself: a link is a link.
pub(super) fn of(place: &Place) -> Result<VolumeEntry, VolumeError> {
    let meta = fs::symlink_metadata(&place.inside)
        .map_err(|error| FilesystemError::io("look at", &place.shown, error))?;
    Ok(shown(place, &meta))
}

/// Refuses a place where nothing is, or a folder.
pub(super) fn check_file(place: &Place) -> Result<(), VolumeError> {
    let meta = fs::metadata(&place.inside)
        .map_err(|error| FilesystemError::io("read", &place.shown, error))?;
    if meta.is_dir() {
        let path = place.shown.clone();
        return Err(FilesystemError::NotAFile { path, kind: "directory" }.into());
    }
    Ok(())
}

/// What is in a folder, sorted by path, down to `depth` levels. Links are listed, not followed.
pub(super) fn list(place: &Place, depth: u32) -> Result<Vec<VolumeEntry>, VolumeError> {
    let failed = |error| FilesystemError::io("list", &place.shown, error);
    if !fs::metadata(&place.inside).map_err(failed)?.is_dir() {
        return Err(FilesystemError::NotADirectory { path: place.shown.clone() }.into());
    }
    let mut entries = Vec::new();
    let mut folders = vec![(place.clone(), depth.clamp(1, DEPTH_MAX))];
    while let Some((folder, depth)) = folders.pop() {
        let listed = match fs::read_dir(&folder.inside) {
            // Another sandbox was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        for name in listed {
            let below = folder.below(name.map_err(failed)?.file_name());
            let Ok(meta) = fs::symlink_metadata(&below.inside) else { continue };
            if entries.len() >= ENTRIES_MAX {
                return Err(FilesystemError::TooManyEntries { path: place.shown.clone() }.into());
            }
            entries.push(shown(&below, &meta));
            if meta.is_dir() && depth > 1 {
                folders.push((below, depth - 1));
            }
        }
    }
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn shown(place: &Place, meta: &Metadata) -> VolumeEntry {
    let kind = match meta.file_type() {
        kind if kind.is_file() => VolumeEntryKind::File,
        kind if kind.is_dir() => VolumeEntryKind::Directory,
        kind if kind.is_symlink() => VolumeEntryKind::Symlink,
        _other => VolumeEntryKind::Unknown,
    };
    let is_link = kind == VolumeEntryKind::Symlink;
    let target = is_link.then(|| fs::read_link(&place.inside).ok()).flatten();
    let name = place.shown.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy());
    VolumeEntry {
        name: name.into_owned(),
        kind,
        path: place.shown.to_string_lossy().into_owned(),
        size: meta.len(),
        mode: meta.mode() & PERMISSIONS,
        uid: meta.uid(),
        gid: meta.gid(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        target: target.map(|target| target.to_string_lossy().into_owned()),
    }
}

fn time(seconds: i64, nanos: i64) -> String {
    let micros = seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000);
    Timestamp::from_micros(micros).to_rfc3339()
}
