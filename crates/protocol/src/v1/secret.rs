//! Secrets, and the tokens that stand for them inside.

use std::collections::BTreeMap;

use courier_types::egress::SecretName;
use serde::{Deserialize, Serialize};

use crate::secret::GivenSecret;

/// Body of `POST /v1/secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = v1::NewSecret))]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// Its name, unique within the project: a-z, 0-9, '-', '_' and '.'.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: SecretName,
    /// Its value, at most 64 KiB.
    #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
    pub value: GivenSecret,
    /// What its owner writes on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// Body of `PUT /v1/secrets/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretValuePut {
    /// The new value, at most 64 KiB; it counts from the next use on.
    #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
    pub value: GivenSecret,
    /// What replaces the metadata; absent keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = v1::Secret))]
pub struct Secret {
    /// Its id: `sec_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Number of its value, from 1.
    pub version: u64,
    /// What its owner wrote on it.
    pub metadata: BTreeMap<String, String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it got its value, RFC 3339.
    pub updated_at: String,
}

/// One page of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretList {
    /// The secrets, newest first.
    pub secrets: Vec<Secret>,
    /// Cursor of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Body of `POST /v1/tokens/introspect`, after RFC 7662.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenQuestion {
    /// The token that somebody showed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
    pub token: GivenSecret,
}

/// Answer of `POST /v1/tokens/introspect`: what the token stands for, now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenAnswer {
    /// False for every token that does not count now, whatever the reason; then nothing else is
    /// said.
    pub active: bool,
    /// The sandbox that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The secret that it stands for, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// When it ends, RFC 3339, where its sandbox lives that long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}
