//! Everything about one sandbox's network that a node has to know.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Layers;
use crate::{AccessToken, ProjectId};

/// A sandbox's network, both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// What it may reach.
    #[serde(default)]
    pub egress: Layers,
    /// The SOCKS5 proxy through which all of it goes; it fails closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Resolvers that its names are asked of instead of the node's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<Ipv4Addr>,
    /// Wanted on every port but the guest daemon's, where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_token: Option<AccessToken>,
    /// The `Host` that servers inside see; `${PORT}` stands for the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// Ports inside that speak TLS themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub https_ports: Vec<u16>,
    /// The project whose private tunnels it may be given; absent: only those of the node's operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
}

/// A SOCKS5 proxy of the user's own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamProxy {
    /// `HOST:PORT`.
    pub address: String,
    /// User name (RFC 1929).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password (RFC 1929).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// TLS to the proxy itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ProxyTls>,
}

/// TLS to an [`UpstreamProxy`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyTls {
    /// The name that its certificate must have; absent: the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The only CA certificates that are trusted for it, PEM; absent: the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamProxy").field("address", &self.address).finish_non_exhaustive()
    }
}
