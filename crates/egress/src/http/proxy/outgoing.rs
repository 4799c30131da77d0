//! Requests on their way out: the host and target that were judged are written into them.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::client::conn::TrySendError;

use super::super::body::{Content, ProxyBody};
use super::super::fields;
use super::super::guard::Host;
use super::super::origin::Origin;
use super::super::pool::{Freshness, Lease};
use super::super::refusal::Refusal;
use super::failure::Failure;

/// What no server may read otherwise than it was judged; on HTTP/2 with what the guard checks on
/// HTTP/1.
pub(super) fn check_fields(parts: &Parts) -> Result<(), Refusal> {
    let expects = parts.headers.get_all(EXPECT).iter();
    if expects.into_iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let why = "only Expect: 100-continue is understood";
        return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, "protocol", why));
    }
    if fields::has_lookalike(&parts.headers) {
        return Err(Refusal::malformed(
            "a field's name is that of a judged field with underscores",
        ));
    }
    if parts.version < Version::HTTP_2 {
        return Ok(());
    }
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let (length, second) = (lengths.next(), lengths.next());
    let is_number = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
    };
    if second.is_some() || length.is_some_and(|length| !is_number(length)) {
        return Err(Refusal::malformed("there is not exactly one decimal Content-Length"));
    }
    let has_content = length.is_some_and(|length| length.as_bytes().iter().any(|&b| b != b'0'));
    if has_content && content_of(parts) == Content::Forbidden {
        return Err(Refusal::malformed("a GET, HEAD or TRACE request has content"));
    }
    let refused = [TRANSFER_ENCODING, UPGRADE, CONNECTION];
    if refused.iter().any(|name| parts.headers.contains_key(name)) {
        return Err(Refusal::malformed("the request has fields that HTTP/2 does not know"));
    }
    Ok(())
}

/// Servers do not expect content of these (RFC 9110, sections 9.3.1, 9.3.2 and 9.3.8), and one that
/// does not read it takes it for the next request.
pub(super) fn content_of(parts: &Parts) -> Content {
    match parts.method {
        Method::GET | Method::HEAD | Method::TRACE => Content::Forbidden,
        _ => Content::Allowed,
    }
}

/// Where a request is sent.
pub(super) struct Outgoing<'a> {
    /// What the connection is to.
    pub(super) origin: &'a Origin,
    /// Whom the request is for.
    pub(super) host: &'a Host,
    /// The target that was judged.
    pub(super) sent: PathAndQuery,
    /// The guest takes trailers.
    pub(super) takes_trailers: bool,
}

impl Outgoing<'_> {
    /// Writes the host and the target that were judged into the head, in the way of the connection.
    pub(super) fn address(&self, parts: &mut Parts, lease: &Lease) -> Result<(), Refusal> {
        let authority = self.origin.authority(self.host);
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.sent.clone());
        parts.headers.remove(HOST);
        if lease.speaks_http2() {
            uri.scheme = self.origin.scheme_text().parse().ok();
            uri.authority = authority.parse().ok();
            parts.version = Version::HTTP_2;
            if self.takes_trailers {
                parts.headers.insert(TE, HeaderValue::from_static("trailers"));
            }
        } else {
            parts.version = Version::HTTP_11;
            fields::join_cookies(&mut parts.headers);
            let value = HeaderValue::from_str(&authority);
            let value = value.map_err(|_never| Refusal::malformed("the host is none"))?;
            parts.headers.insert(HOST, value);
        }
        let uri = Uri::from_parts(uri);
        parts.uri = uri.map_err(|_never| Refusal::malformed("the target is none"))?;
        Ok(())
    }
}

/// True for a request without content that changes nothing (RFC 9110, section 9.2.1).
pub(super) fn may_be_repeated(parts: &Parts, body: &ProxyBody) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS)
        && body.is_end_stream()
        && !parts.headers.contains_key(UPGRADE)
}

/// The request again, where it did not go out or can go out twice.
pub(super) fn repeatable(
    lease: &Lease,
    mut error: TrySendError<Request<ProxyBody>>,
    replay: Option<Parts>,
) -> Result<Option<(Parts, ProxyBody)>, Failure> {
    if lease.freshness() == Freshness::New {
        return Ok(None);
    }
    if let Some(unsent) = error.take_message() {
        return Ok(Some(unsent.into_parts()));
    }
    let empty = || Empty::new().map_err(|never| match never {}).boxed_unsync();
    Ok(replay.map(|parts| (parts, empty())))
}
