//! Values that must not be printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The bearer token of one sandbox's data plane. It stays on the host: the node checks it and
/// strips it, and nothing inside ever sees it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessToken(String);

impl AccessToken {
    /// Wraps a token's text.
    #[must_use]
    pub const fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself, for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where the two differ.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), candidate.as_bytes());
        let difference = ours.iter().zip(theirs).fold(0_u8, |sum, (a, b)| sum | (a ^ b));
        ours.len() == theirs.len() && difference == 0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_only_itself_and_is_not_printed() {
        let token = AccessToken::new("abc".into());
        assert!(token.matches("abc"));
        assert!(!token.matches("abd") && !token.matches("ab") && !token.matches("abcd"));
        assert_eq!(format!("{token:?}"), "AccessToken(…)");
    }
}
