//! The short-lived tokens that a guest holds in place of secrets.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Why a text is no token. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is cct_ and 43 characters of A-Z, a-z, 0-9, '-' and '_'")]
pub struct GuestTokenError;

/// A short-lived token that stands for one secret in one sandbox: worth nothing anywhere else. Not
/// printed, and never stored: the server keeps its SHA-256 alone.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestToken(Zeroizing<String>);

impl GuestToken {
    /// What every token begins with, so that one is recognised wherever it turns up.
    pub const PREFIX: &str = "cct_";
    /// Random bytes in a token: as many as the hash that is kept of it.
    pub const RANDOM_BYTES: usize = 32;
    /// Characters after the prefix: base64url of the random bytes, without padding.
    pub const BODY_LEN: usize = 43;
    /// Characters of a token.
    pub const LEN: usize = Self::PREFIX.len() + Self::BODY_LEN;

    /// Makes a token from random bytes.
    #[must_use]
    pub fn from_random(random: [u8; Self::RANDOM_BYTES]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(Self::LEN));
        text.push_str(Self::PREFIX);
        URL_SAFE_NO_PAD.encode_string(random, &mut text);
        Self(text)
    }

    /// The token's text, for the one who may have it and for its hash.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Where bytes look like tokens, from the left and without overlaps. A token has a fixed length,
    /// so what follows its last character never matters.
    pub fn find_all(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0_usize;
        std::iter::from_fn(move || {
            while let Some(rest) = bytes.get(from..).filter(|rest| rest.len() >= Self::LEN) {
                let start = from;
                if rest.get(..Self::LEN).is_some_and(is_token) {
                    from = start.saturating_add(Self::LEN);
                    return Some(start..from);
                }
                from = start.saturating_add(1);
            }
            None
        })
    }
}

fn is_token(bytes: &[u8]) -> bool {
    let body = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    bytes
        .strip_prefix(GuestToken::PREFIX.as_bytes())
        .is_some_and(|rest| rest.len() == GuestToken::BODY_LEN && rest.iter().all(body))
}

impl FromStr for GuestToken {
    type Err = GuestTokenError;

    fn from_str(text: &str) -> Result<Self, GuestTokenError> {
        if is_token(text.as_bytes()) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(GuestTokenError)
        }
    }
}

impl fmt::Debug for GuestToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_and_not_printed() {
        let token = GuestToken::from_random([0xfb; 32]);
        assert_eq!(token.expose().len(), GuestToken::LEN);
        assert_eq!(token.expose().parse(), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "GuestToken(…)");
        for text in ["", "cct_", &token.expose()[1..], &format!("{}a", token.expose())] {
            assert_eq!(text.parse::<GuestToken>(), Err(GuestTokenError), "{text}");
        }
    }

    #[test]
    fn every_token_in_a_text_is_found() {
        let (a, b) = (GuestToken::from_random([1; 32]), GuestToken::from_random([255; 32]));
        let (a, b) = (a.expose(), b.expose());
        for (text, found) in [
            (format!("Bearer {a}"), vec![a]),
            (format!("{a}{b}"), vec![a, b]),
            (format!("cct_ {a}x, {b}"), vec![a, b]),
            ("cct_short".to_owned(), vec![]),
            (a[..GuestToken::LEN - 1].to_owned(), vec![]),
        ] {
            let ranges = GuestToken::find_all(text.as_bytes());
            assert_eq!(ranges.map(|range| &text[range]).collect::<Vec<_>>(), found, "{text}");
        }
        // A false beginning hides nothing: something is found, and so refused.
        assert!(GuestToken::find_all(format!("cct_{a}").as_bytes()).next().is_some());
    }
}
