//! Errors as a page, for people who look with a browser.

use courier_protocol::node::Body;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

/// Tells a navigation from what a page's own code asks for.
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The page needs nothing: no script, no image, no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A person, with a browser.
    Person,
    /// Code.
    Program,
}

impl Asker {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let navigates = headers.get(FETCH_MODE).is_none_or(|mode| mode == "navigate");
        let html = headers
            .get_all(header::ACCEPT)
            .iter()
            .any(|value| value.to_str().is_ok_and(|text| text.contains("text/html")));
        if reads && navigates && html { Self::Person } else { Self::Program }
    }

    /// An error as this asker can read it.
    pub(super) fn show(self, error: Response<Body>) -> Response<Body> {
        match self {
            Self::Program => error,
            Self::Person => page(error.status()),
        }
    }
}

/// The words for a status. Nothing that came from outside is in them.
fn page(status: StatusCode) -> Response<Body> {
    let (title, text) = match status {
        StatusCode::BAD_GATEWAY => (
            "Nothing answers here",
            "The sandbox does not run any more, or no server in it listens on this port yet. \
             Start the server, then load this page again.",
        ),
        StatusCode::FORBIDDEN => (
            "This port is not public",
            "Requests to it need the sandbox's traffic token, in the header \
             e2b-traffic-access-token.",
        ),
        StatusCode::GATEWAY_TIMEOUT => {
            ("The server did not answer", "It took the request and said nothing for too long.")
        }
        _other => ("This did not work", "The request could not be passed on to the sandbox."),
    };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{title}</title>\n<style>body{{font:1rem/1.5 \
         system-ui;max-width:36rem;margin:15vh auto;padding:0 1rem}}</style>\n<h1>{title}</h1>\n\
         <p>{text}</p>\n<p>{status}</p>\n</html>\n"
    );
    let body = Full::from(page).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
