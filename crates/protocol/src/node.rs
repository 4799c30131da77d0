//! What the server asks of nodes: the whole of their contract, so that the two can be one process
//! today and two machines tomorrow.
//!
//! Order: calls about one sandbox take effect in the order in which they are made. Repetition:
//! every call may be repeated; `create` of an id that exists, `kill` of one that is gone, succeed.
//! Cancellation: dropping a returned future does not undo what it began; the node finishes or undoes
//! it, and reports.

mod build;
mod tunnel;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use build::{
    BuildError, BuildLog, BuildLogLevel, BuildOrder, BuildSource, BuildStage, BuildWatcher,
    Builder, Built, RegistryLogin, SharedBuilder, Step, StepKind,
};
use bytes::Bytes;
use courier_types::egress::{
    Credential, ExplainRequest, Explanation, FlowPage, NetworkSpec, PresetName, Rule, SecretName,
    SecretValue,
};
use courier_types::{
    EndReason, Generation, GuestFile, Isolation, ObservedState, SandboxId, SandboxSpec, Timestamp,
    Usage,
};
use http_body_util::combinators::UnsyncBoxBody;
pub use tunnel::{
    ConnectorError, OfferedTunnel, ReserveError, TunnelHub, TunnelKind, TunnelNames, TunnelSlot,
};
pub use volume::{VolumeError, Volumes};

/// An error that carries its own chain.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body of a request to, or an answer from, a guest.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The bytes to and from a server inside.
pub trait ByteStream: futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin {}

impl<S: futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin> ByteStream for S {}

/// What a node is made of, for placement and for answers.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Isolation of the sandboxes that it makes.
    pub isolation: Isolation,
    /// Name and version of the technology, for people: `runsc 0.0~20240729`.
    pub technology: String,
    /// Builds that it can start at once (references as in [`SandboxSpec::build`]).
    pub builds: Vec<String>,
}

/// How full a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRoom {
    /// Sandboxes that are there, those of builds included.
    pub sandboxes: usize,
    /// Most at once.
    pub sandboxes_max: usize,
    /// What their memory limits add up to.
    pub memory_limits_bytes: u64,
    /// What those may add up to.
    pub memory_limits_max_bytes: u64,
    /// Memory of the host that could be used now without swapping.
    pub memory_available_bytes: u64,
    /// All memory of the host.
    pub memory_total_bytes: u64,
}

/// A state that a node reports.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of which sandbox.
    pub id: SandboxId,
    /// Reports with a lower generation than one seen before are stale.
    pub generation: Generation,
    /// What the node saw.
    pub state: ObservedState,
    /// When it saw it.
    pub at: Timestamp,
    /// What the sandbox had used by then, where it could be read.
    pub usage: Option<Usage>,
    /// Detail for people, e.g. the end of the isolation technology's own log.
    pub detail: Option<String>,
}

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The build is not on this node.
    #[error("build {build:?} is not on this node")]
    UnknownBuild {
        /// The reference that was asked for.
        build: String,
    },
    /// No such sandbox here, or no longer.
    #[error("sandbox {id} is not running here")]
    NotFound {
        /// The id.
        id: SandboxId,
    },
    /// The node has no room: try later or elsewhere. Nothing ran.
    #[error("the node has no room: {what}")]
    Full {
        /// What is short, with figures.
        what: String,
    },
    /// The sandbox ended instead of becoming ready. Nothing of the user's ran but what its build
    /// starts in it.
    #[error("sandbox {id} did not start ({reason})")]
    NotStarted {
        /// The id.
        id: SandboxId,
        /// Why it ended.
        reason: EndReason,
        /// What failed, as a chain.
        #[source]
        source: BoxError,
    },
    /// The guest closed its channel, did not answer in time or broke the protocol. Whether the
    /// request took effect is unknown.
    #[error("the guest of sandbox {id} failed")]
    Guest {
        /// The id.
        id: SandboxId,
        /// What it did.
        #[source]
        source: BoxError,
    },
    /// Nothing listens on the port inside. Nothing was sent to it.
    #[error("nothing listens on port {port} of sandbox {id}")]
    PortClosed {
        /// The id.
        id: SandboxId,
        /// The port.
        port: u16,
    },
    /// A policy cannot be put in force, or the sandbox's network has ended. What was in force stays
    /// in force.
    #[error("the network of sandbox {id} cannot be changed or asked")]
    Network {
        /// The id.
        id: SandboxId,
        /// What is wrong.
        #[source]
        source: BoxError,
    },
    /// The node itself failed.
    #[error("the node failed")]
    Node(#[source] BoxError),
}

