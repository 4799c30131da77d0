//! Why a policy is none.

use ipnet::Ipv4Net;

use crate::egress::HostError;

/// Why a policy is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A destination that is neither a name, nor a network, nor `internet`.
    #[error(
        "{text:?} is no destination: write a host name, *.NAME, an IPv4 address or network, or \"internet\""
    )]
    Destination {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// An IPv6 address or network.
    #[error("{text:?}: sandboxes have no IPv6; only IPv4 addresses and networks can be named")]
    Ipv6 {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// A network with host bits.
    #[error("{text:?} has bits set behind its prefix: write {network}")]
    HostBits {
        /// The refused text, cut to 64 characters.
        text: String,
        /// What was probably meant.
        network: Ipv4Net,
    },
    /// A host name or pattern.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Not a port or range.
    #[error("{text:?} is no port or range of ports: write 1 to 65535, or \"8000-8010\"")]
    Port {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// Not a method.
    #[error("{text:?} is no HTTP method")]
    Method {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// Not a path pattern.
    #[error("{text:?} is no path pattern: {why}")]
    Path {
        /// The refused text, cut to 64 characters.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A rule that both allows and denies, or neither.
    #[error("a rule has either \"allow\" or \"deny\"")]
    Action,
    /// A combination that cannot be enforced.
    #[error("{why}")]
    Shape {
        /// What would be right.
        why: &'static str,
    },
    /// A list that is too long.
    #[error("a policy has at most {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// The start of a refused text, for its error.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
