//! Ids: each its own type, each with one canonical form, never made from an unchecked string.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id: expected {expected}")]
pub struct IdError {
    /// What kind of id was expected, e.g. `sandbox`.
    pub kind: &'static str,
    /// The form that would have been valid, in words.
    pub expected: &'static str,
    /// The refused text, cut to 64 characters.
    pub text: String,
}

/// Alphabet of the random part of an id: what fits in one DNS label, in lower case.
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Turns random bytes into id characters. The bias of `% 36` costs less than 0.1 bit per character.
fn encode(random: &[u8]) -> String {
    random
        .iter()
        .filter_map(|b| ALPHABET.get(usize::from(*b) % 36))
        .map(|b| char::from(*b))
        .collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, prefix $prefix:literal, random $len:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Number of random bytes that [`Self::from_random`] takes.
            pub const RANDOM_BYTES: usize = $len;

            /// Makes an id from random bytes, one character per byte.
            #[must_use]
            pub fn from_random(random: [u8; $len]) -> Self {
                Self(format!("{}{}", $prefix, encode(&random)))
            }

            /// The canonical text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid = text.strip_prefix($prefix).is_some_and(|rest| {
                    rest.len() == $len && rest.bytes().all(|b| ALPHABET.contains(&b))
                });
                if valid {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError {
                        kind: $kind,
                        expected: concat!("'", $prefix, "' followed by ", stringify!($len), " characters of a-z and 0-9"),
                        text: text.chars().take(64).collect(),
                    })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A sandbox, for life: `i` and 20 characters of `[a-z0-9]`, as the E2B wire wants it (the host
    /// label `PORT-ID` is split on the first dash, so an id has none).
    SandboxId, "sandbox", prefix "i", random 20
}
id! {
    /// A template: 20 characters of `[a-z0-9]`, as the E2B wire wants it.
    TemplateId, "template", prefix "", random 20
}
id! {
    /// A project: the owner of sandboxes, templates and keys.
    ProjectId, "project", prefix "p", random 20
}
id! {
    /// One execution of a snippet (`POST /v1/executions`).
    ExecutionId, "execution", prefix "x", random 20
}
id! {
    /// A stored secret; never its value.
    SecretId, "secret", prefix "sec_", random 20
}
id! {
    /// A volume.
    VolumeId, "volume", prefix "v", random 20
}
id! {
    /// An API key's public handle; never the key.
    ApiKeyId, "API key", prefix "k", random 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_own_text() {
        let id = SandboxId::from_random([7; 20]);
        assert_eq!(id.as_str().parse::<SandboxId>(), Ok(id));
    }

    #[test]
    fn a_text_with_a_dash_a_capital_or_another_length_is_no_sandbox_id() {
        for text in [
            "",
            "i",
            "i0123456789abcdefghi-",
            "I0123456789abcdefghij",
            "i0123456789abcdefghijk",
            "i../../etc/passwd000",
        ] {
            assert!(text.parse::<SandboxId>().is_err(), "{text}");
        }
    }
}
