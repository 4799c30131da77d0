//! The host and port that a request names, in the one form that is judged, sent on and logged.

use std::fmt;
use std::net::Ipv4Addr;

use courier_types::egress::HostName;

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name.
    Name(HostName),
    /// An address itself.
    Address(Ipv4Addr),
}

impl Host {
    /// The name, where it is one.
    pub(crate) const fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// `HOST` or `HOST:PORT`, without user information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// The host.
    pub(crate) host: Host,
    /// The port, where one was said.
    pub(crate) port: Option<u16>,
}

/// Longest port in digits.
const PORT_DIGITS: usize = 5;

impl Authority {
    /// Reads an authority; `None` for whatever some parser could take for another one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        // The standard library takes four decimal numbers without leading zeros, nothing else.
        let host = match host.parse::<Ipv4Addr>() {
            Ok(address) => Host::Address(address),
            Err(_no_address) => Host::Name(host.parse().ok()?),
        };
        Some(Self { host, port })
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if !digits || text.len() > PORT_DIGITS || text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_one_meaning_or_none() {
        let of = |text| {
            Authority::parse(text).map(|authority| (authority.host.to_string(), authority.port))
        };
        assert_eq!(of("API.Example.com"), Some(("api.example.com".into(), None)));
        assert_eq!(of("api.example.com.:8443"), Some(("api.example.com".into(), Some(8443))));
        assert_eq!(of("192.0.2.1:80"), Some(("192.0.2.1".into(), Some(80))));
        for text in [
            "",
            ":80",
            "a.test:",
            "a.test:0",
            "a.test:080",
            "a.test:99999",
            "a.test:+80",
            "a.test:80:80",
            "user@a.test",
            "a.test@b.test",
            "[::1]",
            "[::1]:80",
            "0x7f.1",
            "127.1",
            "a.test/b",
            "a.test,b.test",
            "a.test b.test",
            "a%2etest",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }
}
