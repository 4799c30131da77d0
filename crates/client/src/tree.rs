//! Directory trees and files by pattern, out of a guest that may lie: every name is checked before
//! anybody can use it as a host path, links are shown and never followed, counts are bounded.

use std::collections::HashSet;
use std::fmt;

use courier_protocol::envd::filesystem::{EntryInfo, FileType};

use crate::glob::Pattern;
use crate::{ClientError, GuestClient, Refusal};

/// Most entries of one tree or one set of patterns.
pub const ENTRIES_LIMIT: usize = 10_000;

/// Most levels of a tree.
pub const DEPTH_LIMIT: u32 = 32;

/// Most bytes of one component of a path, as in Linux file systems.
const COMPONENT_LIMIT_BYTES: usize = 255;

/// A path below some directory that cannot lead out of it: components are not empty, `.` or `..`,
/// and hold no slash and no NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(Vec<String>);

/// A path that climbs, is absolute, or is none at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a path below a directory")]
pub struct NotRelative {
    /// The path, cut to 256 characters.
    pub text: String,
}

impl RelativePath {
    /// Checks a path.
    ///
    /// # Errors
    /// It could lead out of the directory that it is relative to, or no file system takes it.
    pub fn parse(text: &str) -> Result<Self, NotRelative> {
        let refused = || NotRelative { text: text.chars().take(256).collect() };
        let components: Vec<String> = text.split('/').map(str::to_owned).collect();
        let levels = u32::try_from(components.len()).unwrap_or(u32::MAX);
        let good = |component: &String| {
            !matches!(component.as_str(), "" | "." | "..")
                && !component.contains('\0')
                && component.len() <= COMPONENT_LIMIT_BYTES
        };
        if levels <= DEPTH_LIMIT && components.iter().all(good) {
            Ok(Self(components))
        } else {
            Err(refused())
        }
    }

    /// Its components, at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, whatever it leads to.
    Link,
    /// A device, socket or pipe.
    Other,
}

impl TreeKind {
    fn of(entry: &EntryInfo) -> Self {
        if entry.is_symlink || entry.symlink_target.is_some() {
            return Self::Link;
        }
        match FileType::try_from(entry.kind) {
            Ok(FileType::File) => Self::File,
            Ok(FileType::Directory) => Self::Directory,
            Ok(FileType::Symlink) => Self::Link,
            Ok(FileType::Unspecified) | Err(_) => Self::Other,
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Where it is below the tree's root.
    pub path: RelativePath,
    /// Where it is in the guest, for a later read.
    pub guest_path: String,
    /// What it is.
    pub kind: TreeKind,
    /// Bytes, as the guest says.
    pub size_bytes: u64,
    /// Permission bits, without set-id and sticky.
    pub mode: u32,
}

impl TreeEntry {
    fn below(root: &str, entry: &EntryInfo) -> Result<Self, ClientError> {
        let lied = || ClientError::protocol(format!("{:?} is not below {root:?}", entry.path));
        let prefix = format!("{}/", root.trim_end_matches('/'));
        let rest = entry.path.strip_prefix(&prefix).ok_or_else(lied)?;
        let path = RelativePath::parse(rest).map_err(|_climbs| lied())?;
        Ok(Self {
            guest_path: format!("{prefix}{path}"),
            path,
            kind: TreeKind::of(entry),
            size_bytes: u64::try_from(entry.size).unwrap_or(0),
            mode: entry.mode & 0o777,
        })
    }
}

/// Files that patterns matched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matches {
    /// Regular files, each once, in the order of the patterns.
    pub files: Vec<TreeEntry>,
    /// Patterns that matched nothing.
    pub unmatched: Vec<String>,
    /// Why the guest could not be asked, where it could not: then `files` may lack some.
    pub failure: Option<String>,
}

impl GuestClient {
    /// Everything below a directory, given by its absolute guest path: depth first, directories
    /// before what they hold.
    ///
    /// # Errors
    /// See [`ClientError`]; more than [`ENTRIES_LIMIT`] entries are too many.
    pub async fn tree(&self, root: &str, depth: u32) -> Result<Vec<TreeEntry>, ClientError> {
        let entries = self.list_dir(root, depth.clamp(1, DEPTH_LIMIT)).await?;
        if entries.len() > ENTRIES_LIMIT {
            return Err(ClientError::protocol(format!(
                "{root:?} has more than {ENTRIES_LIMIT} entries"
            )));
        }
        entries.iter().map(|entry| TreeEntry::below(root, entry)).collect()
    }

