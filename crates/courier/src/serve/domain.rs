//! The domain of domain mode: `NAME[:PORT]`.

use std::fmt;
use std::str::FromStr;

/// Longest host name that DNS knows (RFC 1035).
const MAX_NAME: usize = 253;
/// Longest label of a host name (RFC 1035).
const MAX_LABEL: usize = 63;

/// A host name, in lower case, and the port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Domain {
    /// The name, e.g. `e2b.test`.
    pub(crate) name: String,
    /// The port of `https://` below it.
    pub(crate) port: u16,
}

/// Why a text is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a domain: use NAME or NAME:PORT, e.g. e2b.test:8443 ({why})")]
pub(crate) struct DomainError {
    text: String,
    why: &'static str,
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let error = |why| DomainError { text: text.chars().take(MAX_NAME).collect(), why };
        let (name, port) = match text.split_once(':') {
            None => (text, crate::config::TLS_PORT),
            Some((name, port)) => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (name, port.ok_or_else(|| error("the port is no number from 1 to 65535"))?)
            }
        };
        let name = name.to_ascii_lowercase();
        if name.len() > MAX_NAME || !name.split('.').all(is_label) {
            return Err(error("the name is not made of labels of a-z, 0-9 and dashes"));
        }
        if name.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit())) {
            return Err(error("an address has no names below it"));
        }
        Ok(Self { name, port })
    }
}

/// True for what may stand between the dots of a host name (RFC 1123).
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl fmt::Display for Domain {
    /// As the SDKs take it: without a port where it is that of `https://` anyway.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            443 => f.write_str(&self.name),
            port => write!(f, "{}:{port}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_a_port_of_its_own_or_the_default() {
        let domain: Domain = "E2B.test".parse().unwrap();
        assert_eq!((domain.name.as_str(), domain.port), ("e2b.test", 8443));
        assert_eq!("e2b.test:443".parse::<Domain>().unwrap().to_string(), "e2b.test");
        assert_eq!("e2b.test:9".parse::<Domain>().unwrap().to_string(), "e2b.test:9");
    }

    #[test]
    fn what_cannot_be_a_host_name_is_refused() {
        for text in
            ["", ".", "a..b", "-a.b", "a_b", "*.a", "a/b", "127.0.0.1", "a:0", "a:99999", "a:b:c"]
        {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }
}
