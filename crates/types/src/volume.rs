//! Volumes: storage that outlives sandboxes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::VolumeId;

/// Longest path of a mount, in bytes: deeper than anybody mounts, and sixteen of them are a short
/// message however they are escaped.
const PATH_MAX_BYTES: usize = 512;

/// Folders that nothing is mounted on or above: what the system inside needs in order to start.
const RESERVED: [&str; 8] = ["/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib"];

/// Most volumes of one sandbox.
pub const VOLUMES_MAX: usize = 16;

/// Why a path is no place for a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no place for a volume: expected an absolute path without '.', '..', '//' or a \
         trailing '/', of at most 512 bytes, not '/' itself and not in {}", RESERVED.join(", "))]
pub struct MountPathError {
    /// The refused path, cut to 256 characters.
    pub path: String,
}

/// Where a volume is inside a sandbox: an absolute, clean path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountPath(String);

impl MountPath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when one of the two is the other one, or lies in it.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        lies_in(&self.0, &other.0) || lies_in(&other.0, &self.0)
    }
}

/// True when a path is a folder or lies in it.
fn lies_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl FromStr for MountPath {
    type Err = MountPathError;

    fn from_str(path: &str) -> Result<Self, MountPathError> {
        let is_name = |part: &str| !part.is_empty() && part != "." && part != "..";
        let is_clean = path.len() <= PATH_MAX_BYTES
            && !path.contains(char::is_control)
            && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_name));
        if is_clean && !RESERVED.iter().any(|folder| lies_in(path, folder)) {
            Ok(Self(path.to_owned()))
        } else {
            Err(MountPathError { path: path.chars().take(256).collect() })
        }
    }
}

impl TryFrom<String> for MountPath {
    type Error = MountPathError;

    fn try_from(path: String) -> Result<Self, MountPathError> {
        path.parse()
    }
}

impl From<MountPath> for String {
    fn from(path: MountPath) -> Self {
        path.0
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A volume in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Which volume.
    pub volume: VolumeId,
    /// Where.
    pub path: MountPath,
    /// Largest size of the volume, in MiB.
    pub size_mib: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_path_is_absolute_clean_and_not_the_systems() {
        for path in ["/data", "/home/user/work", "/mnt/a.b/..c", "/etcetera"] {
            assert_eq!(path.parse::<MountPath>().map(String::from).as_deref(), Ok(path));
        }
        for path in ["", "/", "data", "/a/", "//a", "/a/../b", "/a/./b", "/etc", "/dev/x", "/a\0"] {
            assert!(path.parse::<MountPath>().is_err(), "{path:?}");
        }
    }

    #[test]
    fn paths_overlap_when_one_lies_in_the_other() {
        let path = |text: &str| text.parse::<MountPath>().unwrap();
        assert!(path("/a").overlaps(&path("/a/b")) && path("/a/b").overlaps(&path("/a")));
        assert!(path("/a").overlaps(&path("/a")));
        assert!(!path("/a").overlaps(&path("/ab")));
    }
}
