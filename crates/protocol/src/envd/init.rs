//! What the node tells a guest daemon before anything runs in the sandbox: `POST /init`, once per
//! epoch of the channel. Clients can never reach it: the proxy answers 404.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use courier_types::{GuestFile, SandboxId, Timestamp};
use serde::{Deserialize, Serialize};

/// Path on which the guest daemon answers 204 as soon as it serves; for the node only.
pub const READY_PATH: &str = "/ready";

/// Path of [`Init`]; for the node only.
pub const INIT_PATH: &str = "/init";

/// Body of `POST /init`, as JSON; answered with 204. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Init {
    /// Environment of every command, below what the command itself sets.
    pub env_vars: BTreeMap<String, String>,
    /// The user of commands and files that name none.
    pub default_user: String,
    /// The working directory of commands that name none.
    pub default_workdir: String,
    /// What commands see as `E2B_SANDBOX_ID`.
    pub sandbox_id: SandboxId,
    /// What commands see as `E2B_TEMPLATE_ID`.
    pub template_id: String,
    /// The host's time, in microseconds since the Unix epoch.
    pub timestamp: Timestamp,
    /// Size of the writable disk in bytes (inside, the file system shows another).
    pub disk_bytes: u64,
    /// The resolver on the network link, for `/etc/resolv.conf`.
    pub nameserver: Ipv4Addr,
    /// Certificate of the sandbox's own CA (PEM), for its trust stores.
    pub ca_bundle: String,
    /// Files to put in place: what the egress presets need.
    #[serde(default)]
    pub files: Vec<GuestFile>,
}
