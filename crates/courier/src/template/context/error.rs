//! Why a context cannot be packed.

use std::io;
use std::path::{Path, PathBuf};

use super::super::dockerfile::Fault;
use super::pattern::PatternError;

/// Why a context cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// What a COPY asks for cannot be copied: the fault has its place in the Dockerfile.
    #[error("{}", .0.what)]
    Asked(Fault),
    /// A line of the file that says what is left out is no pattern.
    #[error("{}:{line}: {source}", path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        source: PatternError,
    },
    /// Something cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Host {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An archive of it could not be written.
    #[error("the files of the context cannot be packed")]
    Archive(#[from] courier_archive::WriteError),
}

impl ContextError {
    /// For `map_err`: what was being done, and to what.
    pub(crate) fn host(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Host { what, path, source }
    }
}
