//! The flow log's records: what a sandbox reached, and what it was refused.
//!
//! Every text in a record that came from the guest is bounded and has been parsed: a record is one
//! well-formed JSON object whatever the guest wrote.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use super::{HostName, Protocol, SecretName, TunnelName};
use crate::{DurationMs, Timestamp};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Its number within the sandbox, from 1, without gaps: a gap means that records fell out of
    /// the log's bound.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: FlowEvent,
}

/// Some records in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowPage {
    /// The records, oldest first.
    pub flows: Vec<Flow>,
    /// How many fell out of the log's bound before the first of them, after the asked-for number.
    pub missed: u64,
}

/// At what level something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A DNS question.
    Dns,
    /// A TCP connection.
    Tcp,
    /// A datagram that is no question to our resolver.
    Udp,
    /// ICMP.
    Icmp,
    /// IPv6.
    Ipv6,
    /// Another protocol over IP, or no valid packet at all.
    Other,
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRefusal {
    /// Which fence refused, as one word of a closed list: `policy`, `address`, `name`, `protocol`,
    /// `sni`, `host`, `framing`, `ech`, `upstream_tls`, `credential`, `token`, `limit`, `budget`.
    pub fence: String,
    /// What decided and what would have to be said to allow it, for people.
    pub why: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum FlowEvent {
    /// A DNS question was answered.
    Dns {
        /// The name.
        host: HostName,
        /// The record type, e.g. `A`.
        record: String,
        /// How many addresses the answer had.
        answers: u32,
        /// How long it took.
        duration_ms: DurationMs,
    },
    /// A connection ended (opaque ones: TLS that was not opened, TCP, tunnels).
    Connection {
        /// The name that was decided on, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostName>,
        /// The tunnel, where it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tunnel: Option<TunnelName>,
        /// The address that was dialled.
        address: SocketAddrV4,
        /// What was spoken.
        protocol: Protocol,
        /// Bytes out of the sandbox.
        bytes_out: u64,
        /// Bytes into the sandbox.
        bytes_in: u64,
        /// How long it was open.
        duration_ms: DurationMs,
        /// Why it ended where it did not end by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// An HTTP request was answered.
    Request {
        /// The name that was decided on.
        host: String,
        /// The address that was dialled.
        address: SocketAddrV4,
        /// Its method.
        method: String,
        /// Its path without the query, at most 1,024 characters.
        path: String,
        /// The answer's status; absent where there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Bytes of the request's body.
        bytes_out: u64,
        /// Bytes of the answer's body.
        bytes_in: u64,
        /// From the head of the request to the end of the answer.
        duration_ms: DurationMs,
        /// Secrets that were added, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        credentials: Vec<SecretName>,
        /// Why there was no whole answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Something was refused. Repeats within a second are counted, not repeated.
    Refused {
        /// At what level.
        transport: Transport,
        /// The name, as far as it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HostName>,
        /// The address and port, where there is one (port 0 where the protocol has none).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddrV4>,
        /// What was spoken, as far as it was seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        protocol: Option<Protocol>,
        /// The method, for requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<String>,
        /// The path without the query, for requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Why.
        #[serde(flatten)]
        refusal: FlowRefusal,
        /// How many times in that second.
        count: u32,
    },
    /// The policy was replaced.
    Policy {
        /// Connections that were closed because of it.
        closed: u32,
    },
}

impl FlowRefusal {
    /// A refusal by a fence.
    #[must_use]
    pub fn new(fence: &str, why: impl Into<String>) -> Self {
        Self { fence: fence.to_owned(), why: why.into() }
    }
}
