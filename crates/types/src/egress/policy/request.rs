//! What a rule says of HTTP requests: methods and paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{PolicyError, cut};

/// Longest path pattern in characters.
const PATH_MAX: usize = 1_024;

/// An HTTP method, in capitals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(String);

impl Method {
    /// Longest method in characters.
    const MAX: usize = 32;

    /// The method as it is on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let name = text.to_ascii_uppercase();
        let ok = |b: u8| b.is_ascii_uppercase() || b == b'-';
        // CONNECT would open what no rule has judged.
        let refused = name.is_empty() || name.len() > Self::MAX || name == "CONNECT";
        if refused || !name.bytes().all(ok) {
            return Err(PolicyError::Method { text: cut(text) });
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for Method {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.0
    }
}

/// Which paths: one, or everything below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PathPattern {
    /// `/a/b`: this path only.
    Exact(String),
    /// `/a/*`: every path that begins with `/a/`; kept with its trailing slash.
    Below(String),
}

impl PathPattern {
    /// True when the pattern is about that path. The path must be canonical: see
    /// `courier-egress`, which makes it so or refuses it.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Below(prefix) => path.starts_with(prefix.as_str()),
        }
    }

    /// True when everything that `other` matches, this matches too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(path)) => self.matches(path),
            (Self::Below(prefix), Self::Below(other)) => other.starts_with(prefix.as_str()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl FromStr for PathPattern {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let refused = |why| PolicyError::Path { text: cut(text), why };
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (format!("{path}/"), true),
            None => (text.to_owned(), false),
        };
        if !path.starts_with('/') || path.len() > PATH_MAX {
            return Err(refused("it begins with '/' and has at most 1,024 characters"));
        }
        // The unreserved and sub-delimiter characters of RFC 3986 that no encoding changes.
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@".contains(&b);
        if !path.bytes().all(ok) {
            return Err(refused(
                "'*' stands last, after '/'; no query, no percent-encoding, no spaces",
            ));
        }
        if path.contains("//") || path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(refused("it has an empty or dot segment"));
        }
        Ok(if below { Self::Below(path) } else { Self::Exact(path) })
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}
