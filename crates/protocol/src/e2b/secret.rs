//! Secrets. Their values go in and never come out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::secret::GivenSecret;

/// Body of `POST /secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewSecret {
    /// Its name, unique within the project; case does not matter.
    pub name: String,
    /// Its value, at most 64 KiB.
    #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
    pub value: GivenSecret,
    /// What its owner writes on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Body of `POST /secrets/{secretID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretUpdate {
    /// The new value, at most 64 KiB.
    #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
    pub value: GivenSecret,
    /// What replaces the metadata; absent keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Its id: `sec_…`.
    #[serde(rename = "secretID")]
    pub secret_id: String,
    /// Its name, in lower case.
    pub name: String,
    /// Number of its value, from 1.
    pub current_version: u64,
    /// What its owner wrote on it.
    pub metadata: BTreeMap<String, String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it got its value, RFC 3339.
    pub updated_at: String,
}
