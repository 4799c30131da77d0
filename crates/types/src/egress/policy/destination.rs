//! Where a rule is about.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

use super::error::{PolicyError, cut};
use crate::egress::HostPattern;

/// Where a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Names, and the addresses that our own DNS answers gave for them.
    Host(HostPattern),
    /// Addresses, whatever name led there.
    Net(Ipv4Net),
    /// Every public address and name.
    Internet,
}

impl FromStr for Destination {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text == "internet" {
            return Ok(Self::Internet);
        }
        if text.contains(':') {
            return Err(PolicyError::Ipv6 { text: cut(text) });
        }
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'/') {
            let net = text
                .parse::<Ipv4Net>()
                .ok()
                .or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
                .ok_or_else(|| PolicyError::Destination { text: cut(text) })?;
            return if net.trunc() == net {
                Ok(Self::Net(net))
            } else {
                Err(PolicyError::HostBits { text: cut(text), network: net.trunc() })
            };
        }
        Ok(Self::Host(text.parse()?))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern) => pattern.fmt(f),
            Self::Net(net) if net.prefix_len() == 32 => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Internet => f.write_str("internet"),
        }
    }
}
