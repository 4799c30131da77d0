//! Ports and ranges of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{PolicyError, cut};

/// Ports from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "PortBody", into = "PortBody")]
pub struct PortRange {
    first: u16,
    last: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PortBody {
    One(u16),
    Range(String),
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 1, last: u16::MAX };

    /// One port; `None` for 0.
    #[must_use]
    pub const fn one(port: u16) -> Option<Self> {
        if port == 0 { None } else { Some(Self { first: port, last: port }) }
    }

    /// The first port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// True for a port in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl TryFrom<PortBody> for PortRange {
    type Error = PolicyError;

    fn try_from(body: PortBody) -> Result<Self, PolicyError> {
        let refused = |text: &str| PolicyError::Port { text: cut(text) };
        match body {
            PortBody::One(port) => Self::one(port).ok_or_else(|| refused(&port.to_string())),
            PortBody::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((&text, &text));
                let port = |text: &str| {
                    let digits = text.bytes().all(|b| b.is_ascii_digit());
                    text.parse().ok().filter(|port: &u16| digits && *port > 0)
                };
                let (first, last) = port(first).zip(port(last)).ok_or_else(|| refused(&text))?;
                if first > last { Err(refused(&text)) } else { Ok(Self { first, last }) }
            }
        }
    }
}

impl From<PortRange> for PortBody {
    fn from(range: PortRange) -> Self {
        if range.first == range.last {
            Self::One(range.first)
        } else {
            Self::Range(range.to_string())
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}
