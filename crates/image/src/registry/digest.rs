//! Digests as registries write them: of bytes as a registry sends them, and of layers unpacked. They
//! are no names of layers in our store, so they are a type of their own.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// A SHA-256 as registries write it: `sha256:` and 64 lower-case hex digits (OCI image
/// specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct BlobDigest(Digest);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobDigestError {
    /// Another algorithm. The specification has SHA-512 too, which no registry's tools make.
    #[error("digests other than sha256 are not supported")]
    Algorithm,
    /// Not 64 lower-case hex digits.
    #[error("a digest is sha256: and 64 lower-case hex digits")]
    Shape,
}

impl BlobDigest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Digest::of(bytes))
    }

    /// What a hash that saw all bytes says.
    pub(super) fn of_hash(hash: Sha256) -> Self {
        Self(Digest::from_bytes(hash.finalize().into()))
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobDigest {
    type Err = BlobDigestError;

    fn from_str(text: &str) -> Result<Self, BlobDigestError> {
        let (algorithm, _digits) = text.split_once(':').ok_or(BlobDigestError::Shape)?;
        if algorithm != "sha256" {
            return Err(BlobDigestError::Algorithm);
        }
        text.parse().map(Self).map_err(|_digits| BlobDigestError::Shape)
    }
}

impl TryFrom<String> for BlobDigest {
    type Error = BlobDigestError;

    fn try_from(text: String) -> Result<Self, BlobDigestError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_in_no_other_way() {
        let digest = BlobDigest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<BlobDigest>().unwrap(), digest);
        for wrong in [&text.to_uppercase(), &text[7..], &text[..70], &format!("{text}0"), ""] {
            assert!(wrong.parse::<BlobDigest>().is_err(), "{wrong}");
        }
        assert!(text.replace("e3", "+3").parse::<BlobDigest>().is_err());
        let other = format!("sha512:{}", "0".repeat(128));
        assert_eq!(other.parse::<BlobDigest>(), Err(BlobDigestError::Algorithm));
    }
}
