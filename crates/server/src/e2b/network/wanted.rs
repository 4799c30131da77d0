//! From a body to what is wanted: everything that can be refused is refused here.

use std::net::Ipv4Addr;

use courier_protocol::e2b::{NetworkConfig, NetworkUpdate};
use courier_types::egress::{
    Action, CredentialError, Destination, HostError, PolicyError, Rule, UpstreamProxy,
};
use ipnet::{IpNet, Ipv4Net};

use super::{headers, proxy};
use crate::egress::{Asked, Wish};
use crate::http::ApiError;

/// Most resolvers (E2B's limit).
const DNS_SERVERS_MAX: usize = 10;
/// Most ports that speak TLS: more than any server inside has.
const HTTPS_PORTS_MAX: usize = 64;
/// The guest daemon's port, which never speaks TLS.
const DAEMON_PORT: u16 = 49_983;
/// Longest `maskRequestHost`: a name of DNS, a port, and the placeholder.
const MASK_MAX: usize = 270;
/// What stands for the port in `maskRequestHost`.
const PORT: &str = "${PORT}";

/// Why a network is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("network.allowOut: {0}")]
    AllowOut(#[source] PolicyError),
    #[error("network.denyOut: {text:?} is no address and no network: names are not supported")]
    DenyOut { text: String },
    #[error("network.dnsServers: {text:?} is no IPv4 address")]
    DnsServer { text: String },
    #[error("network.dnsServers has more than {DNS_SERVERS_MAX} entries")]
    DnsServers,
    #[error(
        "network.maskRequestHost: {text:?} is no host: write a name, with a port and ${{PORT}} \
         where you like"
    )]
    Mask { text: String },
    #[error(
        "network.httpsPorts: {port} cannot be one: ports are 1 to 65535, at most \
         {HTTPS_PORTS_MAX}, and not {DAEMON_PORT}"
    )]
    HttpsPort { port: u16 },
    #[error("network.rules has more than {max} domains", max = headers::DOMAINS_MAX)]
    Domains,
    #[error("network.rules: {domain:?} has more than one rule")]
    RulesOfDomain { domain: String },
    #[error("network.rules: {source}")]
    Domain {
        #[source]
        source: HostError,
    },
    #[error(
        "network.rules: {domain:?} has more than {max} headers, or one longer than {longest} \
         characters",
        max = headers::HEADERS_MAX,
        longest = headers::VALUE_MAX
    )]
    Headers { domain: String },
    #[error("network.rules: {domain:?}: {source}")]
    Header {
        domain: String,
        #[source]
        source: CredentialError,
    },
    #[error("network.rules: {domain:?}: {name:?} is set twice")]
    HeaderTwice { domain: String, name: String },
    #[error("network.rules: {domain:?}: the placeholder {text:?} is unknown")]
    Placeholder { domain: String, text: String },
    #[error("network.rules: identity tokens")]
    Identity,
    #[error("network.egressProxy: {0}")]
    Proxy(&'static str),
}

impl From<NetworkError> for ApiError {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::Identity => Self::not_in_this_version(
                "what \"${e2b.identity.tokens.…}\" in network.rules asks for",
            ),
            NetworkError::AllowOut(_)
            | NetworkError::DenyOut { .. }
            | NetworkError::DnsServer { .. }
            | NetworkError::DnsServers
            | NetworkError::Mask { .. }
            | NetworkError::HttpsPort { .. }
            | NetworkError::Domains
            | NetworkError::RulesOfDomain { .. }
            | NetworkError::Domain { .. }
            | NetworkError::Headers { .. }
            | NetworkError::Header { .. }
            | NetworkError::HeaderTwice { .. }
            | NetworkError::Placeholder { .. }
            | NetworkError::Proxy(_) => Self::bad_request(error.to_string()),
        }
    }
}

/// Whether ports inside are open to whoever reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PublicTraffic {
    /// They are.
    #[default]
    Open,
    /// They want a token.
    Guarded,
}

/// A network that may be asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// What shall be reached.
    pub(crate) asked: Asked,
    /// `allow_internet_access`, as it was said.
    pub(crate) internet: Option<bool>,
    /// The proxy.
    pub(crate) proxy: Option<UpstreamProxy>,
    /// The resolvers; empty: the node's. (E2B opens its own wherever a name is allowed, and an empty
    /// list closes them; here names are always resolved, and only those that are allowed.)
    pub(crate) dns_servers: Vec<Ipv4Addr>,
    /// Whether ports want a token.
    pub(crate) public_traffic: PublicTraffic,
    /// The `Host` that servers inside see.
    pub(crate) mask_request_host: Option<String>,
    /// Ports inside that speak TLS themselves.
    pub(crate) https_ports: Vec<u16>,
    /// What answers show of it: the body without the proxy's password.
    pub(crate) shown: NetworkConfig,
}

