//! Messages of `filesystem.Filesystem`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json;
use super::process::Empty;

/// A request that names one path (`Stat`, `MakeDir`, `Remove`).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathRequest {
    /// The path; relative to the user's home.
    #[prost(string, tag = "1")]
    pub path: String,
}

/// Renames or moves an entry.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MoveRequest {
    /// From.
    #[prost(string, tag = "1")]
    pub source: String,
    /// To; parents are made.
    #[prost(string, tag = "2")]
    pub destination: String,
}

/// An answer that shows one entry (`Stat`, `MakeDir`, `Move`).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryResponse {
    /// The entry.
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryInfo>,
}

/// A file, directory or link.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryInfo {
    /// Last component of its path.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is; of a link, what its target is.
    #[prost(enumeration = "FileType", tag = "2")]
    #[serde(rename = "type", with = "json::file_type")]
    pub kind: i32,
    /// Absolute path.
    #[prost(string, tag = "3")]
    pub path: String,
    /// Bytes; of a link, its own.
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64")]
    pub size: i64,
    /// Permission bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// In words, as Go writes them: `-rw-r--r--`, `drwxr-xr-x`, `Lrwxrwxrwx`.
    #[prost(string, tag = "6")]
    pub permissions: String,
    /// User name, or the number of an unknown one.
    #[prost(string, tag = "7")]
    pub owner: String,
    /// Group name, or the number of an unknown one.
    #[prost(string, tag = "8")]
    pub group: String,
    /// When its content changed last.
    #[prost(message, optional, tag = "9")]
    #[serde(
        alias = "modified_time",
        with = "json::timestamp",
        skip_serializing_if = "Option::is_none"
    )]
    pub modified_time: Option<Timestamp>,
    /// Where a link leads, resolved.
    #[prost(string, optional, tag = "10")]
    #[serde(alias = "symlink_target", skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
    /// Its `user.e2b.*` extended attributes, without the prefix.
    #[prost(btree_map = "string, string", tag = "11")]
    pub metadata: BTreeMap<String, String>,
    /// It is a link.
    #[prost(bool, tag = "12")]
    #[serde(alias = "is_symlink")]
    pub is_symlink: bool,
}

/// Lists a directory.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListDirRequest {
    /// The directory; relative to the user's home.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Levels to go down; 0 is 1.
    #[prost(uint32, tag = "2")]
    pub depth: u32,
}

/// What a directory holds.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListDirResponse {
    /// Depth first, in lexical order.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<EntryInfo>,
}

/// Watches a directory (`WatchDir`, `CreateWatcher`).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WatchDirRequest {
    /// The directory; relative to the user's home.
    #[prost(string, tag = "1")]
    pub path: String,
    /// With everything below it.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    /// Events carry the entry.
    #[prost(bool, tag = "3")]
    #[serde(alias = "include_entry")]
    pub include_entry: bool,
    /// Allow a directory on a network file system, whose events may be incomplete.
    #[prost(bool, tag = "4")]
    #[serde(alias = "allow_network_mounts")]
    pub allow_network_mounts: bool,
}

/// Something happened in a watched directory.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilesystemEvent {
    /// Path relative to the watched directory.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What happened.
    #[prost(enumeration = "EventType", tag = "2")]
    #[serde(rename = "type", with = "json::event_type")]
    pub kind: i32,
    /// The entry, where asked for and there.
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryInfo>,
}

/// One event of a watch; exactly one field is set.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WatchDirResponse {
    /// The watch is on; always first.
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Empty>,
    /// Something happened.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FilesystemEvent>,
    /// Nothing happened for a while.
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Empty>,
}

/// A watch to be polled.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CreateWatcherResponse {
    /// Its id.
    #[prost(string, tag = "1")]
    #[serde(alias = "watcher_id")]
    pub watcher_id: String,
}

/// A request that names one watch (`GetWatcherEvents`, `RemoveWatcher`).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WatcherRequest {
    /// Its id.
    #[prost(string, tag = "1")]
    #[serde(alias = "watcher_id")]
    pub watcher_id: String,
}

/// What happened since the last poll.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GetWatcherEventsResponse {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<FilesystemEvent>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FileType {
    /// Something else, or a broken link.
    Unspecified = 0,
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
}

impl FileType {
    const ALL: [Self; 4] = [Self::Unspecified, Self::File, Self::Directory, Self::Symlink];

    /// The name in proto-JSON.
    #[must_use]
    pub const fn as_str_name(self) -> &'static str {
        match self {
            Self::Unspecified => "FILE_TYPE_UNSPECIFIED",
            Self::File => "FILE_TYPE_FILE",
            Self::Directory => "FILE_TYPE_DIRECTORY",
            Self::Symlink => "FILE_TYPE_SYMLINK",
        }
    }

    /// The value of a proto-JSON name.
    #[must_use]
    pub fn from_str_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str_name() == name)
    }
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum EventType {
    /// Unknown.
    Unspecified = 0,
    /// It came to be.
    Create = 1,
    /// Its content changed.
    Write = 2,
    /// It is gone.
    Remove = 3,
    /// It moved away.
    Rename = 4,
    /// Its attributes changed.
    Chmod = 5,
}

impl EventType {
    const ALL: [Self; 6] =
        [Self::Unspecified, Self::Create, Self::Write, Self::Remove, Self::Rename, Self::Chmod];

    /// The name in proto-JSON.
    #[must_use]
    pub const fn as_str_name(self) -> &'static str {
        match self {
            Self::Unspecified => "EVENT_TYPE_UNSPECIFIED",
            Self::Create => "EVENT_TYPE_CREATE",
            Self::Write => "EVENT_TYPE_WRITE",
            Self::Remove => "EVENT_TYPE_REMOVE",
            Self::Rename => "EVENT_TYPE_RENAME",
            Self::Chmod => "EVENT_TYPE_CHMOD",
        }
    }

    /// The value of a proto-JSON name.
    #[must_use]
    pub fn from_str_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str_name() == name)
    }
}

/// `google.protobuf.Timestamp`: a point in time.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// In RFC 3339, UTC, with as many digits of a second as there are.
    #[must_use]
    pub fn to_rfc3339(&self) -> String {
        jiff::Timestamp::new(self.seconds, self.nanos).unwrap_or_default().to_string()
    }

    /// From RFC 3339 with any offset.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_from_its_own_json_and_its_own_protobuf() {
        let entry = EntryInfo {
            name: "a".into(),
            kind: FileType::File.into(),
            size: 1 << 40,
            modified_time: Some(Timestamp { seconds: 1, nanos: 500_000_000 }),
            ..EntryInfo::default()
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert!(text.contains(r#""type":"FILE_TYPE_FILE""#), "{text}");
        assert!(text.contains(r#""size":"1099511627776""#), "{text}");
        assert!(text.contains(r#""modifiedTime":"1970-01-01T00:00:01.5Z""#), "{text}");
        assert_eq!(serde_json::from_str::<EntryInfo>(&text).unwrap(), entry);
        let bytes = prost::Message::encode_to_vec(&entry);
        assert_eq!(<EntryInfo as prost::Message>::decode(bytes.as_slice()).unwrap(), entry);
    }
}
