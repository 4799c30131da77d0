//! The value of a secret.

use std::fmt;

use zeroize::Zeroizing;

/// The value of a secret: never printed, never serialised, wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Longest value in bytes (the E2B API's limit).
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Wraps a value.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}
