//! Names that users give to things of egress.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name in characters.
const NAME_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the name of a {kind}: expected 1 to {NAME_MAX} characters of {alphabet}, the first a letter or digit"
)]
pub struct NameError {
    /// What was expected, e.g. `secret`.
    pub kind: &'static str,
    /// The characters that are allowed.
    pub alphabet: &'static str,
    /// The refused text, cut to 64 characters.
    pub text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $alphabet:literal, $extra:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The canonical text, in lower case.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let name = text.to_ascii_lowercase();
                let extra: &[u8] = $extra;
                let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || extra.contains(&b);
                let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
                if begins && name.len() <= NAME_MAX && name.bytes().all(ok) {
                    Ok(Self(name))
                } else {
                    let text = text.chars().take(64).collect();
                    Err(NameError { kind: $kind, alphabet: $alphabet, text })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A stored secret, within its project. Case does not matter; kept in lower case.
    SecretName, "secret", "a-z, 0-9, '-', '_' and '.'", b"-_."
}
name! {
    /// A private tunnel: one DNS label, since it is reachable inside as `NAME.tunnel.internal`.
    TunnelName, "tunnel", "a-z, 0-9 and '-'", b"-"
}
name! {
    /// A preset of rules for a package manager, e.g. `pypi`.
    PresetName, "preset", "a-z, 0-9 and '-'", b"-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_in_lower_case_and_never_leads_anywhere_else() {
        assert_eq!("DB-Prod".parse::<SecretName>().unwrap().as_str(), "db-prod");
        for text in ["", "-a", "a/b", "a b", "a\n", "ä", "..", "${x}"] {
            assert!(text.parse::<SecretName>().is_err(), "{text:?}");
        }
        assert!("a.b".parse::<TunnelName>().is_err());
    }
}
