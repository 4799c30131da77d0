//! What is added to requests, and which requests stay inside.

use std::collections::HashMap;

use async_trait::async_trait;
use courier_types::egress::GuestToken;
use http::Request;

use super::*;

/// A source with these secrets, and these tokens for some of them.
#[derive(Debug, Default)]
struct Source {
    secrets: HashMap<&'static str, &'static str>,
    tokens: HashMap<String, &'static str>,
}

#[async_trait]
impl CredentialSource for Source {
    async fn secret(
        &self,
        _sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SourceError> {
        match self.secrets.get(name.as_str()) {
            Some(value) => Ok(SecretValue::new(value.as_bytes().to_vec())),
            None => Err(SourceError::NoSecret { name: name.clone() }),
        }
    }

    async fn token(
        &self,
        sandbox: &SandboxId,
        token: &str,
    ) -> Result<(SecretName, SecretValue), SourceError> {
        let name = self.tokens.get(token).ok_or(SourceError::NoToken)?.parse().unwrap();
        let value = self.secret(sandbox, &name).await?;
        Ok((name, value))
    }
}

const KEY: &str = "sk-live/0123456789+abcdef";

fn token(n: u8) -> String {
    GuestToken::from_random([n; 32]).expose().to_owned()
}

fn broker() -> Broker {
    let secrets = HashMap::from([("openai", KEY), ("gh", "ghp_0123456789"), ("bad", "a\nb")]);
    let tokens = HashMap::from([(token(1), "openai"), (token(2), "gh"), (token(3), "bad")]);
    Broker::new(Arc::new(Source { secrets, tokens }), SandboxId::from_random([7; 20]))
}

fn credential(text: &str) -> Credential {
    serde_json::from_str(&format!(r#"{{"host":"a.test",{text}}}"#)).unwrap()
}

fn parts(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri("https://a.test/v1/x?y=1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn values<'p>(parts: &'p Parts, name: &str) -> Vec<&'p str> {
    parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_credential_takes_the_place_of_the_guests_own_header() {
    let bearer = credential(r#""secret":"openai","as":{"bearer":{}}"#);
    let mut parts = parts(&[
        ("authorization", "Bearer guest"),
        ("authorization", "Basic Z3Vlc3Q6"),
        ("proxy-authorization", "Bearer guest"),
        ("cookie", "a=b"),
        ("accept-encoding", "gzip, br"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("range", "bytes=3-9"),
    ]);
    let applied = broker().apply(&[&bearer], &mut parts).await.unwrap();
    assert_eq!(values(&parts, "authorization"), [format!("Bearer {KEY}")]);
    assert!(parts.headers["authorization"].is_sensitive());
    assert_eq!(values(&parts, "accept-encoding"), ["identity"]);
    assert_eq!(values(&parts, "cookie"), ["a=b"]);
    for gone in ["proxy-authorization", "sec-websocket-extensions", "range"] {
        assert!(values(&parts, gone).is_empty(), "{gone}");
    }
    assert_eq!(applied.secrets.iter().map(SecretName::as_str).collect::<Vec<_>>(), ["openai"]);
    assert!(applied.redactor.is_some());
}

#[tokio::test]
async fn basic_and_header_credentials_are_built_from_their_secrets() {
    let basic = credential(r#""secret":"gh","as":{"basic":{"username":"x"}}"#);
    let header = credential(
        r#""as":{"header":{"name":"X-Key","value":"k=${secrets.openai}; g=${secrets.gh}"}}"#,
    );
    let literal = credential(r#""as":{"header":{"name":"X-Team","value":"blue"}}"#);
    let mut parts = parts(&[("x-key", "guest"), ("x_key", "guest"), ("x-team", "red")]);
    let applied = broker().apply(&[&basic, &header, &literal], &mut parts).await.unwrap();
    assert_eq!(values(&parts, "authorization"), ["Basic eDpnaHBfMDEyMzQ1Njc4OQ=="]);
    assert_eq!(values(&parts, "x-key"), [format!("k={KEY}; g=ghp_0123456789")]);
    assert_eq!(values(&parts, "x-team"), ["blue"]);
    assert!(values(&parts, "x_key").is_empty(), "some servers read it as x-key");
    assert_eq!(applied.secrets.len(), 2);
    let mut headers = http::HeaderMap::new();
    for value in ["Basic eDpnaHBfMDEyMzQ1Njc4OQ==", "x:ghp_0123456789", KEY] {
        headers.append("x-echo", value.parse().unwrap());
    }
    applied.redactor.unwrap().headers(&mut headers);
    let echoed: Vec<_> = headers.get_all("x-echo").iter().collect();
    assert_eq!(echoed, ["Basic [redacted]==", "[redacted]", "[redacted]"]);
}

#[tokio::test]
async fn of_two_credentials_for_one_header_the_first_is_added() {
    let first = credential(r#""secret":"gh","as":{"bearer":{}}"#);
    let second = credential(
        r#""as":{"header":{"name":"Authorization","value":"Bearer ${secrets.openai}"}}"#,
    );
    let mut parts = parts(&[]);
    let applied = broker().apply(&[&first, &second], &mut parts).await.unwrap();
    assert_eq!(values(&parts, "authorization"), ["Bearer ghp_0123456789"]);
    assert_eq!(applied.secrets.iter().map(SecretName::as_str).collect::<Vec<_>>(), ["gh"]);
}

#[tokio::test]
async fn without_a_secret_nothing_changes_and_nothing_is_looked_for() {
    let mut parts = parts(&[("authorization", "Bearer guest"), ("accept-encoding", "gzip")]);
    let applied = broker().apply(&[], &mut parts).await.unwrap();
    assert_eq!(values(&parts, "authorization"), ["Bearer guest"]);
    assert_eq!(values(&parts, "accept-encoding"), ["gzip"]);
    assert!(applied.redactor.is_none() && applied.secrets.is_empty());
}

#[tokio::test]
async fn a_secret_that_cannot_be_added_keeps_the_request_inside() {
    let gone = credential(r#""secret":"gone","as":{"bearer":{}}"#);
    let error = broker().apply(&[&gone], &mut parts(&[])).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Secret { name, .. } if name.as_str() == "gone"));
    for text in [
        r#""secret":"bad","as":{"bearer":{}}"#,
        r#""as":{"header":{"name":"x","value":"${secrets.bad}"}}"#,
    ] {
        let error = broker().apply(&[&credential(text)], &mut parts(&[])).await.unwrap_err();
        assert!(matches!(&error, BrokerError::Value { name } if name.as_str() == "bad"), "{error}");
        assert!(!format!("{error} {error:?}").contains("a\nb"));
    }
}

#[tokio::test]
async fn a_token_is_exchanged_in_headers_and_basic_credentials() {
    let openai = credential(r#""secret":"openai","as":{"placeholder":{}}"#);
    let gh = credential(r#""secret":"gh","as":{"placeholder":{}}"#);
    let basic = format!("bAsIc {}", base64_of(&format!("me:{}", token(2))));
    let mut parts = parts(&[
        ("x-key", &format!("a {} b", token(1))),
        ("x-key", "untouched"),
        ("authorization", &basic),
    ]);
    let applied = broker().apply(&[&openai, &gh], &mut parts).await.unwrap();
    assert_eq!(values(&parts, "x-key"), [format!("a {KEY} b"), "untouched".to_owned()]);
    let expected = format!("Basic {}", base64_of("me:ghp_0123456789"));
    assert_eq!(values(&parts, "authorization"), [expected]);
    assert!(parts.headers["authorization"].is_sensitive());
    assert_eq!(applied.secrets.len(), 2);
    assert!(!Broker::carries_token(&parts));
}

fn base64_of(text: &str) -> String {
    let mut out = Vec::new();
    tokens::write_basic(text.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()["Basic ".len()..].to_owned()
}

#[tokio::test]
async fn a_token_goes_nowhere_but_to_its_own_host() {
    let openai = credential(r#""secret":"openai","as":{"placeholder":{}}"#);
    let bearer = credential(r#""secret":"openai","as":{"bearer":{}}"#);
    let header = |value: &str| parts(&[("x-key", value)]);
    let cases = [
        // None takes tokens; another's; one that adds the same secret otherwise.
        (vec![], header(&token(1))),
        (vec![&openai], header(&token(2))),
        (vec![&bearer], header(&token(1))),
    ];
    for (credentials, mut parts) in cases {
        let error = broker().apply(&credentials, &mut parts).await.unwrap_err();
        assert!(matches!(error, BrokerError::TokenMisplaced), "{error}");
    }
    let error = broker().apply(&[&openai], &mut header(&token(9))).await.unwrap_err();
    assert!(matches!(error, BrokerError::Token(SourceError::NoToken)), "{error}");
    let bad = credential(r#""secret":"bad","as":{"placeholder":{}}"#);
    let error = broker().apply(&[&bad], &mut header(&token(3))).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Value { name } if name.as_str() == "bad"), "{error}");
    let many = (0..9).map(token).collect::<Vec<_>>().join(" ");
    let error = broker().apply(&[&openai], &mut header(&many)).await.unwrap_err();
    assert!(matches!(error, BrokerError::TooManyTokens), "{error}");
}

#[tokio::test]
async fn a_token_goes_into_no_field_that_a_server_keeps_with_an_object() {
    let openai = credential(r#""secret":"openai","as":{"placeholder":{}}"#);
    for name in ["content-type", "x-amz-meta-note", "user-agent", "if-none-match", "origin"] {
        let mut parts = parts(&[(name, &token(1))]);
        let error = broker().apply(&[&openai], &mut parts).await.unwrap_err();
        assert!(matches!(error, BrokerError::TokenMisplaced), "{name}: {error}");
    }
    for name in ["x-api-key", "api-key", "private-token", "cookie", "x-goog-api-key"] {
        let mut parts = parts(&[(name, &token(1))]);
        broker().apply(&[&openai], &mut parts).await.unwrap();
        assert_eq!(values(&parts, name), [KEY], "{name}");
    }
}

#[tokio::test]
async fn a_token_in_the_target_goes_nowhere() {
    let openai = credential(r#""secret":"openai","as":{"placeholder":{}}"#);
    let token = token(1);
    for target in [
        format!("/v1/{token}"),
        format!("/v1?key={token}"),
        format!("/v1?key={}", token.replacen('c', "%63", 1)),
    ] {
        let mut parts = parts(&[]);
        parts.uri = format!("https://a.test{target}").parse().unwrap();
        assert!(Broker::carries_token(&parts), "{target}");
        let error = broker().apply(&[&openai], &mut parts).await.unwrap_err();
        assert!(matches!(error, BrokerError::TokenMisplaced), "{error}");
    }
}

#[test]
fn a_token_anywhere_in_the_head_is_seen() {
    let token = token(1);
    let basic = format!("Basic {}", base64_of(&format!("{token}:")));
    for (name, value, seen) in [
        ("x", token.as_str(), true),
        ("cookie", &format!("a={token}; b=c"), true),
        ("authorization", &basic, true),
        ("authorization", basic.trim_end_matches('='), true),
        ("proxy-authorization", &basic, true),
        ("authorization", "Basic !", false),
        ("x", &token[..40], false),
    ] {
        assert_eq!(Broker::carries_token(&parts(&[(name, value)])), seen, "{name}: {value}");
    }
}

#[tokio::test]
async fn what_is_printed_has_no_value() {
    let bearer = credential(r#""secret":"openai","as":{"bearer":{}}"#);
    let mut parts = parts(&[]);
    let applied = broker().apply(&[&bearer], &mut parts).await.unwrap();
    assert!(!format!("{applied:?} {parts:?}").contains("sk-live"));
}
