//! What is asked of a sandbox, and what was seen of it: never one field.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::egress::NetworkSpec;
use crate::{AccessToken, BuildConfig, EndReason, Limits, SandboxId, Timestamp, VolumeMount};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// It shall run.
    Running,
    /// It shall be gone.
    Killed,
}

/// What a node reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ObservedState {
    /// Being made; nothing of the user's has run.
    Creating,
    /// The guest daemon answers.
    Running,
    /// Being destroyed.
    Killing,
    /// Gone, as it should be.
    Killed {
        /// Why it ended.
        reason: EndReason,
    },
    /// Gone, as it should not be.
    Error {
        /// Why it ended.
        reason: EndReason,
    },
}

impl ObservedState {
    /// The terminal state for a reason.
    #[must_use]
    pub const fn ended(reason: EndReason) -> Self {
        if reason.is_failure() { Self::Error { reason } } else { Self::Killed { reason } }
    }

    /// True when nothing more can happen.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Creating | Self::Running | Self::Killing => false,
            Self::Killed { .. } | Self::Error { .. } => true,
        }
    }
}

/// Counter of published states of one object: a report with a lower number is stale.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The next generation.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A file that the guest daemon writes before anything of the user's runs: a package manager's
/// configuration, which names mirrors and never holds their credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Absolute path inside. Folders above it are made; what stood there is replaced.
    pub path: String,
    /// All that is in it. It is root's, and everybody may read it.
    pub text: String,
}

/// Everything that a node needs to make, adopt or guard one sandbox.
#[derive(Clone, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Its id.
    pub id: SandboxId,
    /// Reference of the template's build: the file name stem of its image on the node.
    pub build: String,
    /// Its caps.
    pub limits: Limits,
    /// When the node destroys it, whoever is still connected.
    pub deadline: Timestamp,
    /// Environment of every command inside, below what the command itself sets.
    pub env: BTreeMap<String, String>,
    /// Guards its data plane; `None` leaves it open to whoever reaches the proxy (E2B's v1
    /// `secure: false`).
    pub access_token: Option<AccessToken>,
    /// The template reference that commands see as `E2B_TEMPLATE_ID`.
    pub template: String,
    /// What it may reach, and how it is reached.
    #[serde(default)]
    pub network: NetworkSpec,
    /// Files that are there before anything of the user's runs.
    #[serde(default)]
    pub files: Vec<GuestFile>,
    /// What the build says about its sandboxes.
    #[serde(default)]
    pub config: BuildConfig,
    /// Volumes that are mounted before anything of the user's runs. No two paths overlap.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
}

impl fmt::Debug for SandboxSpec {
    /// Without values of the environment, contents of files, and what is in the network: users put
    /// secrets there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxSpec")
            .field("id", &self.id)
            .field("build", &self.build)
            .field("limits", &self.limits)
            .field("deadline", &self.deadline)
            .field("env", &self.env.keys())
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

/// Resources that a sandbox has used, the isolation's own overhead included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// Highest memory so far, in bytes.
    pub memory_peak_bytes: u64,
    /// CPU time so far, in microseconds.
    pub cpu_micros: u64,
    /// Bytes of its writable disk that are in use.
    pub disk_bytes: u64,
    /// How many processes the kernel has killed for memory so far.
    pub oom_kills: u64,
}
