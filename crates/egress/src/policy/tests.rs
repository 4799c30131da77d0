//! Policies as users write them, and what they decide.

use std::net::SocketAddrV4;

use courier_types::egress::{HostName, Layer, LayerSource, Layers, Policy};

use super::*;

mod explaining;
mod naive;
mod proposing;

fn policy(text: &str) -> Policy {
    serde_json::from_str(text).unwrap()
}

fn layers(policies: &[&str]) -> Layers {
    let sources = [LayerSource::Template, LayerSource::Sandbox];
    let layer = |(text, source): (&&str, LayerSource)| Layer { source, policy: policy(text) };
    Layers(policies.iter().zip(sources).map(layer).collect())
}

fn compiled(policies: &[&str]) -> Compiled {
    Compiled::new(&layers(policies)).unwrap()
}

fn names(text: &str) -> Vec<HostName> {
    text.split_whitespace().map(|name| name.parse().unwrap()).collect()
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// An address that no rule of these tests names.
const A: &str = "198.51.100.7";

#[track_caller]
fn name(policy: &Compiled, host: &str) -> Verdict {
    policy.decide(&Question::Name { host: &host.parse().unwrap() }).verdict
}

#[track_caller]
fn connection(policy: &Compiled, hosts: &str, address: &str) -> Verdict {
    let question = Question::Connection { address: at(address), names: &names(hosts) };
    policy.decide(&question).verdict
}

#[track_caller]
fn opaque(policy: &Compiled, hosts: &str, address: &str) -> Verdict {
    policy.decide(&Question::Opaque { address: at(address), names: &names(hosts) }).verdict
}

#[track_caller]
fn tls(policy: &Compiled, host: &str, port: u16) -> Verdict {
    let address = at(&format!("{A}:{port}"));
    policy.decide(&Question::Tls { address, host: names(host).first() }).verdict
}

#[track_caller]
fn get(policy: &Compiled, host: &str, path: &str) -> Verdict {
    request(policy, host, "GET", path).verdict
}

fn request<'p>(policy: &'p Compiled, host: &str, method: &str, path: &str) -> Decision<'p> {
    let (scheme, address) = (Scheme::Https, at(&format!("{A}:443")));
    policy.decide(&Question::Request { scheme, address, host: names(host).first(), method, path })
}

use Verdict::{Allow, Deny, Inspect};

