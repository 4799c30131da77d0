//! Lists what of the host goes into a sandbox.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Files and folders into one sandbox, at most: what `--in` of a home folder by mistake would be.
const MAX_ENTRIES: usize = 100_000;

/// One thing to make inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A folder.
    Folder {
        /// Its path inside.
        guest: String,
    },
    /// A file.
    File {
        /// Where it is on the host.
        host: PathBuf,
        /// Its path inside.
        guest: String,
    },
}

/// What a path of the host amounts to: itself when it is a file; a folder with all that is in it,
/// outer things first. Symbolic links below a folder are not followed, devices and sockets not read:
/// they come back as the second list.
pub(crate) fn walk(host: &Path, guest: &str) -> anyhow::Result<(Vec<Entry>, Vec<PathBuf>)> {
    let kind = std::fs::metadata(host)
        .with_context(|| format!("{} cannot be read", host.display()))?
        .file_type();
    if kind.is_file() {
        let file = Entry::File { host: host.to_owned(), guest: guest.to_owned() };
        return Ok((vec![file], Vec::new()));
    }
    if !kind.is_dir() {
        bail!("{} is neither a file nor a folder", host.display());
    }
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    let mut pending = vec![(host.to_owned(), guest.trim_end_matches('/').to_owned())];
    while let Some((folder, guest)) = pending.pop() {
        entries.push(Entry::Folder { guest: guest.clone() });
        let listing = std::fs::read_dir(&folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        for item in listing {
            let item = item.with_context(|| format!("{} cannot be read", folder.display()))?;
            let path = item.path();
            let Some(name) = item.file_name().to_str().map(ToOwned::to_owned) else {
                bail!("{} has a name that is not UTF-8; rename it", path.display());
            };
            let inside = format!("{guest}/{name}");
            let kind = item.file_type()?;
            if kind.is_dir() {
                pending.push((path, inside));
            } else if kind.is_file() {
                entries.push(Entry::File { host: path, guest: inside });
            } else {
                skipped.push(path);
            }
            if entries.len() + pending.len() > MAX_ENTRIES {
                bail!("{} has more than {MAX_ENTRIES} files and folders", host.display());
            }
        }
    }
    Ok((entries, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_in_whole_but_its_symbolic_links_stay_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/f"), "1").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("a/link")).unwrap();
        let (entries, skipped) = walk(&dir.path().join("a"), "/home/user/a/").unwrap();
        assert_eq!(
            entries,
            [
                Entry::Folder { guest: "/home/user/a".into() },
                Entry::Folder { guest: "/home/user/a/b".into() },
                Entry::File { host: dir.path().join("a/b/f"), guest: "/home/user/a/b/f".into() },
            ]
        );
        assert_eq!(skipped, [dir.path().join("a/link")]);
    }

    #[test]
    fn a_path_that_is_not_there_is_named_in_the_error() {
        let error = walk(Path::new("/nonexistent/x"), "x").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x"));
    }
}