impl Wanted {
    /// What a create asks for.
    pub(crate) fn of_create(
        config: Option<NetworkConfig>,
        internet: Option<bool>,
    ) -> Result<Self, NetworkError> {
        let Some(config) = config else {
            let wish = Wish { internet, ..Wish::default() };
            return Ok(Self { asked: asked(wish), internet, ..Self::default() });
        };
        let wish = Wish {
            allow: allow_rules(config.allow_out.as_deref().unwrap_or_default())?,
            deny: deny_rules(config.deny_out.as_deref().unwrap_or_default())?,
            internet,
            credentials: config.rules.as_ref().map_or(Ok(Vec::new()), headers::credentials)?,
        };
        Ok(Self {
            asked: asked(wish),
            internet,
            proxy: config.egress_proxy.as_ref().map(proxy::upstream).transpose()?,
            dns_servers: dns_servers(config.dns_servers.as_deref().unwrap_or_default())?,
            public_traffic: match config.allow_public_traffic {
                Some(false) => PublicTraffic::Guarded,
                Some(true) | None => PublicTraffic::Open,
            },
            mask_request_host: config.mask_request_host.clone().map(mask).transpose()?,
            https_ports: https_ports(config.https_ports.clone().unwrap_or_default())?,
            shown: without_password(config),
        })
    }

    /// What an update asks for.
    pub(crate) fn of_update(update: NetworkUpdate) -> Result<Self, NetworkError> {
        let config = NetworkConfig {
            allow_out: update.allow_out,
            deny_out: update.deny_out,
            egress_proxy: update.egress_proxy,
            dns_servers: update.dns_servers,
            rules: update.rules,
            ..NetworkConfig::default()
        };
        Self::of_create(Some(config), update.allow_internet_access)
    }
}

/// A wish for nothing is none.
fn asked(wish: Wish) -> Asked {
    if wish == Wish::default() { Asked::Nothing } else { Asked::Wish(wish) }
}

fn without_password(mut config: NetworkConfig) -> NetworkConfig {
    if let Some(proxy) = &mut config.egress_proxy {
        proxy.password = None;
    }
    config
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The destination of a network. All of IPv4 is what is meant by the internet: names included.
fn destination(net: Ipv4Net) -> Destination {
    if net.prefix_len() == 0 { Destination::Internet } else { Destination::Net(net.trunc()) }
}

fn allow_rules(entries: &[String]) -> Result<Vec<Rule>, NetworkError> {
    let rule = |text: &String| {
        let text = text.trim();
        let to = match network(text) {
            Some(IpNet::V4(net)) => destination(net),
            // The word is of our own API; on this wire it would be a name of one label.
            _ if text == "internet" => {
                return Err(NetworkError::AllowOut(PolicyError::Destination { text: cut(text) }));
            }
            Some(IpNet::V6(_)) | None => text.parse().map_err(NetworkError::AllowOut)?,
        };
        Ok(Rule::new(Action::Allow, to))
    };
    entries.iter().map(rule).collect()
}

fn deny_rules(entries: &[String]) -> Result<Vec<Rule>, NetworkError> {
    let mut rules = Vec::new();
    for text in entries {
        match network(text.trim()) {
            Some(IpNet::V4(net)) => rules.push(Rule::new(Action::Deny, destination(net))),
            // Nothing leaves by IPv6 anyway; but this is an IPv4 address in other words.
            Some(IpNet::V6(net)) if net.addr().to_ipv4_mapped().is_none() => {}
            Some(IpNet::V6(_)) | None => return Err(NetworkError::DenyOut { text: cut(text) }),
        }
    }
    Ok(rules)
}

/// An address or a network, of either family. Bits behind the prefix do not matter on this wire.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))
}

fn dns_servers(entries: &[String]) -> Result<Vec<Ipv4Addr>, NetworkError> {
    if entries.len() > DNS_SERVERS_MAX {
        return Err(NetworkError::DnsServers);
    }
    let address = |text: &String| {
        text.trim().parse().map_err(|_no_address| NetworkError::DnsServer { text: cut(text) })
    };
    entries.iter().map(address).collect()
}

