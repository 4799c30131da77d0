//! What a request asks for: every way in which a server may read its method and path.
//!
//! Most requests have one reading. Some have two (an encoded slash, a header that overrides the
//! method or the path); such a request goes out only when the policy allows all of them.

use http::HeaderMap;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::guard::is_method;
use super::refusal::Refusal;
use crate::policy::path::{PathError, canonical};

/// Fields from which frameworks take another method.
pub(super) const METHOD_OVERRIDES: [&str; 3] =
    ["x-http-method-override", "x-http-method", "x-method-override"];
/// Fields from which frameworks take another path.
pub(super) const PATH_OVERRIDES: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// Most readings of one request: what its path, its method and one override of each give.
const READINGS_MAX: usize = 8;

/// One way to read a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// The method.
    pub(super) method: String,
    /// The path in canonical form.
    pub(super) path: String,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// All readings; the first is the plain one.
    pub(super) readings: Vec<Reading>,
    /// What is sent: the path that was judged, as the guest encoded it, and its query.
    pub(super) sent: PathAndQuery,
}

impl Target {
    /// Reads the method and the target of a request.
    ///
    /// # Errors
    /// Some server could read it in a way that cannot be judged.
    pub(super) fn of(parts: &Parts) -> Result<Self, Refusal> {
        let method = parts.method.as_str();
        if !is_method(method) {
            return Err(Refusal::malformed(
                "the method is not made of capital letters, or CONNECT",
            ));
        }
        let (path, query) = (parts.uri.path(), parts.uri.query());
        let of_server = method == "OPTIONS" && path == "*" && query.is_none();
        let plain = if of_server { vec![path.to_owned()] } else { readings_of(path)? };
        let paths = overridden(plain, &parts.headers)?;
        let methods = methods(method, &parts.headers)?;
        let readings: Vec<Reading> = paths
            .iter()
            .flat_map(|path| {
                methods.iter().map(|method| Reading { method: method.clone(), path: path.clone() })
            })
            .collect();
        if readings.len() > READINGS_MAX {
            return Err(Refusal::malformed(
                "the request overrides its own method or path too often",
            ));
        }
        Ok(Self { readings, sent: sent(path, query)? })
    }

    /// The plain reading.
    pub(super) fn plain(&self) -> (&str, &str) {
        self.readings.first().map_or(("", ""), |plain| (&plain.method, &plain.path))
    }
}

/// The canonical forms of a path: with its encoded slashes as they are, and read as slashes.
/// Package names in some indexes have such a slash, so it cannot just be refused.
fn readings_of(path: &str) -> Result<Vec<String>, Refusal> {
    let refused = |error: PathError| Refusal::malformed(error.to_string());
    match canonical(path) {
        Ok(path) => return Ok(vec![path]),
        Err(PathError::Encoded) => {}
        Err(error) => return Err(refused(error)),
    }
    let path = path.replace("%2f", "%2F");
    let decoded = canonical(&path.replace("%2F", "/")).map_err(refused)?;
    let mut kept = String::with_capacity(path.len());
    for (n, piece) in path.split("%2F").enumerate() {
        if n == 0 {
            kept.push_str(&canonical(piece).map_err(refused)?);
        } else {
            let piece = canonical(&format!("/{piece}")).map_err(refused)?;
            kept.push_str("%2F");
            kept.push_str(piece.strip_prefix('/').unwrap_or(&piece));
        }
    }
    Ok(vec![kept, decoded])
}

