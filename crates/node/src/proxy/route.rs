//! Which sandbox and port a request is for: by host name `PORT-ID.DOMAIN`, or by headers. Pure; the
//! binary uses it to tell the data plane from the API on one port.

use http::{HeaderMap, HeaderName, Uri, header};

/// Header with the sandbox's id.
pub(super) const SANDBOX_HEADER: HeaderName = HeaderName::from_static("e2b-sandbox-id");

/// Header with the guest port.
pub(super) const PORT_HEADER: HeaderName = HeaderName::from_static("e2b-sandbox-port");

/// Most characters of an id that is looked up.
const ID_LIMIT_CHARS: usize = 64;

/// How requests are routed.
#[derive(Debug, Clone, Default)]
pub struct RouteConfig {
    /// Sandboxes are at `PORT-ID.DOMAIN`, the API is at `api.DOMAIN`. Without one, any domain will
    /// do. In lower case, without a port.
    pub domain: Option<String>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What should be a sandbox's id: `[a-z0-9]+`.
    pub sandbox: String,
    /// The guest port.
    pub port: u16,
}

/// What a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// For a sandbox.
    Sandbox(Route),
    /// Not for the data plane.
    NotDataPlane,
    /// For the data plane, and wrong: HTTP 400.
    Bad(BadRoute),
}

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRoute {
    /// One header without the other.
    #[error("headers E2b-Sandbox-Id and E2b-Sandbox-Port belong together: send both")]
    HalfHeaders,
    /// No port.
    #[error("invalid sandbox port: use a number from 1 to 65535")]
    Port,
    /// No id.
    #[error("invalid sandbox id: use letters a-z and digits")]
    Sandbox,
    /// A header that is there twice, or is no text.
    #[error("invalid host or sandbox header")]
    Header,
}

/// Finds out what a request is.
///
/// A host name of the form `PORT-ID.DOMAIN` decides. Otherwise the two headers do, on every host but
/// the API's own name.
#[must_use]
pub fn route(uri: &Uri, headers: &HeaderMap, config: &RouteConfig) -> Routing {
    let Ok(host) = host(uri, headers) else { return Routing::Bad(BadRoute::Header) };
    if let Some(label) = host.as_deref().and_then(|host| sandbox_label(host, config)) {
        return match label.split_once('-') {
            Some((port, id)) => decide(port, id),
            None => Routing::Bad(BadRoute::Sandbox),
        };
    }
    if host.is_some_and(|host| is_api(&host, config)) {
        return Routing::NotDataPlane;
    }
    match (single(headers, &SANDBOX_HEADER), single(headers, &PORT_HEADER)) {
        (Ok(None), Ok(None)) => Routing::NotDataPlane,
        (Ok(Some(id)), Ok(Some(port))) => decide(port, id),
        (Ok(Some(_)), Ok(None)) | (Ok(None), Ok(Some(_))) => Routing::Bad(BadRoute::HalfHeaders),
        (Err(bad), _) | (_, Err(bad)) => Routing::Bad(bad),
    }
}

/// The host's name in lower case, without its port: of the address itself (HTTP/2), else of the one
/// `Host` header.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, BadRoute> {
    let text = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => single(headers, &header::HOST)?,
    };
    Ok(text.map(|text| {
        let text = text.rsplit_once('@').map_or(text, |(_user, host)| host);
        let name = match text.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) | None => text,
        };
        name.trim_end_matches('.').to_ascii_lowercase()
    }))
}

/// The one value of a header, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, BadRoute> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(|text| Some(text.trim())).map_err(|_bytes| BadRoute::Header)
        }
        (Some(_), Some(_)) => Err(BadRoute::Header),
    }
}

/// The first label of a host name that is for the data plane: below the domain, digits and a dash.
fn sandbox_label<'a>(host: &'a str, config: &RouteConfig) -> Option<&'a str> {
    let (label, rest) = host.split_once('.')?;
    let below = config.domain.as_ref().is_none_or(|domain| rest == domain);
    let (port, _id) = label.split_once('-')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (below && is_port).then_some(label)
}

fn is_api(host: &str, config: &RouteConfig) -> bool {
    let Some(domain) = &config.domain else { return false };
    host.strip_prefix("api.").is_some_and(|rest| rest == domain)
}

