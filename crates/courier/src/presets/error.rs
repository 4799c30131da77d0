//! Why a preset cannot be made. No text here repeats an address as it was written: it may hold a
//! password.

use std::path::PathBuf;

/// Why the node's configuration of a package manager makes no preset. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// Nothing says where packages come from.
    #[error("nothing on this machine says where {what} come from: {remedy}")]
    Unsaid {
        /// What is missing, e.g. `Python packages`.
        what: &'static str,
        /// Which setting would say it.
        remedy: &'static str,
    },
    /// A file that is there and cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What was met.
        #[source]
        source: std::io::Error,
    },
    /// A file that the package manager would not understand either.
    #[error("{path} cannot be understood: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, without a value.
        why: String,
    },
    /// A text that is no address of a mirror.
    #[error("the address in {origin} cannot be used: {why}")]
    Address {
        /// Where it was found: a variable, or a file with the setting's name.
        origin: String,
        /// What is wrong.
        why: String,
    },
    /// A mirror on the node itself.
    #[error(
        "the address in {origin} is this machine's own, which no sandbox reaches: give the mirror \
         an address of the network, or reach it through a private tunnel"
    )]
    Loopback {
        /// Where it was found.
        origin: String,
    },
    /// A credential that cannot be added.
    #[error("the credential in {origin} cannot be added outside of the sandbox: {why}")]
    Credential {
        /// Where it was found.
        origin: String,
        /// What would be right.
        why: &'static str,
    },
}
