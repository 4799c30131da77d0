//! Who may come in: an access token in a header, or a signature over one file. Decided on the host;
//! the guest sees neither.

use courier_protocol::envd::signature::{Grant as SignedGrant, Operation, SignatureError, verify};
use courier_types::{AccessToken, Timestamp};
use http::{HeaderName, Request, StatusCode};

use super::path::Endpoint;
use super::query::{FilesQuery, QueryError};
use crate::Guard;

/// Header with a sandbox's access token.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-access-token");

/// Header with the token of a sandbox whose ports are not public.
pub(super) const TRAFFIC_HEADER: HeaderName = HeaderName::from_static("e2b-traffic-access-token");

/// Why a request to a port is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TrafficRefused {
    #[error(
        "Sandbox is secured with traffic access token. Token header '{TRAFFIC_HEADER}' is missing"
    )]
    Missing,
    #[error(
        "Sandbox is secured with traffic access token. Provided token in header '{TRAFFIC_HEADER}' is invalid"
    )]
    Invalid,
}

/// Decides on a request to a port of the user's own.
pub(super) fn check_traffic<B>(
    wanted: Option<&AccessToken>,
    request: &Request<B>,
) -> Result<(), TrafficRefused> {
    let Some(token) = wanted else { return Ok(()) };
    match header_matches(&TRAFFIC_HEADER, token, request) {
        Some(true) => Ok(()),
        Some(false) => Err(TrafficRefused::Invalid),
        None => Err(TrafficRefused::Missing),
    }
}

/// What a request was let in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// Everything.
    Full,
    /// Exactly this file, as exactly this user.
    Signed(FilesQuery),
}

/// Why a request is not let in. The texts are those that E2B's SDKs know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "unauthorized access, please provide a valid access token or method signing if supported"
    )]
    Token,
    #[error("access token present in header but does not match")]
    FileToken,
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("invalid Authorization header: use Basic with a user name")]
    User,
}

impl Refused {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Token | Self::FileToken | Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::Query(_) | Self::User => StatusCode::BAD_REQUEST,
        }
    }
}

/// Decides on one request.
pub(super) fn check<B>(
    guard: &Guard,
    endpoint: Endpoint,
    request: &Request<B>,
    now: Timestamp,
) -> Result<Grant, Refused> {
    let token = match guard {
        Guard::Open => return Ok(Grant::Full),
        Guard::Token(token) => token,
    };
    match (endpoint, header_matches(&TOKEN_HEADER, token, request)) {
        (Endpoint::Health, _) | (_, Some(true)) => Ok(Grant::Full),
        (Endpoint::ReadFile, None) => signed(token, Operation::Read, request, now),
        (Endpoint::WriteFile, None) => signed(token, Operation::Write, request, now),
        (Endpoint::ReadFile | Endpoint::WriteFile, Some(false)) => Err(Refused::FileToken),
        (Endpoint::Other, Some(false) | None) => Err(Refused::Token),
    }
}

/// Whether the token header is right; `None` where there is none or it is empty.
fn header_matches<B>(
    header: &HeaderName,
    token: &AccessToken,
    request: &Request<B>,
) -> Option<bool> {
    let mut values = request.headers().get_all(header).iter();
    let (first, second) = (values.next()?, values.next());
    match first.to_str() {
        Ok("") if second.is_none() => None,
        Ok(text) => Some(second.is_none() && token.matches(text)),
        Err(_bytes) => Some(false),
    }
}

fn signed<B>(
    token: &AccessToken,
    operation: Operation,
    request: &Request<B>,
    now: Timestamp,
) -> Result<Grant, Refused> {
    let query = FilesQuery::parse(request.uri().query().unwrap_or_default())?;
    let grant = SignedGrant {
        path: query.path.as_deref().unwrap_or_default(),
        operation,
        username: query.username.as_deref().unwrap_or_default(),
        expiration: query.expiration,
    };
    verify(token, &grant, query.signature.as_deref(), now)?;
    Ok(Grant::Signed(query))
}

