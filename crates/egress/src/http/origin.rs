//! What the requests of one connection may be for: the names that were pinned for its address.

use std::net::SocketAddrV4;

use courier_types::egress::HostName;
use http::Uri;
use http::header::{HOST, HeaderMap};
use http::request::Parts;

use super::guard::{Authority, Host};
use super::refusal::Refusal;
use crate::policy::Scheme;

/// What is known about a connection before its first request.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// In clear or in opened TLS.
    pub(super) scheme: Scheme,
    /// Where the guest went, and so where we go.
    pub(super) address: SocketAddrV4,
    /// The names for which our own answers gave the address.
    pub(super) names: Vec<HostName>,
    /// The server name of the opened TLS.
    pub(super) server_name: Option<HostName>,
}

impl Origin {
    /// `http` or `https`.
    pub(super) const fn scheme_text(&self) -> &'static str {
        match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    const fn default_port(&self) -> u16 {
        match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// The host as it is sent on: with its port where that is not the scheme's own.
    pub(super) fn authority(&self, host: &Host) -> String {
        let port = self.address.port();
        if port == self.default_port() { host.to_string() } else { format!("{host}:{port}") }
    }

    /// Whom the request is for.
    ///
    /// # Errors
    /// The request does not say it in one way, or it is for somebody else than the connection.
    pub(super) fn host(&self, parts: &Parts) -> Result<Host, Refusal> {
        let named = named_authority(&parts.uri, &parts.headers)
            .ok_or_else(|| Refusal::malformed("the request does not name exactly one host"))?;
        let scheme = parts.uri.scheme_str().unwrap_or(self.scheme_text());
        if scheme != self.scheme_text() {
            return Err(Refusal::malformed("the request's scheme is not the connection's"));
        }
        if named.port.is_some_and(|port| port != self.address.port()) {
            return Err(Refusal::misdirected("the request names another port than was dialled"));
        }
        if self.is_mine(&named.host) {
            Ok(named.host)
        } else {
            let why = format!(
                "the request is for {}, but the connection was opened for another host",
                named.host
            );
            Err(Refusal::misdirected(why))
        }
    }

    /// In TLS only its server name; in clear any name that our answers gave the address for; the
    /// address itself where the guest named nothing else.
    fn is_mine(&self, host: &Host) -> bool {
        match (host, &self.server_name, self.scheme) {
            (Host::Name(name), Some(server_name), _) => name == server_name,
            (Host::Name(name), None, Scheme::Http) => self.names.contains(name),
            (Host::Name(_), None, Scheme::Https) | (Host::Address(_), Some(_), _) => false,
            (Host::Address(address), None, _) => address == self.address.ip(),
        }
    }
}

/// The one authority of a request: of its URI, of its `Host`, or of both where they agree.
fn named_authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return None;
    }
    let field = match first {
        Some(field) => Some(Authority::parse(field.to_str().ok()?)?),
        None => None,
    };
    let target = match uri.authority() {
        Some(target) => Some(Authority::parse(target.as_str())?),
        None => None,
    };
    match (target, field) {
        (Some(target), Some(field)) => (target.host == field.host).then_some(target),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn origin(scheme: Scheme, server_name: Option<&str>) -> Origin {
        Origin {
            scheme,
            address: "192.0.2.1:443".parse().unwrap(),
            names: vec!["a.test".parse().unwrap(), "b.test".parse().unwrap()],
            server_name: server_name.map(|name| name.parse().unwrap()),
        }
    }

    fn host(origin: &Origin, uri: &str, field: Option<&str>) -> Result<String, u16> {
        let mut request = Request::builder().uri(uri);
        if let Some(field) = field {
            request = request.header(HOST, field);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        origin.host(&parts).map(|host| host.to_string()).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn in_tls_only_the_server_name_is_answered_for() {
        let tls = origin(Scheme::Https, Some("a.test"));
        assert_eq!(host(&tls, "/", Some("A.test:443")), Ok("a.test".into()));
        assert_eq!(host(&tls, "https://a.test/", None), Ok("a.test".into()));
        assert_eq!(host(&tls, "https://a.test/", Some("a.test")), Ok("a.test".into()));
        assert_eq!(host(&tls, "https://b.test/", None), Err(421));
        assert_eq!(host(&tls, "/", Some("b.test")), Err(421));
        assert_eq!(host(&tls, "/", Some("192.0.2.1")), Err(421));
        assert_eq!(host(&tls, "https://a.test:444/", None), Err(421));
        assert_eq!(host(&tls, "https://a.test/", Some("b.test")), Err(400));
        assert_eq!(host(&tls, "http://a.test/", None), Err(400));
        assert_eq!(host(&tls, "/", None), Err(400));
    }

    #[test]
    fn in_clear_every_pinned_name_is_answered_for_and_the_address_itself() {
        let clear = origin(Scheme::Http, None);
        assert_eq!(host(&clear, "/", Some("b.test")), Ok("b.test".into()));
        assert_eq!(host(&clear, "/", Some("192.0.2.1:443")), Ok("192.0.2.1".into()));
        assert_eq!(host(&clear, "/", Some("192.0.2.2")), Err(421));
        assert_eq!(host(&clear, "/", Some("c.test")), Err(421));
    }
}
