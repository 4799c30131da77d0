//! One trait over every isolation technology, its implementations, and the one conformance suite
//! that all of them pass.
//!
//! Nothing outside this crate and the launcher that it talks to names an isolation technology, but
//! for `courier doctor`, which looks for it, and `courier bench`, which compares with it.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod fake;
pub mod gvisor;
pub mod launcher_process;
pub mod leaks;

/// The driver for this host, and whether its machines outlive it.
pub use gvisor::{GvisorDriver as HostDriver, Linger};

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use async_trait::async_trait;
pub use courier_types::link::{LINK_GUEST, LINK_HOST, LINK_MTU, LINK_PREFIX};
use courier_types::{
    EndReason, Isolation, Limits, SandboxId, Timestamp, Usage, VolumeId, VolumeMount,
};

/// What a driver makes a machine from. Nothing in it is a secret.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// The sandbox's id; never reused.
    pub id: SandboxId,
    /// The build's read-only root filesystem image on this host.
    pub image: PathBuf,
    /// The caps.
    pub limits: Limits,
    /// When whatever holds the machine up destroys it, even with every process of ours gone.
    pub deadline: Timestamp,
    /// The volumes that are mounted in it; each is there already.
    pub volumes: Vec<VolumeMount>,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Machine {
    /// The sandbox's id.
    pub id: SandboxId,
    /// Host end of the channel to the guest daemon: a connected `SOCK_SEQPACKET` Unix socket, see
    /// `courier-channel`. Everything read from it is hostile.
    pub channel: OwnedFd,
    /// Becomes readable (poll) when the machine is gone.
    pub gone: OwnedFd,
    /// Host end of the network link: a connected, non-blocking `SOCK_SEQPACKET` Unix socket. One
    /// record is one IP packet without a link header, in both directions, of at most [`LINK_MTU`]
    /// bytes.
    ///
    /// The machine has no other way out, so what nobody reads here goes nowhere: packets wait in
    /// the socket's buffer, and those beyond it are lost. [`Driver::attach`] gives the same link
    /// again; only one reader at a time makes sense. It reads an end of file once the machine is
    /// gone, or has closed its end.
    ///
    /// Everything read from it is hostile: records of any length and content, and descriptors sent
    /// along. Read with a plain `read` or `recv`, which drop descriptors, never with `recvmsg` and
    /// room for them.
    pub link: OwnedFd,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// What it had used.
    pub usage: Usage,
    /// The last lines of the technology's own log (bounded, for people), empty where all went well.
    pub log: String,
}

/// Why a driver did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The technology is missing or too old on this host.
    #[error("{technology} cannot be used here: {why}; {remedy}")]
    Unavailable {
        /// Its name.
        technology: &'static str,
        /// What is wrong.
        why: String,
        /// What to do about it, for people.
        remedy: String,
    },
    /// No machine of that id, or no longer.
    #[error("no machine {id}")]
    NotFound {
        /// The id.
        id: SandboxId,
    },
    /// The host has no room. Nothing was made.
    #[error("the host has no room: {what}")]
    Full {
        /// What is short, with figures.
        what: String,
    },
    /// The machine did not start; everything made for it is gone again.
    #[error("machine {id} did not start: {why}")]
    NotStarted {
        /// The id.
        id: SandboxId,
        /// What failed, with the end of the technology's log.
        why: String,
    },
    /// No such volume of this owner.
    #[error("volume {id} is not there")]
    NoVolume {
        /// The id.
        id: String,
    },
    /// A volume is in use. Nothing was changed.
    #[error("the volume is in use: {what}")]
    VolumeInUse {
        /// Which, and by whom.
        what: String,
    },
    /// What needs root is not there or does not answer.
    #[error("the launcher does not answer")]
    Launcher(#[source] std::io::Error),
    /// The host refused something else.
    #[error("{what}")]
    Host {
        /// What was being done.
        what: String,
        /// The host's answer.
        #[source]
        source: std::io::Error,
    },
}

/// Code that runs machines on one isolation technology.
///
/// Every call may be repeated. A dropped future leaves either nothing or a machine that [`list`]
/// shows.
///
/// [`list`]: Driver::list
#[async_trait]
pub trait Driver: Send + Sync + std::fmt::Debug + 'static {
    /// The isolation of the machines that it makes.
    fn isolation(&self) -> Isolation;

    /// Name and version of the technology, for people.
    fn technology(&self) -> String;

    /// Makes and starts a machine. Returns as soon as the channel exists: the guest daemon may not
    /// be up yet. Intent is journalled before anything is made; on failure nothing is left.
    async fn create(&self, spec: &MachineSpec) -> Result<Machine, DriverError>;

    /// The channel and the link of a machine that an earlier process of ours made.
    async fn attach(&self, id: &SandboxId) -> Result<Machine, DriverError>;

    /// Moves the time at which the machine is destroyed without anybody's asking.
    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), DriverError>;

    /// Destroys a machine and everything made for it. Returns when no process of it is left, with
    /// how it ended; a machine that was gone already still tells how, once.
    async fn destroy(&self, id: &SandboxId) -> Result<Ended, DriverError>;

    /// Every machine of this owner that is there, alive or ended but not yet destroyed.
    async fn list(&self) -> Result<Vec<SandboxId>, DriverError>;

    /// What a machine has used so far.
    async fn usage(&self, id: &SandboxId) -> Result<Usage, DriverError>;

    /// Storage that outlives machines, where the driver has it. Without it, a machine with volumes
    /// is refused.
    fn volumes(&self) -> Option<&dyn Volumes> {
        None
    }
}

/// Storage that outlives machines. Volumes are an owner's, as machines are.
///
/// Every call may be repeated. A dropped future leaves either nothing or a volume that
/// [`list`](Volumes::list) shows.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes an empty volume of a fixed size. Returns once it would survive a crash of the host. One
    /// of that id that is there stays as it is.
    async fn make(&self, id: &VolumeId, size_mib: u32) -> Result<(), DriverError>;

    /// Deletes a volume and all that is in it. Refused while a machine has it.
    async fn delete(&self, id: &VolumeId) -> Result<(), DriverError>;

    /// Every volume of this owner, in order.
    async fn list(&self) -> Result<Vec<VolumeId>, DriverError>;
}
