//! What clients say to the launcher and what it answers: one JSON object per record, one answer per
//! request, in order. A client that wants concurrency opens more connections.
//!
//! The other side is `courier-driver`, module `gvisor::wire`; [`VERSION`] guards the pair.

use serde::{Deserialize, Serialize};

/// Version of these messages. A client of another version gets a clear error.
pub(crate) const VERSION: u32 = 3;
/// Most ids in one answer to `list`.
pub(crate) const LIST_PAGE: usize = 1_000;

/// A request.
#[derive(Debug, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Must be the first record of a connection.
    Hello {
        /// The client's [`VERSION`].
        version: u32,
        /// Whose sandboxes these are; with the peer's uid it is a name space of its own.
        owner: String,
        /// True: sandboxes outlive the owner's connections.
        linger: bool,
    },
    /// Makes a sandbox. One descriptor comes along: the image, opened for reading only.
    Create {
        /// Its id.
        id: String,
        /// Its caps.
        limits: Limits,
        /// When it is destroyed, in microseconds since the Unix epoch.
        deadline: i64,
        /// The owner's volumes that it has.
        volumes: Vec<VolumeMount>,
    },
    /// Asks for the descriptors of a sandbox that runs.
    Attach {
        /// Which.
        id: String,
    },
    /// Moves the deadline.
    SetDeadline {
        /// Which.
        id: String,
        /// Microseconds since the Unix epoch.
        deadline: i64,
    },
    /// Asks for what a sandbox has used.
    Usage {
        /// Which.
        id: String,
    },
    /// Destroys a sandbox, or fetches how it ended.
    Destroy {
        /// Which.
        id: String,
    },
    /// The owner's sandboxes, in order of id.
    List {
        /// Only ids after this one.
        after: Option<String>,
    },
    /// Every owner's sandboxes, in order of id: for the search for leaks.
    ListAll {
        /// Only ids after this one.
        after: Option<String>,
    },
    /// Makes an empty volume of the owner's; one that is there stays as it is.
    MakeVolume {
        /// Its id.
        id: String,
        /// Its size in MiB, for good.
        size_mib: u32,
    },
    /// Deletes a volume with all that is in it.
    DeleteVolume {
        /// Which.
        id: String,
    },
    /// The owner's volumes, in order of id.
    ListVolumes {
        /// Only ids after this one.
        after: Option<String>,
    },
    /// Destroys everything and ends the launcher. For root and the launcher's own user.
    Shutdown,
}

/// A volume in a sandbox.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeMount {
    /// Which.
    pub(crate) id: String,
    /// Where inside: an absolute, clean path.
    pub(crate) path: String,
}

/// The caps of one sandbox. Ranges are checked again here: the launcher trusts no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Memory of everything inside, in MiB.
    pub(crate) memory_mib: u32,
    /// CPU in thousandths of a core.
    pub(crate) cpu_millis: u32,
    /// Processes and threads per user inside.
    pub(crate) pids: u32,
    /// Writable disk in MiB.
    pub(crate) disk_mib: u32,
    /// Open files per process.
    pub(crate) open_files: u32,
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To `hello`.
    Hello {
        /// The launcher's [`VERSION`].
        version: u32,
        /// Name and version of the isolation technology; absent where it cannot be used.
        technology: Option<String>,
    },
    /// To `create` and `attach`, with three descriptors: the channel, one that becomes readable
    /// when the sandbox is gone, and the host's end of the network link.
    Machine,
    /// Done, nothing to tell.
    Done,
    /// To `usage`.
    Usage(Usage),
    /// To `destroy`.
    Ended(Ended),
    /// To `list`, `list_all` and `list_volumes`.
    List {
        /// The ids.
        ids: Vec<String>,
        /// True when there are more after the last.
        more: bool,
    },
    /// The request was not carried out.
    Refused(Refusal),
}

/// What a sandbox has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// Memory now, in bytes.
    pub(crate) memory_bytes: u64,
    /// Highest memory, in bytes.
    pub(crate) memory_peak_bytes: u64,
    /// CPU time in microseconds.
    pub(crate) cpu_micros: u64,
    /// Bytes of its disk in use.
    pub(crate) disk_bytes: u64,
    /// Processes that the kernel killed for memory.
    pub(crate) oom_kills: u64,
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// A client asked for it, or the owner went.
    Requested,
    /// Its deadline passed.
    Timeout,
    /// The kernel killed it for memory.
    Memory,
    /// It ended by itself.
    Crashed,
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    /// Why.
    pub(crate) how: How,
    /// What it had used.
    pub(crate) usage: Usage,
    /// The end of the technology's log where it ended by itself, else empty.
    pub(crate) log: String,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// The request makes no sense.
    Invalid {
        /// What is wrong and what would be right.
        what: String,
    },
    /// The isolation technology or something that it needs is not there.
    Unavailable {
        /// What is wrong.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The owner has no such sandbox.
    NotFound,
    /// The owner has no such volume.
    NoVolume {
        /// Which.
        id: String,
    },
    /// Not while something uses it.
    InUse {
        /// What, and by whom.
        what: String,
    },
    /// No room; nothing was made.
    Full {
        /// What is short, with figures.
        what: String,
    },
    /// It did not start; nothing of it is left.
    NotStarted {
        /// What failed.
        what: String,
    },
    /// The host refused something else.
    Host {
        /// What was being done, and the host's answer.
        what: String,
    },
}

impl Refusal {
    /// An invalid request.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// A host call that failed while `doing`.
    pub(crate) fn host(doing: &str, error: &std::io::Error) -> Self {
        Self::Host { what: format!("{doing}: {error}") }
    }
}