#[cfg(test)]
mod tests {
    use courier_protocol::envd::signature::sign;

    use super::*;

    fn guard() -> Guard {
        Guard::Token(AccessToken::new("right".into()))
    }

    fn ask(uri: &str, token: &[&str]) -> Request<()> {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        for token in token {
            request.headers_mut().append(TOKEN_HEADER, token.parse().unwrap());
        }
        request
    }

    fn decide(endpoint: Endpoint, request: &Request<()>) -> Result<Grant, Refused> {
        check(&guard(), endpoint, request, Timestamp::from_micros(100_000_000))
    }

    #[test]
    fn only_the_right_token_opens_and_two_tokens_never_do() {
        for endpoint in [Endpoint::Other, Endpoint::ReadFile, Endpoint::WriteFile] {
            assert_eq!(decide(endpoint, &ask("/", &["right"])), Ok(Grant::Full));
            assert!(decide(endpoint, &ask("/", &["wrong"])).is_err());
            assert!(decide(endpoint, &ask("/", &["right", "right"])).is_err());
            assert!(decide(endpoint, &ask("/", &["", "right"])).is_err());
            assert!(decide(endpoint, &ask("/", &[])).is_err());
        }
        assert_eq!(decide(Endpoint::Health, &ask("/", &[])), Ok(Grant::Full));
    }

    #[test]
    fn a_port_that_is_not_public_wants_its_own_token() {
        let token = AccessToken::new("traffic".into());
        let ask = |values: &[&str]| {
            let mut request = Request::new(());
            for value in values {
                request.headers_mut().append(TRAFFIC_HEADER, value.parse().unwrap());
            }
            check_traffic(Some(&token), &request)
        };
        assert_eq!(ask(&["traffic"]), Ok(()));
        assert_eq!(ask(&[]), Err(TrafficRefused::Missing));
        assert_eq!(ask(&["wrong"]), Err(TrafficRefused::Invalid));
        assert_eq!(ask(&["traffic", "traffic"]), Err(TrafficRefused::Invalid));
        assert_eq!(check_traffic(None, &Request::new(())), Ok(()));
    }

    #[test]
    fn a_signature_opens_one_file_for_one_operation() {
        let token = AccessToken::new("right".into());
        let grant = SignedGrant {
            path: "a b",
            operation: Operation::Read,
            username: "user",
            expiration: Some(100),
        };
        let signature = sign(&token, &grant).replace('+', "%2B");
        let uri = |path: &str, expiration: i64| {
            format!(
                "/files?path={path}&username=user&signature={signature}&signature_expiration={expiration}"
            )
        };
        let good = ask(&uri("a+b", 100), &[]);
        assert!(matches!(decide(Endpoint::ReadFile, &good), Ok(Grant::Signed(_))));
        let invalid = Err(Refused::Signature(SignatureError::Invalid));
        assert_eq!(decide(Endpoint::WriteFile, &good), invalid);
        assert_eq!(decide(Endpoint::ReadFile, &ask(&uri("b", 100), &[])), invalid);
        assert_eq!(decide(Endpoint::ReadFile, &ask(&uri("a+b", 999), &[])), invalid);
        let missing = Err(Refused::Signature(SignatureError::Missing));
        assert_eq!(decide(Endpoint::ReadFile, &ask("/files?path=a", &[])), missing);
    }

    #[test]
    fn a_wrong_token_is_not_saved_by_a_right_signature() {
        let token = AccessToken::new("right".into());
        let grant =
            SignedGrant { path: "a", operation: Operation::Read, username: "", expiration: None };
        let signature = sign(&token, &grant).replace('+', "%2B");
        let request = ask(&format!("/files?path=a&signature={signature}"), &["wrong"]);
        assert_eq!(decide(Endpoint::ReadFile, &request), Err(Refused::FileToken));
    }
}