    /// The regular files that patterns match; of a directory that one names, all below it.
    ///
    /// # Errors
    /// See [`ClientError`]. A pattern without matches is no error.
    pub async fn find_files(
        &self,
        patterns: &[Pattern],
        cwd: &str,
    ) -> Result<Matches, ClientError> {
        let mut found = Matches::default();
        let mut known = HashSet::new();
        for pattern in patterns {
            let files = match self.find(pattern, cwd).await {
                Err(error) if error.refusal() == Some(Refusal::NotFound) => Vec::new(),
                files => files?,
            };
            if files.is_empty() {
                found.unmatched.push(pattern.as_str().to_owned());
            }
            for file in files {
                if known.insert(file.guest_path.clone()) {
                    found.files.push(file);
                }
            }
            if found.files.len() > ENTRIES_LIMIT {
                return Err(ClientError::protocol(format!("more than {ENTRIES_LIMIT} files")));
            }
        }
        Ok(found)
    }

    async fn find(&self, pattern: &Pattern, cwd: &str) -> Result<Vec<TreeEntry>, ClientError> {
        let base = pattern.base(cwd);
        if !pattern.is_plain() {
            let depth = pattern.depth(cwd).unwrap_or(DEPTH_LIMIT);
            let mut entries = self.tree(&base, depth).await?;
            entries.retain(|entry| {
                entry.kind == TreeKind::File && pattern.matches(cwd, &entry.guest_path)
            });
            return Ok(entries);
        }
        let path = pattern.absolute(cwd);
        let entry = self.stat(&path).await?;
        match TreeKind::of(&entry) {
            TreeKind::Directory => {
                let mut entries = self.tree(path.trim_end_matches('/'), DEPTH_LIMIT).await?;
                entries.retain(|entry| entry.kind == TreeKind::File);
                Ok(entries)
            }
            // Naming a link means what it leads to; the guest follows it within itself.
            TreeKind::File | TreeKind::Link => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let relative = RelativePath::parse(name)
                    .map_err(|error| ClientError::Request(error.into()))?;
                Ok(vec![TreeEntry {
                    path: relative,
                    guest_path: path.clone(),
                    kind: TreeKind::File,
                    size_bytes: u64::try_from(entry.size).unwrap_or(0),
                    mode: entry.mode & 0o777,
                }])
            }
            TreeKind::Other => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_climbs_is_absolute_or_has_no_name_is_refused() {
        for text in ["", ".", "..", "../a", "a/../b", "/a", "a//b", "a/", "a\0b", "a/./b"] {
            assert!(RelativePath::parse(text).is_err(), "{text:?}");
        }
        let deep = vec!["a"; 33].join("/");
        assert!(RelativePath::parse(&deep).is_err());
        assert_eq!(RelativePath::parse("a/..b/c.").unwrap().to_string(), "a/..b/c.");
    }

    #[test]
    fn an_entry_that_claims_to_be_elsewhere_is_a_lie() {
        let entry = |path: &str| EntryInfo { path: path.into(), ..EntryInfo::default() };
        assert!(TreeEntry::below("/out", &entry("/out/a/b")).is_ok());
        for path in ["/etc/passwd", "/out", "/out/../etc/passwd", "/outside", "out/a", "/out//a"] {
            assert!(TreeEntry::below("/out", &entry(path)).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_accepted_path_leads_out_of_its_directory(text in "[./a\\\\\0]{0,30}") {
            if let Ok(path) = RelativePath::parse(&text) {
                let joined = std::path::Path::new("/root").join(path.to_string());
                let normal = joined.components().skip(2)
                    .all(|c| matches!(c, std::path::Component::Normal(_)));
                prop_assert!(normal && joined.starts_with("/root"));
            }
        }
    }
}