fn mask(text: String) -> Result<String, NetworkError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let plain = text.replace(PORT, "0");
    let (host, port) = plain.split_once(':').unwrap_or((&plain, "0"));
    let host_is_valid = !host.is_empty() && host.bytes().all(valid);
    let port_is_valid = port.len() <= 5 && port.parse::<u16>().is_ok();
    if text.len() > MASK_MAX || !host_is_valid || !port_is_valid {
        return Err(NetworkError::Mask { text: cut(&text) });
    }
    Ok(text)
}

fn https_ports(mut ports: Vec<u16>) -> Result<Vec<u16>, NetworkError> {
    ports.sort_unstable();
    ports.dedup();
    let wrong = ports.iter().find(|port| matches!(**port, 0 | DAEMON_PORT));
    match wrong.or_else(|| ports.get(HTTPS_PORTS_MAX)) {
        Some(port) => Err(NetworkError::HttpsPort { port: *port }),
        None => Ok(ports),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish(body: serde_json::Value) -> Result<Wish, NetworkError> {
        match Wanted::of_update(serde_json::from_value(body).unwrap())?.asked {
            Asked::Wish(wish) => Ok(wish),
            Asked::Nothing => Ok(Wish::default()),
            Asked::Whole(policy) => panic!("{policy:?}"),
        }
    }

    fn rules(rules: &[Rule]) -> String {
        serde_json::to_string(rules).unwrap()
    }

    #[test]
    fn what_is_asked_becomes_rules() {
        let asked = wish(json!({
            "allowOut": ["API.Example.com", "*.example.com", "8.8.8.8", "1.2.3.4/24", "0.0.0.0/0"],
            "denyOut": ["9.9.9.9", "0.0.0.0/0", "::/0", "2001:db8::1"],
            "allow_internet_access": true,
        }))
        .unwrap();
        assert_eq!(
            rules(&asked.allow),
            r#"[{"allow":"api.example.com"},{"allow":"*.example.com"},{"allow":"8.8.8.8"},{"allow":"1.2.3.0/24"},{"allow":"internet"}]"#
        );
        assert_eq!(rules(&asked.deny), r#"[{"deny":"9.9.9.9"},{"deny":"internet"}]"#);
        assert_eq!(asked.internet, Some(true));
    }

    #[test]
    fn nothing_asked_for_is_nothing_said() {
        let empty = json!({"allowOut": [], "denyOut": [], "rules": {}, "dnsServers": []});
        for body in [json!({}), empty] {
            let wanted = Wanted::of_update(serde_json::from_value(body).unwrap()).unwrap();
            assert!(matches!(wanted.asked, Asked::Nothing));
        }
        let denied = wish(json!({"allow_internet_access": false})).unwrap();
        assert_eq!(denied.internet, Some(false));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        for (body, part) in [
            (json!({"allowOut": ["::1"]}), "allowOut"),
            (json!({"allowOut": ["*"]}), "allowOut"),
            (json!({"allowOut": ["internet"]}), "allowOut"),
            (json!({"allowOut": ["a b"]}), "allowOut"),
            (json!({"allowOut": ["1.2.3.4/33"]}), "allowOut"),
            (json!({"denyOut": ["example.com"]}), "denyOut"),
            (json!({"denyOut": ["::ffff:9.9.9.9"]}), "denyOut"),
            (json!({"dnsServers": ["::1"]}), "dnsServers"),
            (json!({"dnsServers": vec!["1.1.1.1"; 11]}), "dnsServers"),
        ] {
            let error = wish(body.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn a_field_that_is_not_known_is_an_error() {
        for body in [
            json!({"deny_out": ["0.0.0.0/0"]}),
            json!({"allowInternetAccess": false}),
            json!({"rules": {"a.test": [{"transforms": {}}]}}),
            json!({"rules": {"a.test": [{"transform": {"header": {}}}]}}),
            json!({"egressProxy": {"address": "a.test:1", "tls": {"enabled": true, "ca": ""}}}),
        ] {
            assert!(serde_json::from_value::<NetworkUpdate>(body.clone()).is_err(), "{body}");
            assert!(serde_json::from_value::<NetworkConfig>(body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_mask_is_a_host_and_ports_are_ports() {
        for text in ["a.example.com", "${PORT}-a.example.com", "localhost:${PORT}", "a:80"] {
            assert_eq!(mask(text.to_owned()).unwrap(), text);
        }
        for text in ["", "a b", "a\r\nb", "a/b", "a:b", "a:99999", "${HOST}", "a:1:2", "a@b"] {
            assert!(mask(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(https_ports(vec![443, 80, 443]).unwrap(), [80, 443]);
        for ports in [vec![0], vec![DAEMON_PORT], (1..=65).collect()] {
            assert!(https_ports(ports).is_err());
        }
    }
}
