//! What the launcher and one box say to each other over the box's standard input, a
//! `SOCK_SEQPACKET` socket. Its end of file is the lifeline: without a launcher a box ends.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::wire::Limits;

/// The one record that the launcher sends, with four descriptors: the guest's ends of the channel
/// and of the network link, the image, the writable disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BoxConfig {
    /// The caps.
    pub(crate) limits: Limits,
    /// Where to write `0` to join the cgroup.
    pub(crate) join: Vec<PathBuf>,
    /// An empty directory to build the new root on.
    pub(crate) root: PathBuf,
    /// runsc on the host.
    pub(crate) runsc: PathBuf,
    /// The volumes, in the order of their places in the OCI configuration.
    pub(crate) volumes: Vec<BoxVolume>,
    /// How many boxes there were before it: it takes the next CPUs.
    pub(crate) turn: u32,
}

/// A volume that a box mounts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BoxVolume {
    /// Its loop device, which the launcher holds.
    pub(crate) device: PathBuf,
    /// Where it is inside.
    pub(crate) path: String,
}

/// What a box reports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum Report {
    /// The Sentry runs.
    Up,
    /// The Sentry never ran; the box ends.
    Failed {
        /// What failed.
        what: String,
        /// The end of runsc's output.
        log: String,
    },
    /// The Sentry ended by itself; the box ends.
    Ended {
        /// True unless it exited with 0. A Sentry whose first guest process the kernel killed for
        /// memory exits with 1.
        failed: bool,
        /// How it ended, for people.
        what: String,
        /// Bytes of the disk in use.
        disk_bytes: u64,
        /// The end of its output.
        log: String,
    },
}
