//! Environments: plain values, and tokens for secrets.

use std::fmt;

use courier_types::egress::SecretName;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

/// How long a token may live at most, in seconds: a day, so that one that leaked is soon worth nothing.
pub const TOKEN_TTL_SECS_MAX: u64 = 86_400;

/// A value of an environment variable: a text, or `{"secret": NAME, "ttl_seconds": N}`, which
/// becomes a short-lived token for that secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum EnvValue {
    /// This text.
    Text(String),
    /// A token for a secret.
    Secret(EnvSecret),
}

/// A token for a secret as a value. It is exchanged for the secret at the hosts that a `placeholder`
/// credential of the policy names, and ends with its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnvSecret {
    /// Name of the secret.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub secret: SecretName,
    /// Seconds until the token ends, 1 to 86,400; 3,600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

impl From<String> for EnvValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Decides by what is there, so that an error names the field.
        struct Either;

        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = EnvValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an object with \"secret\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EnvValue, E> {
                Ok(EnvValue::Text(text.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<EnvValue, A::Error> {
                EnvSecret::deserialize(MapAccessDeserializer::new(map)).map(EnvValue::Secret)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_text_or_names_a_secret_and_errors_name_the_field() {
        let parse = serde_json::from_str::<EnvValue>;
        assert_eq!(parse(r#""a""#).unwrap(), EnvValue::Text("a".to_owned()));
        let secret = EnvSecret { secret: "openai".parse().unwrap(), ttl_seconds: Some(9) };
        let text = r#"{"secret":"openai","ttl_seconds":9}"#;
        assert_eq!(parse(text).unwrap(), EnvValue::Secret(secret.clone()));
        assert_eq!(serde_json::to_string(&EnvValue::Secret(secret)).unwrap(), text);
        assert!(parse(r#"{"secret":"a","ttl":9}"#).unwrap_err().to_string().contains("`ttl`"));
        assert!(parse("7").unwrap_err().to_string().contains("a string, or an object"));
    }
}
