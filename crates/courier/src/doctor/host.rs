//! The machine as the checks see it: files below a root, so that tests can make one up.

use std::fs;
use std::path::{Path, PathBuf};

/// Where programs are looked for.
const PROGRAMS: [&str; 6] =
    ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// A machine.
#[derive(Debug)]
pub(crate) struct Host {
    root: PathBuf,
}

impl Host {
    /// The one that we run on.
    pub(crate) fn this() -> Self {
        Self::at(Path::new("/"))
    }

    /// One whose files are below a folder.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A file's text; empty where it cannot be read.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default().trim_end().to_owned()
    }

    /// A file that holds a number.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.read(path).trim().parse().ok()
    }

    /// Whether something is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Where a program is.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        PROGRAMS.iter().map(|folder| self.root.join(folder).join(name)).find(|path| path.is_file())
    }

    /// A line `KEY=value` of `/etc/os-release`.
    pub(crate) fn release(&self, key: &str) -> Option<String> {
        let text = self.read("etc/os-release");
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    }
}
