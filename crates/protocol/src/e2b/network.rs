//! The network part of a create request. This version gives a sandbox no network, so all that
//! matters is whether a request asks for some.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `network` of a create request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkConfig {
    /// False asks for a token on every port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_public_traffic: Option<bool>,
    /// What may be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_out: Option<Vec<String>>,
    /// What may not be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_out: Option<Vec<String>>,
    /// A SOCKS5 proxy for what leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<Value>,
    /// The `Host` that servers inside see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// Ports inside that speak TLS themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_ports: Option<Vec<u16>>,
    /// Resolvers to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Vec<String>>,
    /// Requests to change on their way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Value>,
}

impl NetworkConfig {
    /// The first field that asks for more than a sandbox without any network can give, by its name
    /// on the wire. `denyOut` never does: nothing can be reached anyway.
    #[must_use]
    pub fn first_unmet(&self) -> Option<&'static str> {
        let asks = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let set = |value: &Option<Value>| value.as_ref().is_some_and(is_set);
        [
            ("network.allowPublicTraffic", self.allow_public_traffic == Some(false)),
            ("network.allowOut", asks(&self.allow_out)),
            ("network.egressProxy", set(&self.egress_proxy)),
            ("network.maskRequestHost", self.mask_request_host.is_some()),
            (
                "network.httpsPorts",
                self.https_ports.as_ref().is_some_and(|ports| !ports.is_empty()),
            ),
            ("network.dnsServers", asks(&self.dns_servers)),
            ("network.rules", set(&self.rules)),
        ]
        .into_iter()
        .find_map(|(name, unmet)| unmet.then_some(name))
    }
}

/// True unless the value is `null` or an empty object or list.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denying_everything_asks_for_nothing_that_is_missing() {
        let config: NetworkConfig =
            serde_json::from_str(r#"{"denyOut":["0.0.0.0/0"],"allowOut":[],"rules":{}}"#).unwrap();
        assert_eq!(config.first_unmet(), None);
    }

    #[test]
    fn an_allow_list_is_named_as_unmet() {
        let config: NetworkConfig =
            serde_json::from_str(r#"{"allowOut":["example.org"]}"#).unwrap();
        assert_eq!(config.first_unmet(), Some("network.allowOut"));
    }
}
