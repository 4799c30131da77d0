//! Host names in their one canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name in characters, without the trailing dot (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;
/// Longest label in characters (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;

/// Why a text is not a host name or pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Not a name.
    #[error("{text:?} is not a host name: {why}")]
    Name {
        /// The refused text, cut to 64 characters.
        text: String,
        /// What is wrong, in words.
        why: &'static str,
    },
    /// A pattern that would match too much.
    #[error("{text:?} matches too much: {why}")]
    TooBroad {
        /// The refused text, cut to 64 characters.
        text: String,
        /// What would be right.
        why: &'static str,
    },
}

/// A DNS host name: lower case, no trailing dot, labels of `a-z`, `0-9`, `-` and `_`, never a text
/// that some parser would take for an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when this name is below `parent`, at any depth, and not `parent` itself.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }

    /// Its labels, from the left.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let refused = |why| HostError::Name { text: text.chars().take(64).collect(), why };
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(refused("a name has 1 to 253 characters"));
        }
        if !name.is_ascii() {
            return Err(refused("write an international name in its xn-- form"));
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > LABEL_MAX {
                return Err(refused("a label has 1 to 63 characters"));
            }
            let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !label.bytes().all(ok) {
                return Err(refused("labels have only letters, digits, '-' and '_'"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(refused("a label neither begins nor ends with '-'"));
            }
        }
        if ends_in_a_number(&name) {
            return Err(refused("this is an address, or some programs would take it for one"));
        }
        Ok(Self(name))
    }
}

/// What the URL standard takes for an IPv4 address: a last label of digits only, or `0x…`.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x");
    last.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which names a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// This name only.
    Exact(HostName),
    /// `*.NAME`: every name below it, not itself.
    Below(HostName),
}

impl HostPattern {
    /// True when the pattern is about that name.
    #[must_use]
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(parent) => name.is_below(parent),
        }
    }

    /// True when everything that `other` matches, this matches too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Below(parent), Self::Below(child)) => parent == child || child.is_below(parent),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let broad = |why| HostError::TooBroad { text: text.chars().take(64).collect(), why };
        if text == "*" {
            return Err(broad("say \"internet\" where every public address is meant"));
        }
        let Some(parent) = text.strip_prefix("*.") else { return text.parse().map(Self::Exact) };
        let parent: HostName = parent.parse()?;
        if is_registry_suffix(&parent) {
            return Err(broad("a wildcard needs a registered domain, such as *.example.com"));
        }
        Ok(Self::Below(parent))
    }
}

/// Names under which anybody may register: one label, or a short second level below a country's
/// (`co.uk`). No list of public suffixes: those change, and a missed one widens nothing by itself.
fn is_registry_suffix(name: &HostName) -> bool {
    let labels: Vec<&str> = name.labels().collect();
    match labels.as_slice() {
        [_] => true,
        [second, top] => {
            const SECOND_LEVELS: [&str; 10] =
                ["ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"];
            top.len() == 2 && SECOND_LEVELS.contains(second)
        }
        _ => false,
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form_however_it_was_written() {
        let name: HostName = "API.Example.COM.".parse().unwrap();
        assert_eq!(name.as_str(), "api.example.com");
    }

    #[test]
    fn whatever_some_parser_takes_for_something_else_is_no_name() {
        for text in [
            "",
            ".",
            "a..b",
            "127.0.0.1",
            "0x7f.1",
            "2130706433",
            "1.2.3.0x4",
            "a b",
            "a\0.test",
            "user@allowed.test",
            "allowed.test:80",
            "allowed%2etest",
            "bücher.example",
            "-a.test",
            "[::1]",
            "a.test..",
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_suffix_without_its_dot_is_not_below() {
        let parent: HostName = "allowed.test".parse().unwrap();
        for (text, below) in [
            ("a.allowed.test", true),
            ("b.a.allowed.test", true),
            ("evil-allowed.test", false),
            ("allowed.test", false),
            ("allowed.test.evil.test", false),
        ] {
            assert_eq!(text.parse::<HostName>().unwrap().is_below(&parent), below, "{text}");
        }
    }

    #[test]
    fn a_wildcard_over_a_whole_registry_is_refused() {
        for text in ["*", "*.com", "*.co.uk", "*.*.example.com", "a.*.example.com", "*."] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        assert!("*.example.com".parse::<HostPattern>().is_ok());
    }
}
