//! Gives back everything that it was told, in the forms in which a secret could hide.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Channel};

use super::web::{Answer, Asked, headers, plain};

/// The request in a form:
///
/// | form | body |
/// |---|---|
/// | (none), `raw` | as text |
/// | `json` | as a JSON string |
/// | `json-escaped` | as a JSON string of `\u` escapes |
/// | `base64`, `base64url` | encoded, as a whole |
/// | `credential-base64` | only the value of `Authorization`, encoded |
/// | `percent`, `percent-all` | percent-encoded: what must be, or every byte |
/// | `gzip`, `deflate`, `zlib` | compressed, and marked so |
/// | `gzip-unmarked` | compressed, and not marked so |
/// | `chunked` | three bytes at a time |
/// | `header` | empty; `Authorization` comes back in a header |
/// | `location` | a redirect to where the credential stands in the query |
pub(super) fn answer(asked: &Asked, form: &str) -> Answer {
    let text = told(asked);
    match form {
        "" | "raw" => plain(StatusCode::OK, &text),
        "json" => plain(StatusCode::OK, &serde_json::json!({ "told": text }).to_string()),
        "json-escaped" => plain(StatusCode::OK, &escaped(&text)),
        "base64" => plain(StatusCode::OK, &STANDARD.encode(&text)),
        "base64url" => plain(StatusCode::OK, &URL_SAFE_NO_PAD.encode(&text)),
        "credential-base64" => plain(StatusCode::OK, &STANDARD.encode(credential(asked))),
        "percent" => plain(StatusCode::OK, &crate::sandbox::escape(&text)),
        "percent-all" => {
            let all: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            plain(StatusCode::OK, &all)
        }
        "gzip" | "deflate" | "zlib" | "gzip-unmarked" => compressed(&text, form),
        "chunked" => chunked(text),
        "header" => with_header(header::HeaderName::from_static("x-echo"), &credential(asked)),
        "location" => {
            let to = format!("http://denied.test/?stolen={}", credential(asked));
            let mut answer = with_header(header::LOCATION, &to);
            *answer.status_mut() = StatusCode::FOUND;
            answer
        }
        _unknown => plain(StatusCode::NOT_FOUND, "no such form"),
    }
}

/// The whole request as text.
fn told(asked: &Asked) -> String {
    let mut text = format!("{} {}\nhost: {}\n", asked.parts.method, asked.target(), asked.host);
    let others = headers(&asked.parts.headers).into_iter().filter(|(name, _v)| name != "host");
    for (name, value) in others {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&asked.body));
    text
}

fn credential(asked: &Asked) -> String {
    let value = asked.parts.headers.get(header::AUTHORIZATION);
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}

fn with_header(name: header::HeaderName, value: &str) -> Answer {
    let mut answer = plain(StatusCode::OK, "");
    match HeaderValue::from_str(value) {
        Ok(value) => drop(answer.headers_mut().insert(name, value)),
        Err(_no_value) => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    answer
}

fn compressed(text: &str, form: &str) -> Answer {
    let level = Compression::default();
    let bytes = match form {
        "deflate" => finish(DeflateEncoder::new(Vec::new(), level), text, DeflateEncoder::finish),
        "zlib" => finish(ZlibEncoder::new(Vec::new(), level), text, ZlibEncoder::finish),
        _gzip => finish(GzEncoder::new(Vec::new(), level), text, GzEncoder::finish),
    };
    let mut answer = Response::new(http_body_util::Full::new(Bytes::from(bytes)).boxed());
    let mark = match form {
        "gzip" => Some("gzip"),
        "deflate" | "zlib" => Some("deflate"),
        _unmarked => None,
    };
    if let Some(mark) = mark {
        answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(mark));
    }
    answer
}

fn finish<E: std::io::Write>(
    mut encoder: E,
    text: &str,
    end: fn(E) -> std::io::Result<Vec<u8>>,
) -> Vec<u8> {
    encoder.write_all(text.as_bytes()).expect("memory can be written to");
    end(encoder).expect("memory can be written to")
}

fn chunked(text: String) -> Answer {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for piece in text.into_bytes().chunks(3) {
            // A client that went away has enough.
            if sender.send_data(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    Response::new(body.boxed())
}
