//! Which headers cross on the way to a user's server and back: all but those of one connection, those
//! that are secrets of the proxy, and those by which one sandbox could act on another.

use std::net::IpAddr;

use courier_protocol::node::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;

use super::super::{auth, route};
use super::upgrade::Upgrade;

/// Headers of one connection (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Headers that are for the proxy and not for a guest.
const OURS: [HeaderName; 4] =
    [auth::TOKEN_HEADER, auth::TRAFFIC_HEADER, route::SANDBOX_HEADER, route::PORT_HEADER];

/// Headers that may hold a key of the API.
const KEYED: [HeaderName; 2] = [HeaderName::from_static("x-api-key"), header::AUTHORIZATION];

/// What a key of the API begins with.
const KEY_PREFIX: &str = "e2b_";

/// What clients may not say of themselves.
const FORWARDED_PREFIX: &str = "x-forwarded-";
const FORWARDED: [HeaderName; 2] = [header::FORWARDED, HeaderName::from_static("x-real-ip")];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a guest may not say: the first clears the cookies of all sandboxes, the second leads clients
/// past this proxy, and the others have a web server before us open its own files.
const FORBIDDEN: [HeaderName; 4] = [
    HeaderName::from_static("clear-site-data"),
    header::ALT_SVC,
    HeaderName::from_static("x-sendfile"),
    HeaderName::from_static("x-lighttpd-send-file"),
];
const FORBIDDEN_PREFIX: &str = "x-accel-";

/// What stands for the port in a host that masks the real one.
const PORT_PLACEHOLDER: &str = "${PORT}";

/// How a request came in: an extension of requests, from whoever listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// Who is at the other end of the connection.
    pub peer: IpAddr,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

/// What is true of a request, whatever its headers say.
pub(super) struct Facts {
    via: Option<Via>,
    /// What the client asked for.
    host: Option<HeaderValue>,
    /// What the server is asked for instead.
    masked: Option<HeaderValue>,
}

impl Facts {
    pub(super) fn of(parts: &Parts, port: u16, mask: Option<&str>) -> Self {
        let host = match parts.uri.authority() {
            Some(authority) => HeaderValue::try_from(authority.as_str()).ok(),
            None => parts.headers.get(header::HOST).cloned(),
        };
        let masked = mask.map(|mask| mask.replace(PORT_PLACEHOLDER, &port.to_string()));
        let masked = masked.and_then(|host| HeaderValue::try_from(host).ok());
        Self { via: parts.extensions.get().copied(), host, masked }
    }

    /// The host's name, without its port.
    fn host_name(&self) -> Option<&str> {
        let host = self.host.as_ref()?.to_str().ok()?;
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) | None => host,
        };
        Some(name.trim_end_matches('.'))
    }
}

/// Whether a comma-separated header has a token, in any case.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|there| there.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn strip_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, &header::CONNECTION).filter_map(|name| name.parse().ok()).collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn remove_where(headers: &mut HeaderMap, mut goes: impl FnMut(&HeaderName) -> bool) {
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// What the server inside sees of a request.
pub(super) fn inward(
    mut headers: HeaderMap,
    facts: &Facts,
    upgrade: Option<&Upgrade>,
) -> HeaderMap {
    let trailers = has_token(&headers, &header::TE, "trailers");
    strip_connection(&mut headers);
    remove_where(&mut headers, |name| {
        OURS.contains(name)
            || FORWARDED.contains(name)
            || name.as_str().starts_with(FORWARDED_PREFIX)
            // Whoever reads the body here answers it.
            || *name == header::EXPECT
    });
    for name in KEYED {
        if headers.get_all(&name).iter().any(is_key) {
            headers.remove(name);
        }
    }
    join_cookies(&mut headers);
    tell(&mut headers, facts);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.protocol.clone());
    }
    headers
}

