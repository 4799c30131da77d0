//! The path of an entry: relative to the root of the archive, in one spelling only.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Longest path in bytes: Linux's `PATH_MAX`, less the `/` before and the NUL behind.
pub const PATH_MAX: usize = 4_094;

/// Longest name of one component in bytes: Linux's `NAME_MAX`.
pub const NAME_MAX: usize = 255;

/// Most components. Whoever walks a tree holds a descriptor for each level of it; the deepest trees
/// that package managers make have some 50.
pub const DEPTH_MAX: usize = 256;

/// Why bytes are no path of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There is no name in it.
    #[error("the path is empty")]
    Empty,
    /// It begins with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// It has a NUL.
    #[error("the path contains a NUL")]
    Nul,
    /// It has a component `..`.
    #[error("the path leads upwards by '..'")]
    Upwards,
    /// It has an empty component, or one that is `.`, where another spelling says the same.
    #[error("the path has an empty or '.' component")]
    Spelling,
    /// A component is longer than [`NAME_MAX`].
    #[error("a name in the path is longer than {NAME_MAX} bytes")]
    NameTooLong,
    /// It is longer than [`PATH_MAX`].
    #[error("the path is longer than {PATH_MAX} bytes")]
    TooLong,
    /// It has more components than [`DEPTH_MAX`].
    #[error("the path has more than {DEPTH_MAX} components")]
    TooDeep,
}

/// A relative path without an empty, `.` or `..` component. It is bytes, as Linux's are.
///
/// The order is that of a walk which takes each folder's names in the order of their bytes: a folder
/// stands right before what is in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The path of these bytes.
    ///
    /// # Errors
    /// They are not that path's one spelling.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        match bytes.first() {
            None => return Err(PathError::Empty),
            Some(b'/') => return Err(PathError::Absolute),
            Some(_) => {}
        }
        if bytes.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        let mut depth = 0_usize;
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => return Err(PathError::Spelling),
                b".." => return Err(PathError::Upwards),
                name if name.len() > NAME_MAX => return Err(PathError::NameTooLong),
                name if name.contains(&0) => return Err(PathError::Nul),
                _name => depth = depth.saturating_add(1),
            }
        }
        if depth > DEPTH_MAX { Err(PathError::TooDeep) } else { Ok(Self(bytes)) }
    }

    /// The path that a tar means: one `./` before and one `/` behind are usual there and say
    /// nothing. `None` is the root itself.
    ///
    /// # Errors
    /// As of [`EntryPath::new`].
    pub(crate) fn from_archive(bytes: &[u8]) -> Result<Option<Self>, PathError> {
        if matches!(bytes, b"." | b"./") {
            return Ok(None);
        }
        let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
        let bytes = match bytes {
            b"/" => bytes,
            _ => bytes.strip_suffix(b"/").unwrap_or(bytes),
        };
        Self::new(bytes).map(Some)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It as a relative path of the file system.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Its components, from the root on.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// Its last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// The folder that it is in; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        self.0.get(..end).map(|bytes| Self(bytes.to_vec()))
    }

    /// The path of a name in a folder; `None` is the root folder.
    ///
    /// # Errors
    /// The name has a `/`, is none, or the path becomes too long or too deep.
    pub fn within(folder: Option<&Self>, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&b'/') {
            return Err(PathError::Spelling);
        }
        match folder {
            None => Self::new(name),
            Some(folder) => Self::new([folder.as_bytes(), name].join(&b'/')),
        }
    }

    /// Whether it is `folder` or below it.
    #[must_use]
    pub fn is_in(&self, folder: &Self) -> bool {
        self.0.strip_prefix(folder.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntryPath {
    /// What is not printable ASCII is escaped: paths come from strangers and end up in terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn only_the_one_spelling_of_a_path_is_taken() {
        assert_eq!(path("a/b.c/...").to_string(), "a/b.c/...");
        let long_name = format!("a/{}", "n".repeat(NAME_MAX + 1));
        let long = format!("{}b", "a/".repeat(PATH_MAX / 2));
        for (text, error) in [
            ("", PathError::Empty),
            ("/etc/passwd", PathError::Absolute),
            ("a/../b", PathError::Upwards),
            ("..", PathError::Upwards),
            ("./a", PathError::Spelling),
            ("a//b", PathError::Spelling),
            ("a/", PathError::Spelling),
            ("a/./b", PathError::Spelling),
            ("a\0b", PathError::Nul),
            (long_name.as_str(), PathError::NameTooLong),
            (long.as_str(), PathError::TooLong),
            (&"a/".repeat(DEPTH_MAX), PathError::Spelling),
            (&format!("{}a", "a/".repeat(DEPTH_MAX)), PathError::TooDeep),
        ] {
            assert_eq!(EntryPath::new(text), Err(error), "{text:.20}");
        }
    }

    #[test]
    fn what_tars_put_around_a_path_says_nothing() {
        for text in ["a/b", "./a/b", "a/b/", "./a/b/"] {
            assert_eq!(EntryPath::from_archive(text.as_bytes()), Ok(Some(path("a/b"))), "{text}");
        }
        for text in [".", "./"] {
            assert_eq!(EntryPath::from_archive(text.as_bytes()), Ok(None), "{text}");
        }
        for text in ["/", "//", ".//", "././a", "a//", "", "/a", "./../a"] {
            assert!(EntryPath::from_archive(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_folder_stands_right_before_what_is_in_it() {
        let mut paths = ["a-b", "a/b", "a", "a/b/c", "a.d", "b"].map(path);
        paths.sort();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a-b", "a.d", "b"].map(path));
    }

    #[test]
    fn a_name_is_below_its_folders_and_not_below_their_namesakes() {
        assert!(path("a/b").is_in(&path("a")));
        assert!(path("a").is_in(&path("a")));
        assert!(!path("ab").is_in(&path("a")));
        assert_eq!(path("a/b/c").parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), None);
        assert_eq!(path("a/b").name(), b"b");
        assert_eq!(EntryPath::within(Some(&path("a")), b"b"), Ok(path("a/b")));
        assert_eq!(EntryPath::within(None, b"b/c"), Err(PathError::Spelling));
        assert_eq!(EntryPath::within(None, b".."), Err(PathError::Upwards));
    }
}
