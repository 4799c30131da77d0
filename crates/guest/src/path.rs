//! The path that a client means: `~` and relative paths are those of the user, `.` and `..` are
//! taken out lexically (links are not looked at), and what no kernel could open is refused here.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Longest path in bytes: Linux's `PATH_MAX` without the final NUL.
pub(crate) const PATH_MAX: usize = 4_095;

/// Longest name of one component in bytes: Linux's `NAME_MAX`.
const NAME_MAX: usize = 255;

/// Why a text names no path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PathError {
    /// It holds a NUL, which ends a path in every system call.
    #[error("path {path:?} contains a NUL character")]
    Nul {
        /// The text.
        path: String,
    },
    /// It is longer than the kernel takes.
    #[error("path of {length} bytes is too long; at most {PATH_MAX} are allowed")]
    TooLong {
        /// Its length once made absolute.
        length: usize,
    },
    /// One of its names is longer than a file system takes.
    #[error("path component of {length} bytes is too long; at most {NAME_MAX} are allowed")]
    NameTooLong {
        /// That name's length.
        length: usize,
    },
    /// It asks for the home of another user by `~name`.
    #[error("cannot expand the home directory in {path:?}; only '~' and '~/...' are supported")]
    OthersHome {
        /// The text.
        path: String,
    },
}

/// The absolute path, without `.`, `..` or doubled slashes, that `text` means to the user
/// whose home is `home`. An empty text is the home.
///
/// # Errors
/// [`PathError`], when no such path could exist.
pub(crate) fn resolve(text: &str, home: &Path) -> Result<PathBuf, PathError> {
    if text.contains('\0') {
        return Err(PathError::Nul { path: shorten(text) });
    }
    if text.len() > PATH_MAX {
        return Err(PathError::TooLong { length: text.len() });
    }
    let path = match text.strip_prefix('~') {
        None => normalise(&home.join(text)),
        Some("") => normalise(home),
        Some(rest) => match rest.strip_prefix('/') {
            Some(below) => normalise(&home.join(below.trim_start_matches('/'))),
            None => return Err(PathError::OthersHome { path: shorten(text) }),
        },
    };
    check_lengths(path)
}

fn check_lengths(path: PathBuf) -> Result<PathBuf, PathError> {
    let length = path.as_os_str().len();
    if length > PATH_MAX {
        return Err(PathError::TooLong { length });
    }
    match path.iter().map(std::ffi::OsStr::len).find(|length| *length > NAME_MAX) {
        Some(length) => Err(PathError::NameTooLong { length }),
        None => Ok(path),
    }
}

/// Takes out `.` and `..`; `..` at the root stays there.
fn normalise(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::RootDir
            | std::path::Component::CurDir
            | std::path::Component::Prefix(_) => {}
        }
    }
    clean
}

/// The beginning of a text, short enough for a message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> &'static Path {
        Path::new("/home/user")
    }

    #[track_caller]
    fn assert_resolves(text: &str, expected: &str) {
        assert_eq!(resolve(text, home()).unwrap(), Path::new(expected), "of {text:?}");
    }

    #[test]
    fn tilde_is_the_home_and_relative_paths_start_there() {
        assert_resolves("~", "/home/user");
        assert_resolves("~/a", "/home/user/a");
        assert_resolves("~//etc/passwd", "/home/user/etc/passwd");
        assert_resolves("a/b", "/home/user/a/b");
        assert_resolves("", "/home/user");
        assert_resolves("./~", "/home/user/~");
        assert_resolves("/abs", "/abs");
    }

    #[test]
    fn dots_are_taken_out_and_never_climb_above_the_root() {
        assert_resolves("/a/./b//c/../d/", "/a/b/d");
        assert_resolves("/../../../etc", "/etc");
        assert_resolves("../../../..", "/");
        assert_resolves("~/../other", "/home/other");
        assert_resolves("/a/...", "/a/...");
    }

    #[test]
    fn what_no_kernel_could_open_is_refused() {
        assert!(matches!(resolve("/a\0b", home()), Err(PathError::Nul { .. })));
        assert!(matches!(resolve("~root/x", home()), Err(PathError::OthersHome { .. })));
        let deep = "a/".repeat(3_000);
        assert!(matches!(resolve(&deep, home()), Err(PathError::TooLong { length: 6_000 })));
        let name = "n".repeat(256);
        assert!(matches!(resolve(&name, home()), Err(PathError::NameTooLong { length: 256 })));
        assert!(resolve(&"n".repeat(255), home()).is_ok());
    }

    #[test]
    fn a_path_that_is_too_long_only_below_the_home_is_refused() {
        let text = format!("{}b", "a/".repeat(2_045));
        assert!(matches!(resolve(&text, home()), Err(PathError::TooLong { .. })));
    }
}
