//! What the launcher understands and answers: one JSON object per record, one answer per request.
//!
//! The other side is `courier-launcher`, module `wire`; [`VERSION`] guards the pair.

use courier_types::Usage;
use serde::{Deserialize, Serialize};

/// Version of these messages.
pub(super) const VERSION: u32 = 3;

/// A request.
#[derive(Debug, Serialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// First of all.
    Hello {
        /// Ours.
        version: u32,
        /// Whose sandboxes these are.
        owner: &'a str,
        /// Whether they outlive the connection.
        linger: bool,
    },
    /// Comes with the image.
    Create {
        /// Its id.
        id: &'a str,
        /// The caps.
        limits: Limits,
        /// Microseconds since the Unix epoch.
        deadline: i64,
        /// What outlives it.
        volumes: Vec<VolumeMount<'a>>,
    },
    /// Asks for the descriptors.
    Attach {
        /// Which.
        id: &'a str,
    },
    /// Moves the deadline.
    SetDeadline {
        /// Which.
        id: &'a str,
        /// Microseconds since the Unix epoch.
        deadline: i64,
    },
    /// What it has used.
    Usage {
        /// Which.
        id: &'a str,
    },
    /// Destroys it.
    Destroy {
        /// Which.
        id: &'a str,
    },
    /// A page of our sandboxes.
    List {
        /// Only ids after this one.
        after: Option<&'a str>,
    },
    /// A page of everybody's.
    ListAll {
        /// Only ids after this one.
        after: Option<&'a str>,
    },
    /// Makes an empty volume.
    MakeVolume {
        /// Its id.
        id: &'a str,
        /// Its size.
        size_mib: u32,
    },
    /// Deletes a volume.
    DeleteVolume {
        /// Which.
        id: &'a str,
    },
    /// A page of our volumes.
    ListVolumes {
        /// Only ids after this one.
        after: Option<&'a str>,
    },
    /// Ends the launcher and all sandboxes.
    Shutdown,
}

/// A volume in a sandbox.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct VolumeMount<'a> {
    /// Which.
    pub(super) id: &'a str,
    /// Where inside.
    pub(super) path: &'a str,
}

/// The caps of one sandbox, as the launcher names them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Limits {
    /// Memory in MiB.
    memory_mib: u32,
    /// CPU in thousandths of a core.
    cpu_millis: u32,
    /// Processes and threads per user inside.
    pids: u32,
    /// Writable disk in MiB.
    disk_mib: u32,
    /// Open files per process.
    open_files: u32,
}

impl From<courier_types::Limits> for Limits {
    fn from(limits: courier_types::Limits) -> Self {
        Self {
            memory_mib: limits.memory_mib(),
            cpu_millis: limits.cpu_millis(),
            pids: limits.pids(),
            disk_mib: limits.disk_mib(),
            open_files: limits.open_files(),
        }
    }
}

/// An answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    /// To `hello`.
    Hello {
        /// The launcher's version.
        version: u32,
        /// Name and version of the technology, where it can be used.
        technology: Option<String>,
    },
    /// With channel, gone and link.
    Machine,
    /// Nothing to tell.
    Done,
    /// To `usage`.
    Usage(Usage),
    /// To `destroy`.
    Ended {
        /// Why.
        how: How,
        /// What it had used.
        usage: Usage,
        /// The end of the technology's log.
        log: String,
    },
    /// To both lists.
    List {
        /// In order.
        ids: Vec<String>,
        /// Whether there are more.
        more: bool,
    },
    /// Not carried out.
    Refused(Refusal),
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    /// Somebody asked.
    Requested,
    /// Its deadline passed.
    Timeout,
    /// The kernel killed it for memory.
    Memory,
    /// It ended by itself.
    Crashed,
}

/// Why a request was not carried out.
#[derive(Debug, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub(super) enum Refusal {
    /// The request makes no sense.
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// The technology is not there.
    Unavailable {
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// No such sandbox.
    NotFound,
    /// No such volume.
    NoVolume {
        /// Which.
        id: String,
    },
    /// Not while it is used.
    InUse {
        /// What, and by whom.
        what: String,
    },
    /// No room.
    Full {
        /// What is short.
        what: String,
    },
    /// Did not start.
    NotStarted {
        /// What failed.
        what: String,
    },
    /// The host refused.
    Host {
        /// What, and its answer.
        what: String,
    },
}