/// The node side of the server. Object safe; shared as [`SharedNode`].
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// What this node is.
    async fn info(&self) -> Result<NodeInfo, NodeError>;

    /// How full it is at this moment. Answers at once.
    fn room(&self) -> Result<NodeRoom, NodeError>;

    /// Makes a sandbox and returns when its guest daemon answers.
    async fn create(&self, spec: SandboxSpec) -> Result<(), NodeError>;

    /// Takes over a sandbox that outlived an earlier server, or says that it is gone
    /// ([`NodeError::NotFound`]).
    async fn adopt(&self, spec: SandboxSpec) -> Result<(), NodeError>;

    /// Destroys everything on this node that belongs to this server and is not in `keep`; returns
    /// what it destroyed.
    async fn reap_except(&self, keep: &[SandboxId]) -> Result<Vec<SandboxId>, NodeError>;

    /// Sets the time at which the node destroys the sandbox by itself.
    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), NodeError>;

    /// Destroys a sandbox; returns when no process of it is left. Gone already is success.
    async fn kill(&self, id: &SandboxId) -> Result<(), NodeError>;

    /// What a sandbox has used so far.
    async fn usage(&self, id: &SandboxId) -> Result<Usage, NodeError>;

    /// Replaces the sandbox's network while it runs. When this returns, nothing new passes that the
    /// new policy does not allow; connections that it would not allow end within a second.
    async fn set_network(&self, id: &SandboxId, network: NetworkSpec) -> Result<(), NodeError>;

    /// At most `limit` records of the flow log after number `after`, oldest first: at once when
    /// there are some, else as soon as there are or when `wait` has passed (then an empty page).
    /// Logs outlive their sandboxes for a while: without `wait` they are read as before, and with it
    /// `NotFound` says that the sandbox has ended and that this was all.
    async fn flows(
        &self,
        id: &SandboxId,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<FlowPage, NodeError>;

    /// Says what the sandbox's proxies would decide, and why.
    async fn explain(
        &self,
        id: &SandboxId,
        request: ExplainRequest,
    ) -> Result<Explanation, NodeError>;

    /// Sends one request to the guest daemon (envd protocol) and streams its answer. The request is
    /// trusted: authorisation has happened. Only the path, query, headers and body matter.
    async fn request(
        &self,
        id: &SandboxId,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, NodeError>;

    /// Connects to a port that a server inside listens on, on the loopback interface, be it IPv4 or
    /// IPv6. A server that is just starting is waited for, for a moment.
    ///
    /// The stream is like a connected socket: either direction may be closed alone, and dropping it
    /// without closing breaks it off. Reading fails when the sandbox ends, and never looks like a
    /// proper end then.
    async fn connect(&self, id: &SandboxId, port: u16) -> Result<Box<dyn ByteStream>, NodeError>;

    /// Waits for the next report. One consumer; a report is delivered once, oldest first. When the
    /// bounded queue overflows, the oldest are merged into the newest of the same sandbox.
    async fn next_report(&self) -> Report;

    /// Storage that outlives sandboxes, where the node has it.
    fn volumes(&self) -> Option<&dyn Volumes> {
        None
    }
}

/// A node, shared.
pub type SharedNode = Arc<dyn Node>;

/// Why the server gives no value.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// No such secret, or the sandbox is not alive, or its policy does not refer to the secret.
    #[error("secret {name} is not there for this sandbox")]
    NoSecret {
        /// The name.
        name: SecretName,
    },
    /// The token is unknown, of another sandbox, has expired, or its secret is gone.
    #[error("the token is not valid here")]
    NoToken,
    /// The server could not look it up.
    #[error("the value cannot be looked up")]
    Unavailable(#[source] BoxError),
}

/// The server's word on secrets, asked by the node at each use. Nobody keeps an answer: a rotation,
/// a deletion and the end of a sandbox count from the next use on.
///
/// Repetition is free; dropping a returned future changes nothing.
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The value of a secret of the sandbox's project, while the sandbox is alive and its policy
    /// refers to that secret.
    async fn secret(
        &self,
        sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SecretsError>;

    /// What a token that the guest holds stands for, while sandbox, token and secret live and the
    /// sandbox's policy refers to the secret.
    async fn token(
        &self,
        sandbox: &SandboxId,
        token: &str,
    ) -> Result<(SecretName, SecretValue), SecretsError>;
}

/// What a preset stands for on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedPreset {
    /// What has to be reachable.
    pub rules: Vec<Rule>,
    /// Credentials of mirrors; the names of their secrets begin with [`PRESET_SECRETS`].
    pub credentials: Vec<Credential>,
    /// Environment that points the package manager at the mirror.
    pub env: BTreeMap<String, String>,
    /// Its configuration files.
    pub files: Vec<GuestFile>,
}

/// Why a preset is not resolved.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    /// There is none of that name.
    #[error("there is no preset {name}; there are: {}", join(known))]
    Unknown {
        /// The name.
        name: PresetName,
        /// Those that there are.
        known: Vec<PresetName>,
    },
    /// The node's configuration of that package manager cannot be used.
    #[error("preset {name} cannot be made from the node's configuration")]
    Configuration {
        /// The name.
        name: PresetName,
        /// What is wrong with it.
        #[source]
        source: BoxError,
    },
}

fn join(names: &[PresetName]) -> String {
    let names: Vec<&str> = names.iter().map(PresetName::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What the names of secrets begin with that presets bring along. Users' secrets and credentials
/// cannot have such names, so that a mirror's password goes to its mirror only.
pub const PRESET_SECRETS: &str = "preset.";

/// Presets, from the node's own package-manager configuration.
///
/// Repetition is free; dropping a returned future changes nothing.
#[async_trait]
pub trait Presets: Send + Sync + 'static {
    /// What the preset stands for. May take some seconds, where an index has to be asked.
    ///
    /// # Errors
    /// There is none of that name, or the configuration cannot be used.
    async fn resolve(&self, name: &PresetName) -> Result<ResolvedPreset, PresetError>;

    /// The value of a secret whose name begins with [`PRESET_SECRETS`]; `None` when there is none.
    fn secret(&self, name: &SecretName) -> Option<SecretValue>;
}
