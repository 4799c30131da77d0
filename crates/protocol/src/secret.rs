//! A secret's value on its way in. No answer carries one.

use std::fmt;

use courier_types::egress::SecretValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The value of a secret in a request: not printed, wiped from memory when dropped.
#[derive(Clone)]
pub struct GivenSecret(SecretValue);

impl GivenSecret {
    /// Wraps a text, for a client to send.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(SecretValue::new(text.into_bytes()))
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> &SecretValue {
        &self.0
    }
}

impl fmt::Debug for GivenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenSecret(…)")
    }
}

impl PartialEq for GivenSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for GivenSecret {}

impl Serialize for GivenSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self.0.expose()).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for GivenSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Takes a string, and says nothing of what it met instead.
        struct Text;

        impl serde::de::Visitor<'_> for Text {
            type Value = GivenSecret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string as the secret's value")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GivenSecret, E> {
                Ok(GivenSecret::new(text.to_owned()))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<GivenSecret, E> {
                Ok(GivenSecret::new(text))
            }

            // serde's own messages would show the number.
            fn visit_u64<E: serde::de::Error>(self, _number: u64) -> Result<GivenSecret, E> {
                Err(E::custom("the secret's value must be a string"))
            }

            fn visit_i64<E: serde::de::Error>(self, _number: i64) -> Result<GivenSecret, E> {
                Err(E::custom("the secret's value must be a string"))
            }

            fn visit_f64<E: serde::de::Error>(self, _number: f64) -> Result<GivenSecret, E> {
                Err(E::custom("the secret's value must be a string"))
            }
        }

        // Whatever it is: asked for a string, serde_json would show the number it found instead.
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_and_never_shown_not_even_in_an_error() {
        let secret: GivenSecret = serde_json::from_str(r#""canary\n\u00fc""#).unwrap();
        assert_eq!(secret.value().expose(), "canary\nü".as_bytes());
        assert_eq!(format!("{secret:?}"), "GivenSecret(…)");
        for body in ["4711", "-4711", "47.11", "[4711]", r#"{"a":4711}"#] {
            let error = serde_json::from_str::<GivenSecret>(body).unwrap_err().to_string();
            assert!(!error.contains("47"), "{error}");
        }
    }
}
