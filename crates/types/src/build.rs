//! Builds: their ids, and what they say about the sandboxes that are made from them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::IdError;

/// The user of commands and files that name none, where a build says nothing else.
pub const DEFAULT_USER: &str = "user";

/// The working directory of commands that name none, where a build says nothing else.
pub const DEFAULT_WORKDIR: &str = "/home/user";

/// What a build says about the sandboxes made from it. It comes from the build's steps and is part
/// of the build: neither ever changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildConfig {
    /// The user of commands and files that name none.
    pub user: String,
    /// The working directory of commands that name none: absolute.
    pub workdir: String,
    /// Environment of every command, below what the sandbox's creator and the command set.
    pub env: BTreeMap<String, String>,
    /// Command line that is started in every sandbox before it counts as running, as that user, in
    /// that directory, by `/bin/bash -l -c`; it may go on for as long as the sandbox lives.
    pub start: Option<String>,
    /// Command line that is repeated, in the same way, until it succeeds: the sandbox runs then.
    pub ready: Option<String>,
}

impl Default for BuildConfig {
    fn default() -> Self {
        Self {
            user: DEFAULT_USER.to_owned(),
            workdir: DEFAULT_WORKDIR.to_owned(),
            env: BTreeMap::new(),
            start: None,
            ready: None,
        }
    }
}

/// A build, for life: a UUID in lower case, as the E2B wire wants it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildId(String);

/// Where a UUID has its dashes (RFC 9562).
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Characters of a UUID.
const UUID_LEN: usize = 36;

impl BuildId {
    /// From random bytes: version 4 of RFC 9562.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        Self::of_version(random, 4)
    }

    /// From the hash of a build that has a name of its own: version 8 of RFC 9562.
    #[must_use]
    pub fn from_hash(hash: [u8; 16]) -> Self {
        Self::of_version(hash, 8)
    }

    fn of_version(bytes: [u8; 16], version: u128) -> Self {
        let number = u128::from_be_bytes(bytes);
        let number = number & !(0xf << 76) | (version << 76);
        let number = number & !(0x3 << 62) | (0x2 << 62);
        let mut text = format!("{number:032x}");
        for dash in DASHES {
            text.insert(dash, '-');
        }
        Self(text)
    }

    /// The canonical text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BuildId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let at = |(place, byte): (usize, u8)| {
            if DASHES.contains(&place) {
                byte == b'-'
            } else {
                matches!(byte, b'0'..=b'9' | b'a'..=b'f')
            }
        };
        if text.len() == UUID_LEN && text.bytes().enumerate().all(at) {
            Ok(Self(text.to_owned()))
        } else {
            let text = text.chars().take(64).collect();
            Err(IdError { kind: "build", expected: "a UUID in lower case", text })
        }
    }
}

impl TryFrom<String> for BuildId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BuildId> for String {
    fn from(id: BuildId) -> Self {
        id.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_a_uuid_of_its_version_and_survives_its_own_text() {
        let random = BuildId::from_random([0xff; 16]);
        assert_eq!(random.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(random.as_str().parse(), Ok(random));
        assert_eq!(BuildId::from_hash([0; 16]).as_str(), "00000000-0000-8000-8000-000000000000");
    }

    #[test]
    fn what_is_no_uuid_in_lower_case_is_no_build_id() {
        for text in [
            "",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "FFFFFFFF-ffff-4fff-bfff-ffffffffffff",
            "ffffffffaffff-4fff-bfff-ffffffffffff",
            "../../../../../../../../../../etc/pa",
        ] {
            assert!(text.parse::<BuildId>().is_err(), "{text}");
        }
    }
}
