//! What sandboxes may reach, and what was seen of it.

use std::net::Ipv4Addr;

use courier_types::egress::{Flow, Layers, Policy};
use serde::{Deserialize, Serialize};

/// Answer of `GET` and `PUT /v1/sandboxes/{id}/egress`: what is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Egress {
    /// Policies that all must allow, presets resolved; without any, nothing is allowed.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<super::schema::Layer>))]
    pub layers: Layers,
    /// The SOCKS5 proxy through which all of it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_proxy: Option<Proxy>,
    /// Resolvers that names are asked of instead of the node's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub dns_servers: Vec<Ipv4Addr>,
}

/// A SOCKS5 proxy, without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proxy {
    /// `HOST:PORT`.
    pub address: String,
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Whether there is TLS to the proxy itself.
    pub tls: bool,
}

/// One line of the flow log's stream (`application/x-ndjson`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum FlowLine {
    /// A record.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    Flow(Flow),
    /// About the stream itself.
    Notice(FlowNotice),
}

/// Something about a stream of flows itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum FlowNotice {
    /// Records fell out of the log before they were read.
    Missed {
        /// How many.
        count: u64,
    },
    /// Nothing happened for a while.
    Alive,
    /// The sandbox has ended; nothing more comes.
    Ended,
}

/// Answer of `GET /v1/sandboxes/{id}/egress/proposal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proposal {
    /// The smallest policy that would have allowed what the policy refused.
    #[cfg_attr(feature = "openapi", schema(value_type = super::schema::Policy))]
    pub policy: Policy,
    /// Records that fell out of the flow log before they were looked at.
    pub missed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_its_own_text() {
        for text in [
            r#"{"event":"missed","count":3}"#,
            r#"{"event":"alive"}"#,
            r#"{"event":"ended"}"#,
            r#"{"seq":1,"at":7,"event":"policy","closed":2}"#,
        ] {
            let line: Result<FlowLine, _> = serde_json::from_str(text);
            assert_eq!(serde_json::to_string(&line.unwrap()).unwrap(), text);
        }
    }
}
