//! Who one has to be: answers to a registry's `WWW-Authenticate` (RFC 9110, section 11; token
//! service: distribution specification, "Token Authentication Specification").
//!
//! A login goes to the registry itself and to the token service that it names, over https; and where
//! the registry is one without TLS, that the operator named, to that same host and port only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_protocol::node::RegistryLogin;
use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http_auth::parse_challenges;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

/// Most bytes of a token: what fits into a request's header anywhere.
const TOKEN_MAX: usize = 16 * 1024;

/// Why a registry's question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It wants a login, and there is none.
    #[error("it wants a login, or there is no such image")]
    LoginWanted,
    /// It does not take the login that there is.
    #[error("it does not take the login")]
    LoginRefused,
    /// A login that cannot be sent.
    #[error("a user name has no colon, and neither it nor the password has control characters")]
    Login,
    /// It does not say how one logs in, or in a way that is not supported.
    #[error("it wants a login of a kind that is not supported: only Basic and Bearer are")]
    Kind,
    /// Its token service is at an address that no login is sent to.
    #[error("its token service must not be asked: {why}")]
    Realm {
        /// Why.
        why: &'static str,
    },
    /// Its token service answers something else.
    #[error("its token service gives no token")]
    Token,
}

/// How a registry wants to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With user and password.
    Basic,
    /// With a token from there.
    Bearer {
        /// The token service, with the service's name in its query already.
        realm: Url,
    },
}

impl Challenge {
    /// The challenge of an answer, tokens first. `of` is the registry's address.
    pub(super) fn of(headers: &HeaderMap, of: &Url) -> Result<Self, AuthError> {
        let texts =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> =
            texts.filter_map(|text| parse_challenges(text).ok()).flatten().collect();
        let of_scheme = |scheme: &str| {
            challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
        };
        if let Some(bearer) = of_scheme("bearer") {
            let parameter = |name: &str| {
                let mut all = bearer.params.iter();
                all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_unescaped())
            };
            let realm = parameter("realm").ok_or(AuthError::Kind)?;
            let no_url = |_error| AuthError::Realm { why: "it is no absolute address" };
            let mut realm: Url = realm.parse().map_err(no_url)?;
            check_realm(&realm, of)?;
            if let Some(service) = parameter("service") {
                realm.query_pairs_mut().append_pair("service", &service);
            }
            return Ok(Self::Bearer { realm });
        }
        of_scheme("basic").map(|_basic| Self::Basic).ok_or(AuthError::Kind)
    }
}

/// Whether a login may go there.
fn check_realm(realm: &Url, of: &Url) -> Result<(), AuthError> {
    let refused = |why| Err(AuthError::Realm { why });
    if !realm.username().is_empty() || realm.password().is_some() {
        return refused("its address has a user in it");
    }
    match (of.scheme(), realm.scheme()) {
        ("https", "https") => Ok(()),
        // Who can change what a registry without TLS says must not lead its logins elsewhere.
        ("http", "http") if realm.origin() == of.origin() => Ok(()),
        ("http", _) => refused("the registry has no TLS, and it is elsewhere"),
        (_, _) => refused("it has no TLS"),
    }
}

/// `Authorization: Basic` (RFC 7617).
pub(super) fn basic(login: &RegistryLogin) -> Result<HeaderValue, AuthError> {
    let password = login.password.expose();
    let control = |byte: &u8| byte.is_ascii_control();
    let user = login.user.as_bytes();
    if user.contains(&b':') || user.iter().any(control) || password.iter().any(control) {
        return Err(AuthError::Login);
    }
    let pair = Zeroizing::new([user, b":", password].concat());
    let text = Zeroizing::new(STANDARD.encode(&*pair));
    authorization("Basic", &text).ok_or(AuthError::Login)
}

/// What a token service answers. Docker's specification has both names for the token.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// `Authorization: Bearer` (RFC 6750) of a token service's answer.
pub(super) fn bearer(answer: &[u8]) -> Result<HeaderValue, AuthError> {
    let answer: TokenAnswer =
        serde_json::from_slice(answer).map_err(|_never_shown| AuthError::Token)?;
    let token = answer.token.or(answer.access_token).map(Zeroizing::new).ok_or(AuthError::Token)?;
    let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || token.len() > TOKEN_MAX || !printable {
        return Err(AuthError::Token);
    }
    authorization("Bearer", &token).ok_or(AuthError::Token)
}

fn authorization(scheme: &str, text: &str) -> Option<HeaderValue> {
    let value = Zeroizing::new(format!("{scheme} {text}"));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use courier_types::egress::SecretValue;

    use super::*;

    fn challenge(text: &str, of: &str) -> Result<Challenge, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
        Challenge::of(&headers, &of.parse().unwrap())
    }

    #[test]
    fn a_token_is_asked_of_the_realm_for_the_service() {
        let text = r#"Basic realm="x", Bearer realm="https://auth.example/token?a=b",service="r s",scope="repository:a:push""#;
        let Ok(Challenge::Bearer { realm }) = challenge(text, "https://r.example/v2/") else {
            panic!("no bearer")
        };
        assert_eq!(realm.as_str(), "https://auth.example/token?a=b&service=r+s");
        assert_eq!(challenge("Basic realm=x", "https://r.example/").unwrap(), Challenge::Basic);
        for other in ["Negotiate", "", "Bearer service=\"x\"", "\"\u{7f}"] {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(other) {
                headers.insert(WWW_AUTHENTICATE, value);
            }
            let refused = Challenge::of(&headers, &"https://r.example/".parse().unwrap());
            assert!(matches!(refused, Err(AuthError::Kind)), "{other}");
        }
    }

    #[test]
    fn a_login_is_led_to_no_place_without_tls_and_to_none_by_whom_anybody_could_be() {
        let bearer = |realm: &str, of: &str| challenge(&format!("Bearer realm=\"{realm}\""), of);
        assert!(bearer("https://a.example/", "https://r.example/").is_ok());
        assert!(bearer("http://127.0.0.1:5000/token", "http://127.0.0.1:5000/v2/").is_ok());
        let refused = [
            ("http://r.example/", "https://r.example/"),
            ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/v2/"),
            ("https://a.example/", "http://127.0.0.1:5000/v2/"),
            ("https://u:p@a.example/", "https://r.example/"),
            ("file:///etc/passwd", "https://r.example/"),
            ("/token", "https://r.example/"),
        ];
        for (realm, of) in refused {
            assert!(matches!(bearer(realm, of), Err(AuthError::Realm { .. })), "{realm} {of}");
        }
    }

    #[test]
    fn a_login_and_a_token_are_sent_as_they_are_or_not_at_all() {
        let login = |user: &str, password: &str| RegistryLogin {
            user: user.to_owned(),
            password: SecretValue::new(password.into()),
        };
        let header = basic(&login("user", "pa:ss")).unwrap();
        assert_eq!(header, format!("Basic {}", STANDARD.encode("user:pa:ss")));
        assert!(header.is_sensitive());
        assert!(basic(&login("us:er", "pass")).is_err());
        assert!(basic(&login("user", "pa\r\nss")).is_err());
        assert_eq!(bearer(br#"{"token":"a.b"}"#).unwrap(), "Bearer a.b");
        assert_eq!(bearer(br#"{"access_token":"a","expires_in":1}"#).unwrap(), "Bearer a");
        let long = format!(r#"{{"token":"{}"}}"#, "t".repeat(TOKEN_MAX + 1));
        for wrong in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\r\nb"}"#, &long] {
            assert!(matches!(bearer(wrong.as_bytes()), Err(AuthError::Token)), "{wrong}");
        }
    }
}
