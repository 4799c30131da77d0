//! What a node says about its package managers: variables and files, as they are at this moment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::error::ConfigurationError;

/// Longest file of configuration that is read: real ones have a few hundred bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// The machine, or a folder that stands for one.
#[derive(Clone)]
pub(crate) struct Machine {
    root: PathBuf,
    variables: BTreeMap<String, String>,
}

impl std::fmt::Debug for Machine {
    /// Without the variables' values: package managers take passwords from them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Machine {
    /// The machine that has its files below `root`, with these environment variables.
    pub(crate) const fn new(root: PathBuf, variables: BTreeMap<String, String>) -> Self {
        Self { root, variables }
    }

    /// All variables.
    pub(crate) const fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// One variable; an empty one counts as not set.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The path that one variable names, else `otherwise` below the home folder.
    pub(crate) fn path_or_home(&self, variable: &str, otherwise: &str) -> Option<PathBuf> {
        self.variable(variable).map(PathBuf::from).or_else(|| self.home(otherwise))
    }

    /// A path below the home folder; `None` without one.
    pub(crate) fn home(&self, path: &str) -> Option<PathBuf> {
        self.variable("HOME").map(|home| Path::new(home).join(path))
    }

    /// A path below the user's folder of configuration (the XDG base directory specification).
    pub(crate) fn user_config(&self, path: &str) -> Option<PathBuf> {
        let folder = self.variable("XDG_CONFIG_HOME").map(PathBuf::from);
        folder.or_else(|| self.home(".config")).map(|folder| folder.join(path))
    }

    /// Where a path of the machine is for us.
    pub(crate) fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text; `None` where there is none, or none that we may read: another user's settings
    /// are not this node's.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<String>, ConfigurationError> {
        let failed = |source| ConfigurationError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = match File::open(self.place(path)) {
            Ok(file) => file,
            Err(error) => return absent(path, error).map(|()| None).map_err(failed),
        };
        // A folder, or a device without an end, is no configuration.
        if !file.metadata().map_err(failed)?.is_file() {
            return Ok(None);
        }
        let length = file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if u64::try_from(length).is_ok_and(|length| length > FILE_MAX) {
            return Err(failed(io::Error::other("it is too large to be configuration")));
        }
        Ok(Some(text))
    }

    /// Names of what is in a folder; none where there is no such folder, or none that we may read.
    pub(crate) fn names(&self, folder: &Path) -> Result<Vec<OsString>, ConfigurationError> {
        let failed = |source| ConfigurationError::Read { path: folder.to_owned(), source };
        match std::fs::read_dir(self.place(folder)) {
            Ok(entries) => {
                let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
                names.collect::<Result<_, _>>().map_err(failed)
            }
            Err(error) => absent(folder, error).map(|()| Vec::new()).map_err(failed),
        }
    }
}

/// Tells what is as good as not there from what went wrong.
fn absent(path: &Path, error: io::Error) -> Result<(), io::Error> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
        io::ErrorKind::PermissionDenied => {
            tracing::debug!(path = %path.display(), "left out: the node's user may not read it");
            Ok(())
        }
        _other => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_no_configuration_and_a_large_one_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::new(root.path().to_owned(), BTreeMap::new());
        assert!(machine.read(Path::new("/etc/absent")).unwrap().is_none());
        std::fs::create_dir_all(root.path().join("etc/folder")).unwrap();
        assert!(machine.read(Path::new("/etc/folder")).unwrap().is_none());
        let large = vec![b' '; usize::try_from(FILE_MAX).unwrap() + 1];
        std::fs::write(root.path().join("etc/large"), large).unwrap();
        assert!(machine.read(Path::new("/etc/large")).is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_names_and_a_file_is_none() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::new(root.path().to_owned(), BTreeMap::new());
        assert!(machine.names(Path::new("/etc/absent.d")).unwrap().is_empty());
        std::fs::create_dir_all(root.path().join("etc/there.d")).unwrap();
        std::fs::write(root.path().join("etc/there.d/a.conf"), "").unwrap();
        assert_eq!(machine.names(Path::new("/etc/there.d")).unwrap(), ["a.conf"]);
    }

    #[test]
    fn values_of_variables_are_not_printed() {
        let variables = [("X".to_owned(), "canary".to_owned())].into();
        let machine = Machine::new("/".into(), variables);
        assert!(!format!("{machine:?}").contains("canary"));
    }
}
