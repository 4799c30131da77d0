//! Which headers cross the fence. Both lists are short and closed: what is not on them stays out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_protocol::envd::connect;
use courier_protocol::node::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};

use super::auth::{Grant, Refused};

/// Most characters of a user name.
const USER_LIMIT_CHARS: usize = 256;

/// Prefix of headers that become a file's metadata.
const METADATA_PREFIX: &str = "x-metadata-";

/// What a guest may see of a request. Of `Authorization` only the user name is passed on.
const REQUEST_HEADERS: [HeaderName; 18] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::USER_AGENT,
    HeaderName::from_static(connect::TIMEOUT_HEADER),
    HeaderName::from_static(connect::KEEPALIVE_HEADER),
    HeaderName::from_static(connect::PROTOCOL_VERSION_HEADER),
    HeaderName::from_static("connect-accept-encoding"),
];

/// What a client may see of an answer.
const ANSWER_HEADERS: [HeaderName; 13] = [
    header::ACCEPT_RANGES,
    header::ALLOW,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::VARY,
    header::X_CONTENT_TYPE_OPTIONS,
    HeaderName::from_static("connect-content-encoding"),
];

/// Whether a browser asks for permission before a request from another origin.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Makes of a request what the guest may see.
pub(super) fn clean_request(
    request: Request<Body>,
    grant: &Grant,
) -> Result<Request<Body>, Refused> {
    let (parts, body) = request.into_parts();
    let mut clean = HeaderMap::new();
    for (name, value) in &parts.headers {
        if REQUEST_HEADERS.contains(name) || name.as_str().starts_with(METADATA_PREFIX) {
            clean.append(name.clone(), value.clone());
        }
    }
    let target = match grant {
        Grant::Full => {
            if let Some(user) = user(&parts.headers)? {
                clean.insert(header::AUTHORIZATION, user);
            }
            parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
        }
        // The user is part of what was signed.
        Grant::Signed(query) => format!("{}?{}", parts.uri.path(), query.for_guest()),
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() =
        Uri::try_from(target).expect("a path and query of an address are an address");
    *request.headers_mut() = clean;
    Ok(request)
}

/// The user that a request selects, as a Basic header without a password.
fn user(headers: &HeaderMap) -> Result<Option<HeaderValue>, Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_bytes| Refused::User)?;
    let Some((scheme, encoded)) = text.split_once(' ') else { return Err(Refused::User) };
    if !scheme.eq_ignore_ascii_case("basic") {
        // A bearer token or the like: not for the guest, and not meant to select a user.
        return Ok(None);
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_no_base64| Refused::User)?;
    let decoded = String::from_utf8(decoded).map_err(|_bytes| Refused::User)?;
    let name = decoded.split(':').next().unwrap_or_default();
    if values.next().is_some() || name.chars().count() > USER_LIMIT_CHARS {
        return Err(Refused::User);
    }
    let clean = format!("Basic {}", STANDARD.encode(format!("{name}:")));
    HeaderValue::try_from(clean).map(Some).map_err(|_bytes| Refused::User)
}

/// Makes of a guest's answer what a client may see.
pub(super) fn clean_answer(answer: Response<Body>) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let mut clean = Response::new(body);
    *clean.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        if ANSWER_HEADERS.contains(name) {
            clean.headers_mut().append(name.clone(), value.clone());
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Empty};

    use super::*;

    fn body() -> Body {
        Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync()
    }

    fn clean(headers: &[(&str, &str)], grant: &Grant) -> Result<HeaderMap, Refused> {
        let mut request = Request::builder().uri("/files?path=a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = clean_request(request.body(body()).unwrap(), grant)?;
        Ok(request.headers().clone())
    }

    #[test]
    fn tokens_cookies_and_the_proxys_own_headers_stay_outside() {
        let headers = clean(
            &[
                ("x-access-token", "secret"),
                ("x-api-key", "secret"),
                ("cookie", "secret"),
                ("authorization", "Bearer secret"),
                ("e2b-sandbox-id", "i"),
                ("x-forwarded-for", "10.0.0.1"),
                ("forwarded", "for=10.0.0.1"),
                ("connection", "keep-alive"),
                ("host", "outside"),
                ("content-type", "application/json"),
                ("x-metadata-k", "v"),
            ],
            &Grant::Full,
        )
        .unwrap();
        let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-metadata-k"]);
    }

    #[test]
    fn of_basic_authorization_only_the_user_name_goes_in() {
        let with_password = format!("Basic {}", STANDARD.encode("root:secret"));
        let headers = clean(&[("authorization", &with_password)], &Grant::Full).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("root:"));
        assert_eq!(headers[header::AUTHORIZATION], expected);
        let signed = Grant::Signed(crate::proxy::query::FilesQuery::default());
        let headers = clean(&[("authorization", &with_password)], &signed).unwrap();
        assert!(!headers.contains_key(header::AUTHORIZATION));
        for bad in ["Basic", "Basic ???", "Basic /w=="] {
            assert_eq!(clean(&[("authorization", bad)], &Grant::Full), Err(Refused::User));
        }
    }

    #[test]
    fn a_guests_cookies_and_redirects_reach_no_browser() {
        let answer = Response::builder()
            .header("set-cookie", "a=b; Domain=e2b.test")
            .header("location", "https://elsewhere")
            .header("access-control-allow-origin", "https://one")
            .header("content-type", "text/plain")
            .body(body())
            .unwrap();
        let clean = clean_answer(answer);
        let names: Vec<&str> = clean.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type"]);
    }
}
