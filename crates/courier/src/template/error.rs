//! What can keep a template from being there, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use courier_protocol::node::BoxError;
use courier_types::LimitError;

use super::context::ContextError;
use super::dockerfile::DockerfileError;

/// Why a template cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    /// No recipe of that name.
    #[error("there is no template {name:?}: `courier template ls` lists those that are")]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// Building needs root and we are not.
    #[error("template {name:?} must be built first, which needs root: run `{command}`")]
    NotRoot {
        /// The template.
        name: String,
        /// What to run instead.
        command: String,
    },
    /// A program that builds is not installed.
    #[error("{tool} is not installed: run `{remedy}`")]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// The command that installs it.
        remedy: String,
    },
    /// The guest daemon's binary is not where it should be.
    #[error(
        "the guest daemon is not at {}: build it with `cargo build --bins`, or name it with \
         --guest-binary", path.display()
    )]
    GuestMissing {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be read.
        #[source]
        source: io::Error,
    },
    /// The machine's package sources name no Debian mirror.
    #[error(
        "this machine's package sources name no Debian mirror: name one with \
         `courier template build {name} --mirror URL`"
    )]
    NoMirror {
        /// The template.
        name: String,
    },
    /// The mirror does not answer.
    #[error(
        "the Debian mirror cannot be reached: check the network and /etc/apt, or name another \
         mirror with `courier template build {name} --mirror URL` (log: {}): {detail}", log.display()
    )]
    NoNetwork {
        /// The template.
        name: String,
        /// The tool's own words.
        detail: String,
        /// The whole log.
        log: PathBuf,
    },
    /// The file system is too full to begin.
    #[error(
        "{} has {free_mib} MiB free, building takes {needed_mib}: make room, or name another \
         folder with --templates", folder.display()
    )]
    NoSpace {
        /// The template folder.
        folder: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What a build takes.
        needed_mib: u64,
    },
    /// Another process builds and does not come to an end.
    #[error(
        "another process has been building templates in {} for {minutes} minutes: wait for it \
         or end it, then try again", folder.display()
    )]
    Busy {
        /// The template folder.
        folder: PathBuf,
        /// How long we waited.
        minutes: u64,
    },
    /// A step's program failed.
    #[error("{step} failed ({status}); the whole log is {}\n{tail}", log.display())]
    Step {
        /// The step.
        step: &'static str,
        /// How the program ended.
        status: String,
        /// Its last lines.
        tail: String,
        /// The whole log.
        log: PathBuf,
    },
    /// The host refused something.
    #[error("cannot {what} {}", path.display())]
    Host {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// The recipe's egress policy is none.
    #[error("the egress policy in the recipe of template {name:?} is none: mend its egress.json")]
    Egress {
        /// The template.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file that describes a template is damaged.
    #[error("{} is damaged: remove it and run `courier template build`", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// What a template says besides its Dockerfile cannot be read.
    #[error("the template.toml of template {name:?} cannot be read")]
    Settings {
        /// The template.
        name: String,
        /// What is wrong with it.
        #[source]
        source: toml::de::Error,
    },
    /// A cap in it is out of its range.
    #[error("the template.toml of template {name:?} has a limit that cannot be kept")]
    Limits {
        /// The template.
        name: String,
        /// Which.
        #[source]
        source: LimitError,
    },
    /// A binary of ours that a template needs is not where it should be.
    #[error(
        "{name} is not at {}: install it beside `courier`, or build it with `cargo build --bins`",
        path.display()
    )]
    BinaryMissing {
        /// The binary.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A Dockerfile of the product, or what it runs, is at fault.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// The files beside it cannot be packed.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The node on which steps run is at fault.
    #[error("the template cannot be built on this machine")]
    Node {
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl TemplateError {
    /// For `map_err`: what was being done, and to what.
    pub(crate) fn host(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Host { what, path, source }
    }
}
