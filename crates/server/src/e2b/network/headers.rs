//! `rules`: headers that requests to some names get.

use std::collections::{BTreeMap, BTreeSet};

use courier_protocol::e2b::NetworkRule;
use courier_types::egress::{Credential, CredentialError, HostPattern};
use serde_json::json;

use super::NetworkError;

/// Most domains (E2B's limit).
pub(super) const DOMAINS_MAX: usize = 10;
/// Most headers of one domain (E2B's limit).
pub(super) const HEADERS_MAX: usize = 20;
/// Longest value in characters (E2B's limit).
pub(super) const VALUE_MAX: usize = 2_048;

/// How E2B writes a secret.
const SECRET: &str = "${e2b.secrets.";
/// How E2B writes an identity token.
const IDENTITY: &str = "${e2b.identity.";
/// Any placeholder of E2B's.
const ANY: &str = "${e2b.";
/// How we write a secret.
const OURS: &str = "${secrets.";

/// The credentials of `rules`, the most exact name first: of several for one header the first counts.
pub(super) fn credentials(
    rules: &BTreeMap<String, Vec<NetworkRule>>,
) -> Result<Vec<Credential>, NetworkError> {
    if rules.len() > DOMAINS_MAX {
        return Err(NetworkError::Domains);
    }
    let mut by_host = BTreeMap::new();
    for (domain, rules) in rules {
        let host: HostPattern =
            domain.trim().parse().map_err(|source| NetworkError::Domain { source })?;
        let shown = || domain.chars().take(64).collect();
        let rule = match rules.as_slice() {
            [] => continue,
            [rule] => rule,
            [_, ..] => return Err(NetworkError::RulesOfDomain { domain: shown() }),
        };
        let headers = rule.transform.as_ref().and_then(|transform| transform.headers.as_ref());
        let exactness = (matches!(host, HostPattern::Exact(_)), host.to_string().len());
        let credentials = headers.map_or(Ok(Vec::new()), |headers| of_host(&host, headers))?;
        if by_host.insert((exactness, host), credentials).is_some() {
            // The same name twice, in two spellings.
            return Err(NetworkError::RulesOfDomain { domain: shown() });
        }
    }
    Ok(by_host.into_values().rev().flatten().collect())
}

fn of_host(
    host: &HostPattern,
    headers: &BTreeMap<String, String>,
) -> Result<Vec<Credential>, NetworkError> {
    let too_long = |value: &String| value.len() > VALUE_MAX;
    if headers.len() > HEADERS_MAX || headers.values().any(too_long) {
        return Err(NetworkError::Headers { domain: host.to_string() });
    }
    let mut names = BTreeSet::new();
    for name in headers.keys() {
        if !names.insert(name.to_ascii_lowercase()) {
            let name = name.chars().take(64).collect();
            return Err(NetworkError::HeaderTwice { domain: host.to_string(), name });
        }
    }
    headers.iter().map(|(name, value)| credential(host, name, value)).collect()
}

/// One header. It goes through the credential's own parser, which knows what a header may be.
fn credential(host: &HostPattern, name: &str, value: &str) -> Result<Credential, NetworkError> {
    let domain = host.to_string();
    if value.contains(IDENTITY) {
        return Err(NetworkError::Identity);
    }
    // Our own spelling is understood too: it can only name a secret of the same project.
    let value = value.replace(SECRET, OURS);
    if let Some((_before, rest)) = value.split_once(ANY) {
        let text = format!("{ANY}{}", rest.chars().take(32).collect::<String>());
        return Err(NetworkError::Placeholder { domain, text });
    }
    let template = value
        .parse::<courier_types::egress::Template>()
        .map_err(|source| NetworkError::Header { domain: domain.clone(), source })?;
    let body = json!({"host": host, "as": {"header": {"name": name, "value": template}}});
    serde_json::from_value(body).map_err(|_header| {
        let (name, why) = (name.chars().take(64).collect(), "it is no header that may be set");
        NetworkError::Header { domain, source: CredentialError::Header { name, why } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: serde_json::Value) -> Result<Vec<Credential>, NetworkError> {
        credentials(&serde_json::from_value(body).unwrap())
    }

    fn headers(headers: serde_json::Value) -> serde_json::Value {
        json!([{"transform": {"headers": headers}}])
    }

    #[test]
    fn headers_become_credentials_and_the_most_exact_name_comes_first() {
        let found = parse(json!({
            "api.x.example.com": headers(json!({"X-Key": "k ${e2b.secrets.Open-AI}"})),
            "*.example.com": headers(json!({"X-Key": "plain"})),
            "*.x.example.com": headers(json!({"X-Other": "a"})),
            "idle.example.com": [],
            "none.example.com": [{}],
        }))
        .unwrap();
        let found: Vec<String> =
            found.iter().map(|credential| serde_json::to_string(credential).unwrap()).collect();
        assert_eq!(
            found,
            [
                r#"{"host":"api.x.example.com","as":{"header":{"name":"x-key","value":"k ${secrets.open-ai}"}}}"#,
                r#"{"host":"*.x.example.com","as":{"header":{"name":"x-other","value":"a"}}}"#,
                r#"{"host":"*.example.com","as":{"header":{"name":"x-key","value":"plain"}}}"#,
            ]
        );
    }

    #[test]
    fn the_limits_of_the_wire_hold() {
        let many = |count: usize, name: fn(usize) -> String| -> serde_json::Value {
            (0..count).map(|n| (name(n), json!("v"))).collect()
        };
        let domains: serde_json::Value =
            (0..11).map(|n| (format!("d{n}.example.com"), json!([]))).collect();
        for (body, part) in [
            (domains, "10 domains"),
            (json!({"a.test": [{}, {}]}), "more than one rule"),
            (json!({"a.test": [{}], "A.test": [{}]}), "more than one rule"),
            (json!({"a.test": headers(many(21, |n| format!("x-{n}")))}), "20 headers"),
            (json!({"a.test": headers(json!({"x": "v".repeat(2_049)}))}), "2048"),
            (json!({"a.test": headers(json!({"x".repeat(65): "v"}))}), "header"),
            (json!({"a.test": headers(json!({"X": "v", "x": "w"}))}), "twice"),
            (json!({"a.test": headers(json!({"Host": "v"}))}), "Host"),
            (json!({"a.test": headers(json!({"x": "a\r\nb"}))}), "characters"),
            (json!({"a.test": headers(json!({"x": "${e2b.secrets.a b}"}))}), "secret"),
            (json!({"a.test": headers(json!({"x": "${e2b.secrets.a"}))}), "no '}'"),
            (json!({"a.test": headers(json!({"x": "${e2b.other.a}"}))}), "${e2b.other.a}"),
            (json!({"*": headers(json!({"x": "v"}))}), "internet"),
            (json!({"1.2.3.4": headers(json!({"x": "v"}))}), "1.2.3.4"),
        ] {
            let error = parse(body.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
        parse(json!({"a.test": headers(many(20, |n| format!("x-{n}")))})).unwrap();
        let identity = json!({"a.test": headers(json!({"x": "${e2b.identity.tokens.aws}"}))});
        assert_eq!(parse(identity).unwrap_err(), NetworkError::Identity);
    }
}