fn overridden(mut paths: Vec<String>, headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    for name in PATH_OVERRIDES {
        for value in headers.get_all(name) {
            let text = value.to_str().unwrap_or_default();
            let text = text.split_once('?').map_or(text, |(path, _)| path);
            for path in readings_of(text)? {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
    }
    Ok(paths)
}

fn methods(method: &str, headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let mut methods = vec![method.to_owned()];
    for name in METHOD_OVERRIDES {
        for value in headers.get_all(name) {
            let text = value.to_str().unwrap_or_default().to_ascii_uppercase();
            if !is_method(&text) {
                return Err(Refusal::malformed("the request overrides its method with none"));
            }
            if !methods.contains(&text) {
                methods.push(text);
            }
        }
    }
    Ok(methods)
}

/// The target in origin form. Only characters that RFC 3986 (section 6.2.2.2) calls unreserved are
/// decoded: to some servers `+` and `%2B` are two things.
fn sent(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'#';
    if query.is_some_and(|query| !query.bytes().all(plain)) {
        return Err(Refusal::malformed("the query has a character that must be percent-encoded"));
    }
    let mut text = decode_unreserved(path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    text.parse().map_err(|_invalid: http::uri::InvalidUri| {
        Refusal::malformed("the target has a character that must be percent-encoded")
    })
}

fn decode_unreserved(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for (n, piece) in path.split('%').enumerate() {
        let hex = piece.get(..2).filter(|_| n > 0);
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                text.push(char::from(byte));
                text.push_str(piece.get(2..).unwrap_or_default());
            }
            Some(_reserved) => {
                text.push('%');
                text.push_str(&hex.unwrap_or_default().to_ascii_uppercase());
                text.push_str(piece.get(2..).unwrap_or_default());
            }
            None => {
                if n > 0 {
                    text.push('%');
                }
                text.push_str(piece);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<Target, String> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Target::of(&parts).map_err(|refusal| refusal.why)
    }

    fn readings(target: &Target) -> Vec<String> {
        target.readings.iter().map(|one| format!("{} {}", one.method, one.path)).collect()
    }

    #[test]
    fn what_is_judged_is_what_is_sent() {
        for (target, judged, sent) in [
            ("/", "/", "/"),
            ("http://a.test", "/", "/"),
            ("/%61%2bb?q=%2e%2e/&x#f", "/a+b", "/a%2Bb?q=%2e%2e/&x"),
            ("/a%3bb", "/a;b", "/a%3Bb"),
            ("/%7euser/caf%c3%a9", "/~user/caf%C3%A9", "/~user/caf%C3%A9"),
        ] {
            let target = read("GET", target, &[]).unwrap();
            assert_eq!(readings(&target), [format!("GET {judged}")]);
            assert_eq!(target.sent.as_str(), sent);
            assert_eq!(canonical(target.sent.path()).as_deref(), Ok(judged));
        }
    }

    #[test]
    fn a_request_with_two_readings_has_both() {
        let scoped = read("GET", "/@scope%2fname", &[]).unwrap();
        assert_eq!(readings(&scoped), ["GET /@scope%2Fname", "GET /@scope/name"]);
        assert_eq!(scoped.sent.as_str(), "/@scope%2Fname");
        let method = read("POST", "/a", &[("X-HTTP-Method-Override", "delete")]).unwrap();
        assert_eq!(readings(&method), ["POST /a", "DELETE /a"]);
        let server = read("OPTIONS", "*", &[("X-HTTP-Method", "PUT")]).unwrap();
        assert_eq!(readings(&server), ["OPTIONS *", "PUT *"]);
        assert_eq!(server.sent.as_str(), "*");
        let path = read("GET", "/a", &[("X-Original-URL", "/admin?x"), ("X-Rewrite-URL", "/a")]);
        assert_eq!(readings(&path.unwrap()), ["GET /a", "GET /admin"]);
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        for (method, target, fields) in [
            ("get", "/", &[][..]),
            ("CONNECT", "/", &[]),
            ("GET", "/a/../b", &[]),
            ("GET", "/acme/..%2f..%2fadmin", &[]),
            ("GET", "/acme%2f..%2fadmin", &[]),
            ("GET", "/acme%2f%2fadmin", &[]),
            ("GET", "/%2fadmin", &[]),
            ("GET", "/a%5cb", &[]),
            ("GET", "/a%252fb", &[]),
            ("GET", "/a%2f%00", &[]),
            ("GET", "*", &[]),
            ("OPTIONS", "*", &[("x-original-url", "/../b")]),
            ("GET", "/a", &[("x-original-url", "/../b")]),
            ("GET", "/a", &[("x-original-url", "http://b.test/")]),
            ("POST", "/a", &[("x-http-method", "")]),
            ("POST", "/a", &[("x-http-method", "CONNECT")]),
        ] {
            assert!(read(method, target, fields).is_err(), "{method} {target} {fields:?}");
        }
    }
}
