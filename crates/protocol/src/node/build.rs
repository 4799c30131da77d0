//! What the server asks of a node about builds: an order in, log entries on the way, a build out.
//!
//! A build is untrusted code too: its steps run in a sandbox of its own, with limits, a deadline and
//! an egress policy like every other one.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use courier_types::egress::SecretValue;
use courier_types::{BuildConfig, SandboxSpec, Timestamp};

use super::{Body, BoxError, NodeError};

/// What a registry wants to see before it gives an image.
#[derive(Debug, Clone)]
pub struct RegistryLogin {
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: SecretValue,
}

/// What a build starts from.
#[derive(Debug, Clone)]
pub enum BuildSource {
    /// An image of an OCI registry.
    Image {
        /// As users write it: `python:3.12`, `registry.example/team/app@sha256:…`.
        reference: String,
        /// Where the registry wants one.
        login: Option<RegistryLogin>,
    },
    /// Another build of this node.
    Build {
        /// Its reference, as in [`SandboxSpec::build`].
        build: String,
        /// What it says about its sandboxes; steps start from that. Its start and ready commands
        /// are not inherited.
        config: BuildConfig,
    },
}

/// Something that a build does. Words are those of Dockerfiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// Runs a command line by `/bin/bash -l -c`, in the current directory, with the environment so
    /// far; a status other than 0 ends the build.
    Run {
        /// The command line.
        command: String,
        /// The user, where it is not the current one.
        user: Option<String>,
    },
    /// Puts files of the build's context in place.
    Copy {
        /// Path in the archive: a file, or a folder whose content is meant. `.` is all of it.
        source: String,
        /// Path inside; relative to the current directory. A trailing `/` means into that folder.
        destination: String,
        /// `USER` or `USER:GROUP`, where it is not the current user's.
        owner: Option<String>,
        /// Permission bits of the files, where they are not the archive's.
        mode: Option<u32>,
        /// Which archive (64 hex digits): [`BuildWatcher::files`] gives it.
        files: String,
    },
    /// Changes the current directory, relative to the one before, and makes it.
    Workdir(String),
    /// Changes the current user, and makes it where there is none.
    User(String),
    /// Sets variables, in order; `$NAME` and `${NAME}` stand for those so far.
    Env(Vec<(String, String)>),
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// It and everything after it is done though it was done before.
    pub force: bool,
}

/// A build to make.
#[derive(Debug, Clone)]
pub struct BuildOrder {
    /// What it starts from.
    pub source: BuildSource,
    /// What it does then.
    pub steps: Vec<Step>,
    /// See [`BuildConfig::start`].
    pub start: Option<String>,
    /// See [`BuildConfig::ready`].
    pub ready: Option<String>,
    /// Nothing that an earlier build made is used.
    pub force: bool,
    /// The sandbox that the steps run in: its id, caps, deadline, network, environment and files.
    /// [`SandboxSpec::build`] is the reference that the new build gets.
    pub sandbox: SandboxSpec,
}

/// How much an entry of a build's log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuildLogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// What is being done, and what commands write.
    Info,
    /// What commands write to their standard error.
    Warn,
    /// Why the build failed.
    Error,
}

/// Where in a build something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStage {
    /// Before the first step.
    Base,
    /// In a step, counted from 1.
    Step(usize),
    /// After the last step.
    Finalize,
}

impl fmt::Display for BuildStage {
    /// As E2B's wire has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("base"),
            Self::Step(number) => write!(f, "{number}"),
            Self::Finalize => f.write_str("finalize"),
        }
    }
}

/// An entry of a build's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildLog {
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub level: BuildLogLevel,
    /// Where.
    pub stage: BuildStage,
    /// One line, without its end; what is not UTF-8 is replaced, and what is too long is cut.
    pub message: String,
}

/// Whoever a build is made for.
#[async_trait]
pub trait BuildWatcher: Send + Sync + 'static {
    /// Takes an entry of the log. Entries come in order; the call does not wait.
    fn log(&self, entry: BuildLog);

    /// The archive of a COPY step: a tar, maybe gzipped, from a client and hostile.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    async fn files(&self, files: &str) -> Result<Body, BoxError>;
}

/// A build that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// What it says about its sandboxes.
    pub config: BuildConfig,
    /// Size of its root file system in bytes.
    pub size_bytes: u64,
    /// Digest (`sha256:…`) of the image that it started from, where that came from a registry.
    pub image_digest: Option<String>,
}

/// Why a build was not made. Nothing of it is left but layers that later builds may use.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something that the order says, or that its code did, is at fault: the message is for its
    /// author.
    #[error("{message}")]
    Failed {
        /// Where.
        stage: BuildStage,
        /// What went wrong, whole: `failed to run command 'make': exit status 2`.
        message: String,
    },
    /// The node is at fault, or has no room.
    #[error("the node could not make the build")]
    Node(#[from] NodeError),
}

/// The part of a node that makes builds and keeps them.
///
/// Builds are independent of each other. Cancellation: dropping the future of [`Builder::build`]
/// ends its sandbox and leaves nothing of the build.
#[async_trait]
pub trait Builder: Send + Sync + 'static {
    /// Makes a build, and returns when sandboxes can be made from it.
    async fn build(
        &self,
        order: BuildOrder,
        watcher: Arc<dyn BuildWatcher>,
    ) -> Result<Built, BuildError>;

    /// Forgets a build; gone already is success. Sandboxes that run from it go on.
    async fn remove(&self, build: &str) -> Result<(), NodeError>;

    /// Forgets every build that a server ordered and that is not in `keep`: after a crash, those
    /// that nobody knows of.
    async fn remove_except(&self, keep: &[String]) -> Result<Vec<String>, NodeError>;
}

/// A builder, shared.
pub type SharedBuilder = Arc<dyn Builder>;
