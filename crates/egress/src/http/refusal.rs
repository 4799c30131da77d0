//! What the guest is told when a request does not go out. Nothing of the host is in it.

use bytes::Bytes;
use courier_types::SandboxId;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};

use super::body::ProxyBody;
use super::guard::Host;

/// Longest reason in a record or an answer, in characters: a path in it may be as long as a head.
const WHY_MAX: usize = 512;

/// The fence that refused, for programs.
const FENCE: HeaderName = HeaderName::from_static("courier-refusal");

/// A request that does not go out, or whose answer does not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The answer's status.
    pub(super) status: StatusCode,
    /// Which fence, as in the flow log.
    pub(super) fence: &'static str,
    /// What decided, for people.
    pub(super) why: String,
    /// The host to ask about, where the policy decided.
    host: Option<String>,
}

impl Refusal {
    /// A refusal by a fence.
    pub(super) fn new(status: StatusCode, fence: &'static str, why: impl Into<String>) -> Self {
        let why: String = why.into();
        Self { status, fence, why: why.chars().take(WHY_MAX).collect(), host: None }
    }

    /// The request can be read in two ways.
    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "framing", why)
    }

    /// The request is for another host than the connection.
    pub(super) fn misdirected(why: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "host", why)
    }

    /// The policy does not allow it.
    pub(super) fn policy(host: &Host, why: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::FORBIDDEN, "policy", why);
        Self { host: Some(host.to_string()), ..refusal }
    }

    /// The sandbox has no room for it now.
    pub(super) fn limit(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "limit", why)
    }

    /// The upstream's answer cannot be passed on.
    pub(super) fn answer(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "protocol", why)
    }

    /// The answer for the guest.
    pub(super) fn answer_to(&self, version: Version, sandbox: &SandboxId) -> Response<ProxyBody> {
        let mut text = format!("CodeCourier refused this request: {}.\n", self.why);
        if let Some(host) = &self.host {
            let hint = format!("See: courier egress explain {sandbox} {host}\n");
            text.push_str(&hint);
        }
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(FENCE, HeaderValue::from_static(self.fence));
        if version < Version::HTTP_2 && self.status == StatusCode::BAD_REQUEST {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