/// Writes down what is true.
fn tell(headers: &mut HeaderMap, facts: &Facts) {
    headers.remove(header::HOST);
    if let Some(via) = facts.via {
        let peer = HeaderValue::try_from(via.peer.to_canonical().to_string());
        headers.insert(FORWARDED_FOR, peer.expect("an address is plain text"));
        let proto = if via.encrypted { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if let Some(host) = &facts.host {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    if let Some(host) = facts.masked.as_ref().or(facts.host.as_ref()) {
        headers.insert(header::HOST, host.clone());
    }
}

/// True for a value with a key of the API in it: as a whole, or as a bearer token.
fn is_key(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.split_ascii_whitespace().any(|word| word.starts_with(KEY_PREFIX))
}

/// HTTP/2 may send cookies one by one, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// What the client sees of an answer.
pub(super) fn outward(mut headers: HeaderMap, facts: &Facts) -> HeaderMap {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // It says otherwise, and counts for nothing then (RFC 9112, section 6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_connection(&mut headers);
    remove_where(&mut headers, |name| {
        FORBIDDEN.contains(name) || name.as_str().starts_with(FORBIDDEN_PREFIX)
    });
    let cookies: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        if is_of_host(&cookie, facts.host_name()) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    headers
}

/// True for a cookie that no other host is sent: without a domain, or with the host's own name.
fn is_of_host(cookie: &HeaderValue, host: Option<&str>) -> bool {
    cookie.as_bytes().split(|byte| *byte == b';').skip(1).all(|attribute| {
        let mut parts = attribute.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        if !parts.next().unwrap_or_default().eq_ignore_ascii_case(b"domain") {
            return true;
        }
        let domain = parts.next().unwrap_or_default();
        let domain = domain.strip_prefix(b".").unwrap_or(domain);
        host.is_some_and(|host| domain.eq_ignore_ascii_case(host.as_bytes()))
    })
}

/// The head of an answer that changes the protocol.
pub(super) fn switching(answer: &mut Response<Incoming>, facts: &Facts) -> Response<Body> {
    let upgrade = answer.headers().get(header::UPGRADE).cloned();
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut head = Response::new(body);
    *head.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *head.headers_mut() = outward(std::mem::take(answer.headers_mut()), facts);
    head.headers_mut().remove(header::CONTENT_LENGTH);
    head.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(upgrade) = upgrade {
        head.headers_mut().insert(header::UPGRADE, upgrade);
    }
    head
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn facts(uri: &str, via: Option<Via>) -> (HeaderMap, Facts) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in [
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-forwarded-for", "10.0.0.1"),
            ("expect", "100-continue"),
        ] {
            request = request.header(name, value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(via) = via {
            parts.extensions.insert(via);
        }
        let facts = Facts::of(&parts, 8_080, None);
        (parts.headers, facts)
    }

    #[test]
    fn what_is_said_of_a_client_is_true_and_cookies_are_one_header() {
        let via = Via { peer: "::ffff:192.0.2.7".parse().unwrap(), encrypted: true };
        let (headers, facts) = facts("https://8080-i1.e2b.test:8443/", Some(via));
        let seen = inward(headers, &facts, None);
        let mut seen: Vec<String> = seen
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                "cookie: a=1; b=2",
                "host: 8080-i1.e2b.test:8443",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: 8080-i1.e2b.test:8443",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn a_cookie_is_kept_for_its_own_host_only() {
        let (_headers, facts) = facts("http://8080-i1.e2b.test/", None);
        for (cookie, kept) in [
            ("a=b", true),
            ("a=domain; Path=/; Secure", true),
            ("a=b; Domain=8080-i1.e2b.test", true),
            ("a=b; domain=.8080-I1.e2b.test ; Path=/", true),
            ("a=b; Domain=e2b.test", false),
            ("a=b;DOMAIN =\t.e2b.test", false),
            ("a=b; Domain=8080-i1.e2b.test; Domain=e2b.test", false),
            ("a=b; Domain", false),
        ] {
            let mut answer = HeaderMap::new();
            answer.insert(header::SET_COOKIE, HeaderValue::from_static(cookie));
            assert_eq!(!outward(answer, &facts).is_empty(), kept, "{cookie}");
        }
    }

    #[test]
    fn a_length_beside_chunks_counts_for_nothing() {
        let (_headers, facts) = facts("http://8080-i1.e2b.test/", None);
        let mut answer = HeaderMap::new();
        answer.insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
        answer.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        assert!(outward(answer, &facts).is_empty());
    }
}
