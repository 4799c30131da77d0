//! What clients send about sandboxes.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::NetworkConfig;

/// Body of `POST /v2/sandboxes` and of the deprecated `POST /sandboxes`. Unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewSandbox {
    /// Name, `name:tag` or id of the template.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds until the sandbox is killed; 300 (v1: 15) when absent.
    #[serde(
        default,
        deserialize_with = "timeout_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<i64>,
    /// Asks for a pause instead of a kill when the time is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause: Option<bool>,
    /// False asks for a pause without memory; only with `autoPause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause_memory: Option<bool>,
    /// Asks for a resume by traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<AutoResume>,
    /// Whether the rest of the internet may be reached, beyond what `network` says. Absent: what
    /// the template or the server says, which is no unless the operator chose otherwise.
    #[serde(default, rename = "allow_internet_access", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// The network configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// What the client wants to find the sandbox by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Environment of every command inside. A value that is `${e2b.secrets.NAME}` and nothing else
    /// becomes a short-lived token for that secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Configuration of the MCP gateway; the SDK starts it itself, by a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Value>,
    /// Identity tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<Iam>,
    /// Volumes to mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// v1 only: whether the data plane wants a token. v2 sandboxes always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
}

impl NewSandbox {
    /// The first field that asks for what this version cannot give, by its name on the wire.
    #[must_use]
    pub fn first_unmet(&self) -> Option<&'static str> {
        [
            ("autoPause", self.auto_pause == Some(true)),
            ("autoPauseMemory", self.auto_pause_memory == Some(false)),
            ("autoResume", self.auto_resume.as_ref().is_some_and(|resume| resume.enabled)),
            ("iam", self.iam.as_ref().is_some_and(|iam| !iam.tokens.is_empty())),
        ]
        .into_iter()
        .find_map(|(name, unmet)| unmet.then_some(name))
    }
}

/// `autoResume` of a create request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AutoResume {
    /// Whether traffic wakes the sandbox.
    pub enabled: bool,
}

/// `iam` of a create request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Iam {
    /// The tokens, by name.
    #[serde(default)]
    pub tokens: BTreeMap<String, Value>,
}

/// One volume of a create request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// Where to mount it.
    pub path: String,
}

/// Body of `POST …/connect`, v1 and v2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConnectSandbox {
    /// Seconds that the sandbox shall live at least from now; 300 when absent.
    #[serde(
        default,
        deserialize_with = "timeout_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<i64>,
    /// False asks for a boot from disk where the sandbox is paused; nothing on a running one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// Body of `POST …/timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimeoutRequest {
    /// Seconds from now until the sandbox is killed; may be sooner than before.
    #[serde(default, deserialize_with = "timeout_seconds")]
    pub timeout: Option<i64>,
}

/// Body of `POST …/refreshes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefreshRequest {
    /// Seconds that the sandbox shall live at least from now: 0 to 3600, less than 15 counts as 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<i64>,
}

/// Whole seconds; the error names the field, which serde's own does not.
fn timeout_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => value.as_i64().map(Some).ok_or_else(|| {
            D::Error::custom(format_args!("timeout must be a whole number of seconds, not {value}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_that_an_sdk_sends_is_read_and_its_unknown_fields_are_ignored() {
        let body = r#"{"templateID":"base","timeout":60,"metadata":{"a":"b c"},
            "envVars":{"X":"1"},"allow_internet_access":true,"autoPause":false,"leaked":{}}"#;
        let request: NewSandbox = serde_json::from_str(body).unwrap();
        assert_eq!(request.timeout, Some(60));
        assert_eq!(request.allow_internet_access, Some(true));
        assert_eq!(request.first_unmet(), None);
    }

    #[test]
    fn what_this_version_cannot_give_is_named() {
        let body = r#"{"templateID":"base","autoPause":true}"#;
        let request: NewSandbox = serde_json::from_str(body).unwrap();
        assert_eq!(request.first_unmet(), Some("autoPause"));
        let body = r#"{"templateID":"base","volumeMounts":[{"name":"v","path":"/v"}]}"#;
        let request: NewSandbox = serde_json::from_str(body).unwrap();
        assert_eq!(request.first_unmet(), None);
    }
}
