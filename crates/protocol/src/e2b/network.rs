//! The network of a sandbox, as requests ask for it and answers show it.
//!
//! Elsewhere on this wire a field that is not known is ignored; here it is an error: a `denyOut` in
//! another spelling, unheard, would leave open what was meant to be shut.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// `network` of a create request, and of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// False asks for a token on every port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_public_traffic: Option<bool>,
    /// What may be reached: IPv4 addresses and networks, names, `*.NAME`. Comes before `denyOut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_out: Option<Vec<String>>,
    /// What may not be reached: addresses and networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_out: Option<Vec<String>>,
    /// A SOCKS5 proxy for what leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<EgressProxy>,
    /// The `Host` that servers inside see; `${PORT}` stands for the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// Ports inside that speak TLS themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_ports: Option<Vec<u16>>,
    /// Resolvers to use: IPv4 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Vec<String>>,
    /// Requests to change on their way, by name or `*.NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<BTreeMap<String, Vec<NetworkRule>>>,
}

/// Body of `PUT /sandboxes/{sandboxID}/network`: replaces all of it; what is absent is cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NetworkUpdate {
    /// As of [`NetworkConfig::allow_out`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_out: Option<Vec<String>>,
    /// As of [`NetworkConfig::deny_out`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_out: Option<Vec<String>>,
    /// As of [`NetworkConfig::egress_proxy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<EgressProxy>,
    /// As of [`NetworkConfig::dns_servers`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Vec<String>>,
    /// As of [`NetworkConfig::rules`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<BTreeMap<String, Vec<NetworkRule>>>,
    /// Whether the rest of the internet may be reached.
    #[serde(rename = "allow_internet_access", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
}

/// A SOCKS5 proxy.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressProxy {
    /// `HOST:PORT`.
    pub address: String,
    /// User name (RFC 1929), at most 255 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password (RFC 1929), at most 255 bytes; in no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(write_only))]
    pub password: Option<String>,
    /// TLS to the proxy itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<EgressProxyTls>,
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

/// TLS to an [`EgressProxy`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressProxyTls {
    /// Whether there is TLS; without it nothing else may be said.
    pub enabled: bool,
    /// The name that the proxy's certificate must have; absent: the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The only CA certificates that are trusted for it, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

/// What happens to requests to one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NetworkRule {
    /// How they are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<NetworkTransform>,
}

/// How a request is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NetworkTransform {
    /// Headers that it gets; `${e2b.secrets.NAME}` in a value stands for that secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_that_an_sdk_sends_is_read_and_unknown_fields_are_refused() {
        let body = r#"{"allowOut":["api.example.com"],"denyOut":["0.0.0.0/0"],
            "rules":{"api.example.com":[{"transform":{"headers":{"X-Key":"${e2b.secrets.k}"}}}]},
            "egressProxy":{"address":"proxy.test:1080","password":"canary","tls":{"enabled":true}}}"#;
        let config: NetworkConfig = serde_json::from_str(body).unwrap();
        assert_eq!(config.allow_out.as_deref().unwrap(), ["api.example.com"]);
        assert!(!format!("{config:?}").contains("canary"));
        assert!(serde_json::from_str::<NetworkConfig>(r#"{"deny_out":["0.0.0.0/0"]}"#).is_err());
        let empty: NetworkUpdate = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, NetworkUpdate::default());
    }
}
