use std::net::Ipv4Addr;

use courier_types::egress::{Layer, LayerSource, Layers, Policy};

use super::*;

const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 443);

fn policy(text: &str) -> Compiled {
    let policy: Policy = serde_json::from_str(text).unwrap();
    Compiled::new(&Layers(vec![Layer { source: LayerSource::Sandbox, policy }])).unwrap()
}

fn hello(name: Option<&str>) -> Hello {
    let server_name = name.map(|name| name.parse().unwrap());
    Hello { server_name, alpn: Vec::new(), hides_name: false }
}

fn hidden(name: &str) -> Hello {
    Hello { hides_name: true, ..hello(Some(name)) }
}

/// What becomes of a hello to an address that was resolved as `good.test`: `pass`, `open`, or the
/// fence that refuses.
fn seen(rules: &str, hello: &Hello) -> String {
    let names = ["good.test".parse().unwrap()];
    match judge(&policy(rules), ADDRESS, &names, hello) {
        Ok(Course::Pass) => "pass".to_owned(),
        Ok(Course::Open(_)) => "open".to_owned(),
        Err(refusal) => refusal.fence,
    }
}

const GOOD: &str = r#"{"rules":[{"allow":"good.test"},{"allow":"other.test"}]}"#;
const BOUND: &str = r#"{"rules":[{"allow":"good.test","methods":["GET"]}]}"#;
const INTERNET: &str = r#"{"rules":[{"deny":"evil.test"},{"allow":"internet"}]}"#;
const NET: &str = r#"{"rules":[{"allow":"203.0.113.0/24"}]}"#;

#[test]
fn the_server_name_is_the_name_that_was_resolved_or_nothing_passes() {
    for (rules, name, what) in [
        (GOOD, Some("good.test"), "pass"),
        (GOOD, Some("evil.test"), "sni"),
        (GOOD, Some("other.test"), "sni"),
        (GOOD, Some("good.test.evil.test"), "sni"),
        (GOOD, None, "sni"),
        (BOUND, Some("good.test"), "open"),
        (BOUND, Some("evil.test"), "sni"),
        (BOUND, None, "sni"),
        (INTERNET, Some("good.test"), "pass"),
        (INTERNET, Some("unresolved.test"), "pass"),
        (INTERNET, Some("evil.test"), "sni"),
        (INTERNET, None, "pass"),
        (NET, Some("evil.test"), "pass"),
        (NET, None, "pass"),
        ("{}", Some("good.test"), "policy"),
        ("{}", Some("evil.test"), "sni"),
    ] {
        assert_eq!(seen(rules, &hello(name)), what, "{rules} {name:?}");
    }
}

#[test]
fn what_may_hide_a_name_passes_only_where_it_is_opened_or_no_name_matters() {
    let anything = r#"{"rules":[{"allow":"internet"}]}"#;
    for (rules, what) in [
        (GOOD, "ech"),
        (INTERNET, "ech"),
        (BOUND, "open"),
        (anything, "pass"),
        (NET, "pass"),
        ("{}", "policy"),
    ] {
        assert_eq!(seen(rules, &hidden("good.test")), what, "{rules}");
    }
}

#[test]
fn a_refusal_says_which_rule_decided() {
    let refusal = judge(
        &policy(INTERNET),
        ADDRESS,
        &["evil.test".parse().unwrap()],
        &hello(Some("evil.test")),
    );
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.fence, "policy");
    assert!(refusal.why.contains("evil.test"), "{}", refusal.why);
}
