//! Signed URLs of the envd HTTP API: `GET` and `POST /files` without an access token in a header.
//!
//! `signature = "v1_" + base64(SHA-256("PATH:OPERATION:USER:TOKEN[:EXPIRATION]"))`, standard
//! alphabet, no padding. `PATH` is the query's value as it stands (it may be relative or empty),
//! `USER` is empty where the query names none, `EXPIRATION` is in seconds since the Unix epoch.
//! Checked on the host only: no token enters a sandbox. Pure: the time comes in as a value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use courier_types::{AccessToken, Timestamp};
use sha2::{Digest as _, Sha256};

/// What every signature starts with: the version of the scheme.
const PREFIX: &str = "v1_";

/// What a signature permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// To read a file.
    Read,
    /// To write a file.
    Write,
}

impl Operation {
    /// The word inside the signed text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What is signed: one operation on one path as one user, perhaps for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The query's `path`, decoded, otherwise as it stands; empty where there is none.
    pub path: &'a str,
    /// What may be done.
    pub operation: Operation,
    /// The query's `username`, empty where there is none.
    pub username: &'a str,
    /// The query's `signature_expiration`: the last second in which the signature is good.
    pub expiration: Option<i64>,
}

/// Why a request without an access token is not let in. The texts are those that E2B's SDKs and
/// their tests look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("missing signature query parameter")]
    Missing,
    /// It is not the one for this grant and this token.
    #[error("invalid signature")]
    Invalid,
    /// It was good, and its time is over.
    #[error("signature is already expired")]
    Expired,
}

/// The signature of a grant, for the query parameter `signature`.
#[must_use]
pub fn sign(token: &AccessToken, grant: &Grant<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [grant.path, grant.operation.as_str(), grant.username] {
        hash.update(part.as_bytes());
        hash.update(b":");
    }
    hash.update(token.expose().as_bytes());
    if let Some(expiration) = grant.expiration {
        hash.update(format!(":{expiration}").as_bytes());
    }
    format!("{PREFIX}{}", STANDARD_NO_PAD.encode(hash.finalize()))
}

/// Checks a signature, then its expiration: an invalid one is never called expired.
///
/// # Errors
/// There is no signature, it is not the one for this grant, or its time is over.
pub fn verify(
    token: &AccessToken,
    grant: &Grant<'_>,
    signature: Option<&str>,
    now: Timestamp,
) -> Result<(), SignatureError> {
    let signature = signature.ok_or(SignatureError::Missing)?;
    let expected = AccessToken::new(sign(token, grant));
    if !expected.matches(signature) {
        return Err(SignatureError::Invalid);
    }
    let now_seconds = now.as_micros().div_euclid(1_000_000);
    match grant.expiration {
        Some(expiration) if expiration < now_seconds => Err(SignatureError::Expired),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> AccessToken {
        AccessToken::new("secret-token".into())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds.saturating_mul(1_000_000))
    }

    #[test]
    fn a_signature_is_the_sha_256_of_the_parts_joined_by_colons() {
        // Both computed with Python: b64encode(sha256(b"a.txt:read:user:secret-token").digest()).
        let grant =
            Grant { path: "a.txt", operation: Operation::Read, username: "user", expiration: None };
        assert_eq!(sign(&token(), &grant), "v1_Th4n0MtIDi0Gsh6eeKytPMU2I+syuJa5pzkzEeybLv4");
        let grant = Grant { operation: Operation::Write, expiration: Some(1_700_000_000), ..grant };
        assert_eq!(sign(&token(), &grant), "v1_iumRvTzHatXgjT+anv6lfiTyPzlykrYQtsFrfCr+JvU");
    }

    #[test]
    fn a_wrong_signature_is_called_invalid_although_its_time_is_over_too() {
        let grant =
            Grant { path: "a", operation: Operation::Read, username: "", expiration: Some(1) };
        assert_eq!(verify(&token(), &grant, Some("v1_no"), at(9)), Err(SignatureError::Invalid));
        assert_eq!(verify(&token(), &grant, None, at(9)), Err(SignatureError::Missing));
    }

    #[test]
    fn a_signature_is_good_until_the_end_of_its_last_second() {
        let grant =
            Grant { path: "a", operation: Operation::Read, username: "", expiration: Some(100) };
        let signature = sign(&token(), &grant);
        assert_eq!(verify(&token(), &grant, Some(&signature), at(100)), Ok(()));
        let after = verify(&token(), &grant, Some(&signature), at(101)).unwrap_err();
        assert_eq!(after.to_string(), "signature is already expired");
    }

    proptest! {
        #[test]
        fn a_signature_opens_its_own_grant_and_no_other(
            path in ".{0,40}", other in ".{0,40}", user in "[a-z]{0,8}", expiration in proptest::option::of(0_i64..),
        ) {
            let grant = Grant { path: &path, operation: Operation::Read, username: &user, expiration };
            let signature = sign(&token(), &grant);
            prop_assert_eq!(verify(&token(), &grant, Some(&signature), at(0)), Ok(()));
            let write = Grant { operation: Operation::Write, ..grant };
            prop_assert!(verify(&token(), &write, Some(&signature), at(0)).is_err());
            if other != path {
                let elsewhere = Grant { path: &other, ..grant };
                prop_assert!(verify(&token(), &elsewhere, Some(&signature), at(0)).is_err());
            }
            let foreign = AccessToken::new("another".into());
            prop_assert!(verify(&foreign, &grant, Some(&signature), at(0)).is_err());
        }

        #[test]
        fn no_text_that_a_client_sends_makes_the_check_fail_otherwise_than_by_an_answer(
            signature in ".{0,80}", path in ".{0,80}",
        ) {
            let grant = Grant { path: &path, operation: Operation::Read, username: "", expiration: None };
            prop_assert_eq!(
                verify(&token(), &grant, Some(&signature), at(0)),
                Err(SignatureError::Invalid)
            );
        }
    }
}
