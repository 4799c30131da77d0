//! From a client's path to the place that it names, without ever leaving the volume: links are
//! followed here, step by step, and one that leads out of the volume is refused.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::filesystem::error::FilesystemError;
use crate::path::PATH_MAX;

use super::VolumeError;

/// Most links on the way, as in the kernel.
const LINKS_MAX: u32 = 40;

/// Most steps of a path with its links: they may name each other's folders.
const STEPS_MAX: u32 = 4_096;

/// Why a path is no place in the volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceError {
    /// It has a NUL, or is too long.
    #[error("a path has no NUL and at most {PATH_MAX} bytes")]
    Text,
    /// It climbs.
    #[error("path {path:?} leads out of the volume")]
    Climbs {
        /// As it was asked for.
        path: String,
    },
    /// A link leads out.
    #[error("path {path:?} goes through the link {link:?}, which leads out of the volume")]
    LinkOut {
        /// As it was asked for.
        path: String,
        /// The link.
        link: String,
    },
    /// Links lead to each other.
    #[error("path {path:?} goes through too many links")]
    Links {
        /// As it was asked for.
        path: String,
    },
    /// The volume itself cannot be removed or replaced here.
    #[error("the root of a volume can be neither removed nor replaced")]
    Root,
}

/// Whether a link at the end of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// It is.
    Followed,
    /// It is meant itself.
    Itself,
}

/// A place in the volume; something is there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its path from the volume's root, without links on the way.
    pub(crate) shown: PathBuf,
    /// The same in this sandbox.
    pub(crate) inside: PathBuf,
}

impl Place {
    /// Finds the place that `text` names in the volume at `root`.
    ///
    /// # Errors
    /// [`PlaceError`], or something on the way is not there or no folder.
    pub(crate) fn find(root: &Path, text: &str, last: Last) -> Result<Self, VolumeError> {
        if text.contains('\0') || text.len() > PATH_MAX {
            return Err(PlaceError::Text.into());
        }
        let shown: String = text.chars().take(256).collect();
        let climbs = || PlaceError::Climbs { path: shown.clone() };
        let (mut place, mut links) = (PathBuf::new(), 0);
        let mut left = steps(Path::new(text));
        for _step in 0..STEPS_MAX {
            let Some(step) = left.pop_front() else { return Ok(Self::at(root, &place)) };
            if step == ".." {
                if !place.pop() {
                    return Err(climbs().into());
                }
                continue;
            }
            place.push(&step);
            let is_last = left.is_empty();
            let Some(target) = link(&root.join(&place), is_last)? else { continue };
            if is_last && last == Last::Itself {
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(PlaceError::Links { path: shown }.into());
            }
            if target.is_absolute() {
                let link = place.to_string_lossy().into_owned();
                return Err(PlaceError::LinkOut { path: shown, link }.into());
            }
            place.pop();
            for step in steps(&target).into_iter().rev() {
                left.push_front(step);
            }
        }
        Err(PlaceError::Links { path: shown }.into())
    }

    fn at(root: &Path, place: &Path) -> Self {
        Self { shown: Path::new("/").join(place), inside: root.join(place) }
    }

    /// The folder that it is in; none for the volume itself.
    pub(crate) fn parent(&self) -> Option<Self> {
        let (shown, inside) = (self.shown.parent()?, self.inside.parent()?);
        Some(Self { shown: shown.to_owned(), inside: inside.to_owned() })
    }

    /// A place below this one.
    pub(crate) fn below(&self, name: OsString) -> Self {
        let name = Path::new(&name);
        Self { shown: self.shown.join(name), inside: self.inside.join(name) }
    }

    /// True for the volume itself.
    pub(crate) fn is_root(&self) -> bool {
        self.shown == Path::new("/")
    }
}

/// Where the link at a path leads; `None` for anything else, and at the end for nothing as well.
fn link(path: &Path, is_last: bool) -> Result<Option<PathBuf>, FilesystemError> {
    let failed = |error| FilesystemError::io("look at", path, error);
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => std::fs::read_link(path).map(Some).map_err(failed),
        Ok(meta) if is_last || meta.is_dir() => Ok(None),
        Ok(_other) => Err(FilesystemError::NotADirectory { path: path.to_owned() }),
        // What is below something that is not there is not there; whoever makes folders says so.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .filter(|name| !name.as_bytes().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn shown(root: &Path, text: &str, last: Last) -> Result<String, String> {
        Place::find(root, text, last)
            .map(|place| place.shown.to_string_lossy().into_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn links_are_followed_within_the_volume_and_never_out_of_it() {
        let volume = tempfile::tempdir().unwrap();
        let root = volume.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/file"), "").unwrap();
        for (name, target) in [
            ("in", "a/b"),
            ("up", "../etc"),
            ("abs", "/etc"),
            ("round", "round"),
            ("a/b/back", "../file"),
            ("deep", "a/b/../../../.."),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let found = |text| shown(root, text, Last::Followed);
        assert_eq!(found("").as_deref(), Ok("/"));
        assert_eq!(found("a//b/./").as_deref(), Ok("/a/b"));
        assert_eq!(found("/in/back").as_deref(), Ok("/a/file"));
        assert_eq!(found("/a/b/../new").as_deref(), Ok("/a/new"));
        assert_eq!(found("/none/of/it").as_deref(), Ok("/none/of/it"));
        assert_eq!(shown(root, "/in", Last::Itself).as_deref(), Ok("/in"));
        for text in ["..", "/a/../..", "up/passwd", "up", "abs", "abs/passwd", "round", "deep"] {
            let error = found(text).unwrap_err();
            assert!(error.contains("out of the volume") || error.contains("links"), "{error}");
        }
        assert!(found("/a/file/below").unwrap_err().contains("not a directory"));
        assert!(found("a\0b").is_err() && found(&"a/".repeat(PATH_MAX)).is_err());
    }
}
