//! `egressProxy`: a SOCKS5 proxy of the user's own.

use std::net::Ipv4Addr;

use courier_protocol::e2b::EgressProxy;
use courier_types::egress::{HostName, ProxyTls, UpstreamProxy};

use super::NetworkError;

/// Longest user name and password in bytes (RFC 1929).
const CREDENTIAL_MAX: usize = 255;
/// Longest list of CA certificates in bytes: some twenty of them.
const CA_CERT_MAX: usize = 64 * 1024;

pub(super) fn upstream(proxy: &EgressProxy) -> Result<UpstreamProxy, NetworkError> {
    let wrong = |why| Err(NetworkError::Proxy(why));
    if !is_address(&proxy.address) {
        return wrong("address must be HOST:PORT, with a name or an IPv4 address");
    }
    let fits = |text: &Option<String>| {
        text.as_ref().is_none_or(|text| (1..=CREDENTIAL_MAX).contains(&text.len()))
    };
    if !fits(&proxy.username) || !fits(&proxy.password) {
        return wrong("username and password have 1 to 255 bytes");
    }
    if proxy.username.is_none() && proxy.password.is_some() {
        return wrong("a password needs a username");
    }
    let tls = match &proxy.tls {
        None => None,
        Some(tls) if !tls.enabled && tls.server_name.is_none() && tls.ca_cert.is_none() => None,
        Some(tls) if !tls.enabled => return wrong("tls has fields, but is not enabled"),
        Some(tls) => {
            Some(ProxyTls { server_name: tls.server_name.clone(), ca_cert: tls.ca_cert.clone() })
        }
    };
    if let Some(tls) = &tls {
        let is_name = |name: &String| is_host(name);
        if !tls.server_name.as_ref().is_none_or(is_name) {
            return wrong("tls.serverName must be a name or an IPv4 address");
        }
        let is_pem = |text: &String| {
            text.len() <= CA_CERT_MAX && text.contains("-----BEGIN CERTIFICATE-----")
        };
        if !tls.ca_cert.as_ref().is_none_or(is_pem) {
            return wrong("tls.caCert must be certificates in PEM form, at most 64 KiB");
        }
    }
    let (username, password) = (proxy.username.clone(), proxy.password.clone());
    Ok(UpstreamProxy { address: proxy.address.clone(), username, password, tls })
}

fn is_host(text: &str) -> bool {
    text.parse::<HostName>().is_ok() || text.parse::<Ipv4Addr>().is_ok()
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    is_host(host) && digits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: serde_json::Value) -> Result<UpstreamProxy, NetworkError> {
        upstream(&serde_json::from_value(body).unwrap())
    }

    #[test]
    fn a_proxy_is_taken_whole() {
        let proxy = parse(json!({
            "address": "proxy.example.com:1080", "username": "u", "password": "p",
            "tls": {"enabled": true, "serverName": "other.example.com"},
        }))
        .unwrap();
        assert_eq!(proxy.password.as_deref(), Some("p"));
        assert_eq!(proxy.tls.unwrap().server_name.as_deref(), Some("other.example.com"));
        let plain = json!({"address": "9.9.9.9:1080", "tls": {"enabled": false}});
        assert_eq!(parse(plain).unwrap().tls, None);
    }

    #[test]
    fn a_proxy_that_cannot_be_is_refused_without_a_word_of_its_password() {
        let address = "proxy.test:1080";
        for body in [
            json!({"address": "proxy.test"}),
            json!({"address": "proxy.test:0"}),
            json!({"address": "proxy.test:+1"}),
            json!({"address": "[::1]:1080"}),
            json!({"address": "socks5://proxy.test:1080"}),
            json!({"address": "user@proxy.test:1080"}),
            json!({"address": address, "password": "canary"}),
            json!({"address": address, "username": "", "password": "canary"}),
            json!({"address": address, "username": "u", "password": "canary".repeat(50)}),
            json!({"address": address, "tls": {"enabled": false, "serverName": "a.test"}}),
            json!({"address": address, "tls": {"enabled": true, "serverName": "a b"}}),
            json!({"address": address, "tls": {"enabled": true, "caCert": "none"}}),
        ] {
            let error = parse(body.clone()).unwrap_err().to_string();
            assert!(error.starts_with("network.egressProxy"), "{body}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
