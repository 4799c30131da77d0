//! Explanations and covering, as people read them.

use courier_types::egress::ExplainRequest;

use super::*;

fn ask(text: &str) -> ExplainRequest {
    serde_json::from_str(text).unwrap()
}

/// The steps of an explanation as `question verdict` lines, and whether it is allowed.
fn steps(policy: &Compiled, request: &str) -> (bool, Vec<String>) {
    let explanation = explain(policy, &ask(request)).unwrap();
    let line = |step: &courier_types::egress::ExplainStep| {
        format!("{} {}: {}", step.asked, step.verdict, step.reasons.join("; "))
    };
    (explanation.allowed, explanation.steps.iter().map(line).collect())
}

#[test]
fn an_explanation_tells_each_question_and_the_rule_that_decided() {
    let policy = compiled(&[
        r#"{"rules":[{"deny":"192.0.2.0/24"},{"allow":"api.a.test","methods":["GET"],"paths":["/v1/*"]}],
            "credentials":[{"host":"api.a.test","secret":"key","as":{"bearer":{}}}]}"#,
    ]);
    let rule = "rule 1 of the template: allow api.a.test, methods GET, paths /v1/*";
    let (allowed, lines) = steps(&policy, r#"{"host":"API.a.test.","path":"/v1/%78?q"}"#);
    assert!(allowed);
    assert_eq!(
        lines,
        [
            format!("may the name api.a.test be resolved? allow: {rule}"),
            format!("may a connection to api.a.test:443 be opened? inspect: {rule}"),
            format!("may TLS go to api.a.test:443, or is it opened? inspect: {rule}"),
            format!("may GET /v1/x go to api.a.test:443? allow: {rule}"),
        ]
    );
    let explanation = explain(&policy, &ask(r#"{"host":"api.a.test","path":"/v1/x"}"#)).unwrap();
    assert_eq!(explanation.credentials[0].as_str(), "key");
    let request = r#"{"host":"api.a.test","path":"/v2","method":"POST"}"#;
    let explanation = explain(&policy, &ask(request)).unwrap();
    assert!(!explanation.allowed && explanation.credentials.is_empty());
    assert_eq!(
        serde_json::to_string(&explanation.would_allow).unwrap(),
        r#"{"allow":"api.a.test","protocols":["https"],"methods":["POST"],"paths":["/v2"]}"#
    );
}

#[test]
fn an_explanation_ends_at_the_first_no() {
    let policy = compiled(&[r#"{"rules":[{"allow":"a.test"}]}"#]);
    let (allowed, lines) = steps(&policy, r#"{"host":"b.test"}"#);
    assert!(!allowed);
    let name =
        "may the name b.test be resolved? deny: no rule of the template matches the name b.test";
    assert_eq!(lines, [name]);
    let (allowed, lines) = steps(&policy, r#"{"host":"a.test","port":22,"protocol":"tcp"}"#);
    assert!(!allowed);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let (allowed, lines) = steps(&policy, r#"{"host":"8.8.8.8"}"#);
    assert!(!allowed);
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn the_rule_that_would_allow_does_when_it_stands_first() {
    for request in [
        r#"{"host":"b.test"}"#,
        r#"{"host":"b.test","protocol":"http"}"#,
        r#"{"host":"b.test","port":22,"protocol":"tcp"}"#,
        r#"{"host":"b.test","port":8443,"path":"/x"}"#,
        r#"{"host":"8.8.8.8","protocol":"http","path":"/x","method":"put"}"#,
        r#"{"host":"8.8.8.8","port":443}"#,
    ] {
        let mut policy = policy(r#"{"rules":[{"deny":"b.test"},{"deny":"internet"}]}"#);
        let compile = |policy: &Policy| {
            let layer = Layer { source: LayerSource::Sandbox, policy: policy.clone() };
            Compiled::new(&Layers(vec![layer])).unwrap()
        };
        let rule = explain(&compile(&policy), &ask(request)).unwrap().would_allow.unwrap();
        policy.rules.insert(0, rule);
        assert!(explain(&compile(&policy), &ask(request)).unwrap().allowed, "{request}");
    }
}

#[test]
fn what_cannot_be_asked_is_not_explained() {
    for request in [
        r#"{"host":"http://a.test"}"#,
        r#"{"host":"::1"}"#,
        r#"{"host":"a.test","port":0}"#,
        r#"{"host":"a.test","method":"GET /"}"#,
        r#"{"host":"a.test","path":"/../x"}"#,
        r#"{"host":"a.test","protocol":"tcp","path":"/"}"#,
    ] {
        assert!(explain(&Compiled::deny_all(), &ask(request)).is_err(), "{request}");
    }
}

#[track_caller]
fn uncovered(bound: &str, asked: &str) -> String {
    covers(&policy(bound), &policy(asked)).unwrap_err().to_string()
}

#[test]
fn what_is_narrower_is_covered() {
    let bound = r#"{"rules":[{"deny":"x.example.com"},{"allow":"*.example.com","ports":["1-1000","1001-9000"],"protocols":["tcp"]},
        {"allow":"10.0.0.0/8"},{"allow":"api.test","methods":["GET","PUT"]}],"tunnels":["db"],"presets":["npm"]}"#;
    for asked in [
        "{}",
        r#"{"rules":[{"allow":"a.example.com"}],"tunnels":["db"],"presets":["npm"]}"#,
        r#"{"rules":[{"allow":"a.example.com","ports":["900-1100"],"protocols":["tcp"]}]}"#,
        r#"{"rules":[{"deny":"x.example.com"},{"allow":"*.b.example.com"},{"allow":"*.example.com"}]}"#,
        r#"{"rules":[{"deny":"x.example.com"},{"allow":"10.1.0.0/16","ports":[5432]}]}"#,
        r#"{"rules":[{"allow":"api.test","methods":["PUT"],"paths":["/a"]}]}"#,
        r#"{"rules":[{"deny":"internet"}],"learn":true,"credentials":[{"host":"b.test","secret":"x","as":{"bearer":{}}}]}"#,
    ] {
        assert_eq!(covers(&policy(bound), &policy(asked)), Ok(()), "{asked}");
    }
}

#[test]
fn what_is_wider_is_named() {
    let bound = r#"{"rules":[{"deny":"x.example.com"},{"allow":"*.example.com"},{"allow":"api.test","paths":["/a/*"]}]}"#;
    for (asked, named) in [
        (
            r#"{"rules":[{"allow":"a.example.com"},{"allow":"evil.test"}]}"#,
            "rule 1 (allow evil.test)",
        ),
        (r#"{"rules":[{"allow":"example.com"}]}"#, "rule 0 (allow example.com)"),
        (r#"{"rules":[{"allow":"*.example.com"}]}"#, "(deny x.example.com)"),
        (r#"{"rules":[{"allow":"a.example.com","ports":[22],"protocols":["tcp"]}]}"#, "rule 0"),
        (r#"{"rules":[{"allow":"api.test"}]}"#, "rule 0"),
        (r#"{"rules":[{"allow":"api.test","paths":["/*"]}]}"#, "rule 0"),
        (r#"{"rules":[{"allow":"8.8.8.8"}]}"#, "rule 0 (allow 8.8.8.8)"),
        (r#"{"rules":[{"allow":"internet"}]}"#, "rule 0"),
        (r#"{"tunnels":["db"]}"#, "tunnel db"),
        (r#"{"presets":["npm"]}"#, "preset npm"),
    ] {
        let error = uncovered(bound, asked);
        assert!(error.contains(named), "{asked}: {error}");
    }
}

#[test]
fn a_network_that_the_bound_denies_must_be_denied_again() {
    let bound = r#"{"rules":[{"deny":"10.0.0.0/8"},{"allow":"internet"}]}"#;
    assert!(uncovered(bound, r#"{"rules":[{"allow":"a.test"}]}"#).contains("10.0.0.0/8"));
    let asked = r#"{"rules":[{"deny":"10.0.0.0/8"},{"allow":"a.test"}]}"#;
    assert_eq!(covers(&policy(bound), &policy(asked)), Ok(()));
}
