//! Where clients reach this server, for answers that carry a URL of it: where this request came in.

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

use crate::http::ApiError;

/// What a TLS proxy in front of us says about the client's side.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// `http://HOST` or `https://HOST`, as the client has reached us: HTTPS in domain mode below the
/// domain, and where a proxy in front of us says so. What a client makes up here comes back to
/// itself only.
pub(crate) fn base_url(
    uri: &Uri,
    headers: &HeaderMap,
    domain: Option<&str>,
) -> Result<String, ApiError> {
    // HTTP/2 has the host in the target, HTTP/1.1 in a header.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority: Option<Authority> = match (uri.authority(), host) {
        (Some(authority), _) => Some(authority.clone()),
        (None, host) => host.and_then(|host| host.parse().ok()),
    };
    let authority = authority
        .filter(|authority| !authority.as_str().contains('@'))
        .ok_or_else(|| ApiError::bad_request("the request does not say which host it is for"))?;
    let below = |domain: &str| {
        let name = domain.rsplit_once(':').map_or(domain, |(name, _port)| name);
        authority
            .host()
            .strip_suffix(name)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let told = headers.get(FORWARDED_PROTO).is_some_and(|proto| proto == "https");
    let scheme = if told || domain.is_some_and(below) { "https" } else { "http" };
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(headers: &[(&'static str, &'static str)], domain: Option<&str>) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        base_url(&Uri::from_static("/a"), &map, domain).ok()
    }

    #[test]
    fn http_2_has_the_host_in_its_target() {
        let uri = Uri::from_static("https://api.e2b.test:8443/a");
        let url = base_url(&uri, &HeaderMap::new(), Some("e2b.test:8443"));
        assert_eq!(url.ok().as_deref(), Some("https://api.e2b.test:8443"));
    }

    #[test]
    fn a_client_is_sent_where_it_came_in() {
        let plain = [("host", "127.0.0.1:3000")];
        assert_eq!(url(&plain, None).as_deref(), Some("http://127.0.0.1:3000"));
        let domain = Some("e2b.test:8443");
        assert_eq!(url(&plain, domain).as_deref(), Some("http://127.0.0.1:3000"));
        let tls = [("host", "api.e2b.test:8443")];
        assert_eq!(url(&tls, domain).as_deref(), Some("https://api.e2b.test:8443"));
        let proxied = [("host", "courier.example.com"), ("x-forwarded-proto", "https")];
        assert_eq!(url(&proxied, None).as_deref(), Some("https://courier.example.com"));
        assert_eq!(url(&[("host", "note2b.test")], domain).as_deref(), Some("http://note2b.test"));
        for odd in ["", "a b", "user@host", "host/path"] {
            assert_eq!(url(&[("host", odd)], None), None, "{odd}");
        }
        assert_eq!(url(&[], None), None);
    }
}
