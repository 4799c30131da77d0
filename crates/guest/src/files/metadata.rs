//! The metadata of a file: pairs of text that a client gave with `X-Metadata-<key>` headers, kept
//! as extended attributes `user.e2b.<key>`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use http::HeaderMap;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use thiserror::Error;

/// What the name of every attribute of ours begins with.
const PREFIX: &str = "user.e2b.";

/// What the name of every header of ours begins with.
const HEADER_PREFIX: &str = "x-metadata-";

/// Most pairs of one file. An ext4 file has 4 KiB for all of them, so more would not fit anyway.
pub(crate) const PAIRS_MAX: usize = 64;

/// Longest key in bytes: the kernel's limit for a name of 255, less the prefix.
const KEY_MAX: usize = 255 - PREFIX.len();

/// Longest value in bytes; as much as one ext4 block holds.
const VALUE_MAX: usize = 4_096;

/// Most bytes of attribute names read from one file: the kernel's own limit for the list.
const NAMES_MAX: usize = 65_536;

/// Pairs of one file, by key.
pub(crate) type Metadata = BTreeMap<String, String>;

/// Why headers hold no usable metadata.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MetadataError {
    /// A key is empty or too long.
    #[error("metadata key {key:?} is invalid: it must have 1 to {KEY_MAX} characters")]
    Key {
        /// The key.
        key: String,
    },
    /// A value is no printable ASCII.
    #[error("value of metadata key {key:?} is invalid: it must be printable US-ASCII")]
    Value {
        /// Its key.
        key: String,
    },
    /// A value is too long.
    #[error("value of metadata key {key:?} is longer than {VALUE_MAX} bytes")]
    LongValue {
        /// Its key.
        key: String,
    },
    /// There are too many.
    #[error("more than {PAIRS_MAX} metadata headers")]
    TooMany,
}

/// The metadata that the headers of a request hold. Keys are in lower case.
///
/// # Errors
/// [`MetadataError`].
pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Metadata, MetadataError> {
    let mut metadata = Metadata::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(HEADER_PREFIX) else { continue };
        let key = key.to_ascii_lowercase();
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(MetadataError::Key { key });
        }
        let value = match value.to_str() {
            Ok(text) if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => text,
            _ => return Err(MetadataError::Value { key }),
        };
        if value.len() > VALUE_MAX {
            return Err(MetadataError::LongValue { key });
        }
        metadata.insert(key, value.to_owned());
        if metadata.len() > PAIRS_MAX {
            return Err(MetadataError::TooMany);
        }
    }
    Ok(metadata)
}

/// The metadata of the entry at `path` (of a link itself, which never has any). What cannot be read
/// is left out: an entry without readable attributes is an entry all the same.
pub(crate) fn read(path: &Path) -> Metadata {
    let mut names = [0_u8; 1_024];
    let long;
    let names = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => names.get(..length).unwrap_or_default(),
        Err(Errno::RANGE) => {
            let mut buffer = vec![0_u8; NAMES_MAX];
            let length = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap_or(0);
            buffer.truncate(length);
            long = buffer;
            long.as_slice()
        }
        Err(_unreadable) => return Metadata::new(),
    };
    let mut metadata = Metadata::new();
    for key in keys(names).take(PAIRS_MAX) {
        let mut value = [0_u8; VALUE_MAX];
        if let Ok(length) = rustix::fs::lgetxattr(path, format!("{PREFIX}{key}"), &mut value[..]) {
            let value = value.get(..length).unwrap_or_default();
            metadata.insert(key.to_owned(), String::from_utf8_lossy(value).into_owned());
        }
    }
    metadata
}

/// Gives an open file exactly this metadata. A file that has none and gets none is not touched, so
/// that a plain write causes no event of its own.
///
/// # Errors
/// The kernel's, for instance when the file system keeps no attributes or has no room for them.
pub(crate) fn replace(file: &File, metadata: &Metadata) -> io::Result<()> {
    let mut names = vec![0_u8; 1_024];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Err(Errno::RANGE) => {
            names.resize(NAMES_MAX, 0);
            rustix::fs::flistxattr(file, &mut names[..])
        }
        other => other,
    };
    match length {
        Ok(length) => names.truncate(length),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => names.clear(),
        Err(errno) => return Err(errno.into()),
    }
    for key in keys(&names).filter(|key| !metadata.contains_key(*key)) {
        rustix::fs::fremovexattr(file, format!("{PREFIX}{key}"))?;
    }
    for (key, value) in metadata {
        let name = format!("{PREFIX}{key}");
        rustix::fs::fsetxattr(file, name, value.as_bytes(), XattrFlags::empty())?;
    }
    Ok(())
}

/// The keys of ours in a list of names, each ended by a NUL.
fn keys(names: &[u8]) -> impl Iterator<Item = &str> {
    names
        .split(|byte| *byte == 0)
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter_map(|name| name.strip_prefix(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_pairs_with_keys_in_lower_case() {
        let mut headers = HeaderMap::new();
        headers.insert("X-Metadata-Author", "Ada L.".parse().unwrap());
        headers.insert("content-type", "text/plain".parse().unwrap());
        let metadata = from_headers(&headers).unwrap();
        assert_eq!(metadata, Metadata::from([("author".to_owned(), "Ada L.".to_owned())]));
    }

    #[test]
    fn bad_pairs_are_refused_by_name() {
        let mut headers = HeaderMap::new();
        headers.insert("x-metadata-a", http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(from_headers(&headers), Err(MetadataError::Value { key: "a".to_owned() }));
        let mut headers = HeaderMap::new();
        headers.insert("x-metadata-", "x".parse().unwrap());
        assert_eq!(from_headers(&headers), Err(MetadataError::Key { key: String::new() }));
        let mut headers = HeaderMap::new();
        headers.insert("x-metadata-a", "v".repeat(VALUE_MAX + 1).parse().unwrap());
        assert_eq!(from_headers(&headers), Err(MetadataError::LongValue { key: "a".to_owned() }));
        let mut headers = HeaderMap::new();
        for number in 0..=PAIRS_MAX {
            let name = http::HeaderName::try_from(format!("x-metadata-{number}")).unwrap();
            headers.insert(name, "v".parse().unwrap());
        }
        assert_eq!(from_headers(&headers), Err(MetadataError::TooMany));
    }

    #[test]
    fn a_write_replaces_the_whole_set() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = File::create(&path).unwrap();
        let first =
            Metadata::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        replace(&file, &first).unwrap();
        assert_eq!(read(&path), first);
        let second = Metadata::from([("b".to_owned(), "3".to_owned())]);
        replace(&file, &second).unwrap();
        assert_eq!(read(&path), second);
        replace(&file, &Metadata::new()).unwrap();
        assert_eq!(read(&path), Metadata::new());
    }
}