/// Checks port and id; older clients add `-CLIENT` to the id.
fn decide(port: &str, id: &str) -> Routing {
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 && digits => port,
        Ok(_) | Err(_) => return Routing::Bad(BadRoute::Port),
    };
    let id = id.split('-').next().unwrap_or_default();
    let good = !id.is_empty()
        && id.len() <= ID_LIMIT_CHARS
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if good {
        Routing::Sandbox(Route { sandbox: id.to_owned(), port })
    } else {
        Routing::Bad(BadRoute::Sandbox)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "i0123456789abcdefghij";

    fn at(host: &str, headers: &[(&str, &str)], domain: Option<&str>) -> Routing {
        let mut map = HeaderMap::new();
        if !host.is_empty() {
            map.append(header::HOST, host.parse().unwrap());
        }
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let config = RouteConfig { domain: domain.map(str::to_owned) };
        route(&Uri::from_static("/health"), &map, &config)
    }

    fn to(port: u16) -> Routing {
        Routing::Sandbox(Route { sandbox: ID.to_owned(), port })
    }

    #[test]
    fn a_host_name_of_port_and_id_is_for_the_sandbox_whatever_its_case_and_port() {
        let domain = Some("e2b.test");
        assert_eq!(at(&format!("49983-{ID}.e2b.test"), &[], domain), to(49_983));
        assert_eq!(at(&format!("49983-{ID}.E2B.Test:8443"), &[], domain), to(49_983));
        assert_eq!(at(&format!("3000-{ID}-client.e2b.test"), &[], domain), to(3_000));
        assert_eq!(at(&format!("3000-{ID}.any.where"), &[], None), to(3_000));
        assert_eq!(at(&format!("3000-{ID}.any.where"), &[], domain), Routing::NotDataPlane);
        assert_eq!(at("api.e2b.test", &[], domain), Routing::NotDataPlane);
    }

    #[test]
    fn two_headers_route_on_any_host_but_the_apis() {
        let both = [("e2b-sandbox-id", ID), ("e2b-sandbox-port", "49983")];
        for host in ["127.0.0.1:3000", "localhost", "sandbox.e2b.test", "[::1]:3000", ""] {
            assert_eq!(at(host, &both, Some("e2b.test")), to(49_983), "{host}");
            assert_eq!(at(host, &[], Some("e2b.test")), Routing::NotDataPlane, "{host}");
        }
        assert_eq!(at("api.e2b.test", &both, Some("e2b.test")), Routing::NotDataPlane);
    }

    #[test]
    fn half_of_the_headers_or_a_wrong_value_is_a_bad_request() {
        let bad = |headers: &[(&str, &str)], expected| {
            assert_eq!(at("localhost", headers, None), Routing::Bad(expected), "{headers:?}");
        };
        bad(&[("e2b-sandbox-id", ID)], BadRoute::HalfHeaders);
        bad(&[("e2b-sandbox-port", "1")], BadRoute::HalfHeaders);
        for port in ["0", "65536", "-1", "+1", "", "x"] {
            bad(&[("e2b-sandbox-id", ID), ("e2b-sandbox-port", port)], BadRoute::Port);
        }
        for id in ["", "..", "I0", "a_b"] {
            bad(&[("e2b-sandbox-id", id), ("e2b-sandbox-port", "1")], BadRoute::Sandbox);
        }
        let twice = [("e2b-sandbox-id", ID), ("e2b-sandbox-id", ID), ("e2b-sandbox-port", "1")];
        bad(&twice, BadRoute::Header);
    }

    #[test]
    fn the_host_name_wins_over_the_headers() {
        let other = [("e2b-sandbox-id", "other"), ("e2b-sandbox-port", "1")];
        assert_eq!(at(&format!("49983-{ID}.e2b.test"), &other, None), to(49_983));
    }

    proptest! {
        #[test]
        fn whatever_is_routed_has_an_id_without_tricks(host in "[0-9a-zA-Z.:@-]{0,40}") {
            if let Routing::Sandbox(route) = at(&host, &[], None) {
                prop_assert!(route.port > 0);
                prop_assert!(route.sandbox.bytes().all(|b| b.is_ascii_alphanumeric()));
            }
        }
    }
}