#[test]
fn an_empty_policy_and_no_policy_allow_nothing() {
    for policy in [Compiled::deny_all(), compiled(&["{}"]), compiled(&[r#"{"rules":[]}"#])] {
        assert_eq!(name(&policy, "a.test"), Deny);
        assert_eq!(connection(&policy, "a.test", "198.51.100.7:443"), Deny);
        assert_eq!(opaque(&policy, "", "198.51.100.7:22"), Deny);
        assert_eq!(tls(&policy, "a.test", 443), Deny);
        assert_eq!(get(&policy, "a.test", "/"), Deny);
    }
}

#[test]
fn a_host_rule_allows_http_and_https_of_that_name_only() {
    let policy = compiled(&[r#"{"rules":[{"allow":"a.example.com"}]}"#]);
    assert_eq!(name(&policy, "a.example.com"), Allow);
    assert_eq!(connection(&policy, "a.example.com", "198.51.100.7:443"), Inspect);
    assert_eq!(connection(&policy, "a.example.com", "198.51.100.7:80"), Inspect);
    assert_eq!(tls(&policy, "a.example.com", 443), Allow);
    assert_eq!(get(&policy, "a.example.com", "/x"), Allow);
    for other in ["b.a.example.com", "example.com", "evil-a.example.com", "a.example.com.evil.test"]
    {
        assert_eq!(name(&policy, other), Deny, "{other}");
        assert_eq!(tls(&policy, other, 443), Deny, "{other}");
        assert_eq!(connection(&policy, other, "198.51.100.7:443"), Deny, "{other}");
    }
    // Not by address alone, not on another port, not with other bytes, not in clear on 443.
    assert_eq!(connection(&policy, "", "198.51.100.7:443"), Deny);
    assert_eq!(connection(&policy, "a.example.com", "198.51.100.7:22"), Deny);
    assert_eq!(opaque(&policy, "a.example.com", "198.51.100.7:443"), Deny);
    assert_eq!(tls(&policy, "a.example.com", 80), Deny);
    assert_eq!(tls(&policy, "", 443), Deny);
}

#[test]
fn a_wildcard_is_about_what_is_below_and_not_the_apex() {
    let policy = compiled(&[r#"{"rules":[{"allow":"*.example.com"}]}"#]);
    for (host, verdict) in [
        ("a.example.com", Allow),
        ("b.a.example.com", Allow),
        ("example.com", Deny),
        ("aexample.com", Deny),
    ] {
        assert_eq!(name(&policy, host), verdict, "{host}");
        assert_eq!(get(&policy, host, "/"), verdict, "{host}");
    }
}

#[test]
fn the_first_matching_rule_decides() {
    let policy = compiled(&[
        r#"{"rules":[{"deny":"x.example.com"},{"allow":"*.example.com"},{"deny":"y.example.com"},{"allow":"8.8.8.8","ports":[53]},{"deny":"8.8.8.0/24"},{"allow":"internet","protocols":["tcp"]}]}"#,
    ]);
    assert_eq!(get(&policy, "x.example.com", "/"), Deny);
    assert_eq!(get(&policy, "y.example.com", "/"), Allow);
    assert_eq!(opaque(&policy, "", "8.8.8.8:53"), Allow);
    assert_eq!(opaque(&policy, "", "8.8.8.8:54"), Deny);
    assert_eq!(opaque(&policy, "any.test", "8.8.8.9:53"), Deny);
    assert_eq!(opaque(&policy, "any.test", "9.9.9.9:53"), Allow);
}

#[test]
fn a_network_is_reached_by_address_and_never_gives_a_name() {
    let policy = compiled(&[r#"{"rules":[{"allow":"8.8.8.0/24"}]}"#]);
    assert_eq!(name(&policy, "dns.test"), Deny);
    assert_eq!(connection(&policy, "", "8.8.8.9:5432"), Allow);
    assert_eq!(connection(&policy, "", "8.8.8.9:443"), Inspect);
    assert_eq!(connection(&policy, "", "8.8.9.1:443"), Deny);
}

#[test]
fn opaque_bytes_go_at_once_where_nothing_is_to_be_seen() {
    let policy = compiled(&[
        r#"{"rules":[{"allow":"git.example.com","ports":[22,443],"protocols":["tcp"]}]}"#,
    ]);
    assert_eq!(connection(&policy, "git.example.com", "198.51.100.7:22"), Allow);
    assert_eq!(connection(&policy, "git.example.com", "198.51.100.7:443"), Inspect);
    assert_eq!(opaque(&policy, "git.example.com", "198.51.100.7:443"), Allow);
    assert_eq!(connection(&policy, "other.test", "198.51.100.7:22"), Deny);
}

#[test]
fn a_connection_is_looked_at_where_a_rule_of_names_comes_first() {
    let policy =
        compiled(&[r#"{"rules":[{"deny":"evil.test","ports":[8443]},{"allow":"internet"}]}"#]);
    assert_eq!(connection(&policy, "good.test evil.test", "198.51.100.7:8443"), Inspect);
    assert_eq!(connection(&policy, "good.test", "198.51.100.7:8443"), Allow);
    assert_eq!(tls(&policy, "evil.test", 8443), Deny);
    assert_eq!(tls(&policy, "good.test", 8443), Allow);
}

#[test]
fn a_name_that_shares_an_address_is_neither_a_way_nor_in_the_way() {
    let policy = compiled(&[
        r#"{"rules":[{"deny":"evil.test","protocols":["tcp"],"ports":[443]},{"allow":"good.test"}]}"#,
    ]);
    assert_eq!(connection(&policy, "evil.test good.test", "198.51.100.7:443"), Inspect);
    assert_eq!(connection(&policy, "evil.test", "198.51.100.7:443"), Deny);
    assert_eq!(tls(&policy, "good.test", 443), Allow);
    assert_eq!(tls(&policy, "evil.test", 443), Deny);
    assert_eq!(opaque(&policy, "good.test evil.test", "198.51.100.7:443"), Deny);
}

#[test]
fn rules_about_requests_open_tls_and_decide_each_request() {
    let policy = compiled(&[
        r#"{"rules":[{"allow":"api.example.com","methods":["GET"],"paths":["/repos/acme/*"]}]}"#,
    ]);
    assert_eq!(name(&policy, "api.example.com"), Allow);
    assert_eq!(tls(&policy, "api.example.com", 443), Inspect);
    assert_eq!(get(&policy, "api.example.com", "/repos/acme/x"), Allow);
    assert_eq!(get(&policy, "api.example.com", "/repos/acme"), Deny);
    assert_eq!(get(&policy, "api.example.com", "/repos/acme-evil/x"), Deny);
    assert_eq!(request(&policy, "api.example.com", "POST", "/repos/acme/x").verdict, Deny);
    assert_eq!(opaque(&policy, "api.example.com", "198.51.100.7:443"), Deny);
}

#[test]
fn a_denied_path_before_a_host_opens_and_one_before_nothing_denies() {
    let before_host =
        compiled(&[r#"{"rules":[{"deny":"a.test","paths":["/admin/*"]},{"allow":"a.test"}]}"#]);
    assert_eq!(tls(&before_host, "a.test", 443), Inspect);
    assert_eq!(get(&before_host, "a.test", "/admin/x"), Deny);
    assert_eq!(get(&before_host, "a.test", "/x"), Allow);
    let alone = compiled(&[r#"{"rules":[{"deny":"a.test","paths":["/admin/*"]}]}"#]);
    assert_eq!(tls(&alone, "a.test", 443), Deny);
    assert_eq!(name(&alone, "a.test"), Deny);
}

#[test]
fn a_name_is_not_resolved_when_everything_of_it_is_denied() {
    let policy = compiled(&[
        r#"{"rules":[{"deny":"a.test","ports":["1-443"],"protocols":["tcp"]},{"allow":"*.b.test"},{"allow":"a.test"}]}"#,
    ]);
    assert_eq!(name(&policy, "a.test"), Deny);
    let policy = compiled(&[r#"{"rules":[{"deny":"a.test"},{"allow":"internet"}]}"#]);
    assert_eq!(name(&policy, "a.test"), Deny, "a deny that says no more denies all of it");
    assert_eq!(connection(&policy, "a.test", "198.51.100.7:8443"), Deny);
    let policy = compiled(&[r#"{"rules":[{"deny":"a.test","ports":[443]},{"allow":"internet"}]}"#]);
    assert_eq!(name(&policy, "a.test"), Allow, "another port may be reached");
    let policy = compiled(&[r#"{"rules":[{"deny":"internet"},{"allow":"a.test"}]}"#]);
    assert_eq!(name(&policy, "a.test"), Deny);
}

#[test]
fn every_layer_must_allow() {
    let policy = compiled(&[
        r#"{"rules":[{"allow":"*.example.com"}],"tunnels":["db","queue"]}"#,
        r#"{"rules":[{"allow":"a.example.com"},{"allow":"evil.test"}],"tunnels":["db"],"learn":true}"#,
    ]);
    assert_eq!(get(&policy, "a.example.com", "/"), Allow);
    assert_eq!(get(&policy, "b.example.com", "/"), Deny);
    assert_eq!(get(&policy, "evil.test", "/"), Deny);
    assert_eq!(name(&policy, "evil.test"), Deny);
    assert!(policy.learns());
    assert!(policy.allows_tunnel(&"db".parse().unwrap()));
    assert!(!policy.allows_tunnel(&"queue".parse().unwrap()));
    assert!(!Compiled::deny_all().allows_tunnel(&"db".parse().unwrap()));
}

#[test]
fn credentials_grant_nothing_and_open_tls_where_they_are() {
    let policy = compiled(&[r#"{"rules":[{"allow":"a.test"},{"allow":"internet","ports":[9443]}],
            "credentials":[{"host":"a.test","secret":"one","as":{"bearer":{}},"paths":["/v1/*"]},
                           {"host":"b.test","secret":"two","as":{"bearer":{}}},
                           {"host":"a.test","ports":[9443],"secret":"three","as":{"bearer":{}}}]}"#]);
    assert_eq!(tls(&policy, "a.test", 443), Inspect);
    assert_eq!(tls(&policy, "b.test", 443), Deny);
    assert_eq!(connection(&policy, "a.test", "198.51.100.7:9443"), Inspect);
    assert_eq!(connection(&policy, "c.test", "198.51.100.7:9443"), Allow);
    let used = |decision: Decision<'_>| -> Vec<String> {
        let secrets = decision.credentials.iter().flat_map(|c| c.injection.secrets());
        secrets.map(ToString::to_string).collect()
    };
    assert_eq!(used(request(&policy, "a.test", "GET", "/v1/x")), ["one"]);
    assert!(used(request(&policy, "a.test", "GET", "/v2/x")).is_empty());
    assert!(used(request(&policy, "b.test", "GET", "/v1/x")).is_empty());
    let host = names("a.test");
    let in_clear = policy.decide(&Question::Request {
        scheme: Scheme::Http,
        address: at("198.51.100.7:80"),
        host: host.first(),
        method: "GET",
        path: "/v1/x",
    });
    assert_eq!(in_clear.verdict, Allow);
    assert!(in_clear.credentials.is_empty());
}

#[test]
fn a_reason_says_which_rule_of_which_layer() {
    let policy = compiled(&[
        r#"{"rules":[{"deny":"x.test"},{"allow":"*.example.com","ports":[443],"protocols":["https"],"paths":["/a/*"]}]}"#,
        r#"{"rules":[{"allow":"b.test"}]}"#,
    ]);
    let decision = request(&policy, "a.example.com", "GET", "/a/b");
    let texts: Vec<_> = decision.reasons.iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "rule 1 of the template: allow *.example.com, ports 443, protocols https, paths /a/*",
            "no rule of the sandbox matches a.example.com:443 (https) GET /a/b",
        ]
    );
    let nothing = Compiled::deny_all();
    let decision = nothing.decide(&Question::Name { host: &names("a.test")[0] });
    assert_eq!(decision.reasons[0].text, "there is no policy: nothing is allowed");
}

#[test]
fn what_can_never_be_reached_cannot_be_allowed() {
    for net in ["169.254.169.254", "127.0.0.0/8", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        let text = format!(r#"{{"rules":[{{"allow":"{net}"}}]}}"#);
        let error = Compiled::new(&layers(&[&text])).unwrap_err();
        assert!(error.to_string().contains("can never be reached"), "{error}");
        let text = format!(r#"{{"rules":[{{"deny":"{net}"}}]}}"#);
        assert!(Compiled::new(&layers(&[&text])).is_ok(), "{net}");
    }
    assert!(Compiled::new(&layers(&[r#"{"rules":[{"allow":"0.0.0.0/0"}]}"#])).is_ok());
    assert!(Compiled::new(&layers(&[r#"{"rules":[{"allow":"10.0.0.0/8"}]}"#])).is_ok());
}

#[test]
fn a_preset_must_have_been_resolved() {
    let error = Compiled::new(&layers(&[r#"{"presets":["pypi"]}"#])).unwrap_err();
    assert!(error.to_string().contains("\"pypi\""), "{error}");
}
