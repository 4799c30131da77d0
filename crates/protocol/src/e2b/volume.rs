//! Volumes on E2B's wire.

use serde::{Deserialize, Serialize};

/// Body of `POST /volumes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewVolume {
    /// Its name: 1 to 128 characters of a-z, A-Z, 0-9, `_` and `-`.
    pub name: String,
    /// Its largest size in MiB, for good; the server's default when absent. No SDK sends it.
    #[serde(default, rename = "sizeMB", skip_serializing_if = "Option::is_none")]
    pub size_mb: Option<u32>,
}

/// A volume in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Volume {
    /// Its id.
    #[serde(rename = "volumeID")]
    pub volume_id: String,
    /// Its name.
    pub name: String,
    /// Its largest size in MiB.
    #[serde(rename = "sizeMB")]
    pub size_mb: u32,
}

/// A volume with the token for its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeAndToken {
    /// The volume.
    #[serde(flatten)]
    pub volume: Volume,
    /// Opens its content, and nothing else.
    pub token: String,
}

/// Query of `/volumecontent/…`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct VolumeQuery {
    /// From the volume's root.
    pub path: String,
    /// Of a list: how deep it goes; 1 when absent.
    #[serde(default)]
    pub depth: Option<u32>,
    /// The owner of what is made.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Its group.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Its permissions, as a decimal number.
    #[serde(default)]
    pub mode: Option<u32>,
    /// Makes missing parents; a folder that is there already is fine.
    #[serde(default)]
    pub force: Option<bool>,
}

/// Body of `PATCH /volumecontent/{volumeID}/path`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeMetadata {
    /// The owner to be.
    #[serde(default)]
    pub uid: Option<u32>,
    /// The group to be.
    #[serde(default)]
    pub gid: Option<u32>,
    /// The permissions to be.
    #[serde(default)]
    pub mode: Option<u32>,
}

/// What is at a path of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeEntry {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: VolumeEntryKind,
    /// Its path from the volume's root.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its permissions: the lowest 12 bits of its mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last read.
    pub atime: String,
    /// When its content last changed.
    pub mtime: String,
    /// When anything of it last changed.
    pub ctime: String,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What something on a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum VolumeEntryKind {
    /// None of the others.
    Unknown,
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
}
