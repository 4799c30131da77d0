//! A guest whose commands and layers are played: what a command line says is what happens.
//!
//! `ok`, `serve` (runs on), `fail` (writes a line, exits with 3), `unknown user`, `third` (exits with 0
//! the third time, with 1 before), `show` (writes who it is), `touch NAME` (changes that file); what
//! follows the word makes a command line the test's own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use courier_archive::{EntryPath, Header, Kind, Writer};
use courier_protocol::envd::build::{
    ALL_PATH, Account, CHANGES_PATH, MARK_PATH, PROVISION_PATH, Provisioned, UNPACK_PATH,
    USERS_PATH, Unpack, Unpacked,
};
use courier_protocol::envd::connect::{
    self, Code, Codec, ConnectError, Envelope, EnvelopeParser, encode_end, encode_envelope,
};
use courier_protocol::envd::process::{
    DataEvent, EndEvent, ProcessConfig, ProcessEvent, StartEvent, StartRequest, StartResponse,
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How often each command line was started, in all guests.
static STARTED: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<HashMap<String, usize>>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a command line was started so far.
pub(crate) fn started(line: &str) -> usize {
    table().get_or_insert_default().get(line).copied().unwrap_or(0)
}

fn count(line: &str) -> usize {
    let mut table = table();
    let count = table.get_or_insert_default().entry(line.to_owned()).or_default();
    *count += 1;
    *count
}

/// One guest: what has changed in it since the mark.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    changed: Mutex<Vec<String>>,
}

impl Inside {
    fn change(&self, name: &str) {
        self.changed.lock().unwrap().push(name.to_owned());
    }

    /// Answers any request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        let body = body.unwrap_or_default();
        match parts.uri.path() {
            "/ready" | "/init" => plain(StatusCode::NO_CONTENT, Bytes::new()),
            "/process.Process/Start" => self.start(&body, &user(&parts.headers)),
            MARK_PATH => {
                self.changed.lock().unwrap().clear();
                plain(StatusCode::NO_CONTENT, Bytes::new())
            }
            CHANGES_PATH => match std::mem::take(&mut *self.changed.lock().unwrap()) {
                names if names.is_empty() => plain(StatusCode::NO_CONTENT, Bytes::new()),
                names => plain(StatusCode::OK, tar(&names)),
            },
            ALL_PATH => plain(StatusCode::OK, tar(&["base".to_owned()])),
            PROVISION_PATH => {
                self.change("provisioned");
                let (user, missing) = (account("user"), Vec::new());
                json(&Provisioned { user, missing, package_manager: None })
            }
            USERS_PATH => {
                let query = parts.uri.query().unwrap_or_default();
                let name = query.strip_prefix("name=").unwrap_or_default();
                self.change(&format!("user-{name}"));
                json(&account(name))
            }
            UNPACK_PATH => {
                let unpack = Unpack::from_query(parts.uri.query().unwrap_or_default()).unwrap();
                if unpack.source == "missing" {
                    let text = r#"{"code":404,"message":"missing is not in the archive"}"#;
                    return plain(StatusCode::NOT_FOUND, Bytes::from_static(text.as_bytes()));
                }
                self.change(&format!("copied-{}-{}", unpack.user, body.len()));
                json(&Unpacked { entries: 1, bytes: 1 })
            }
            other => unreachable!("{other}"),
        }
    }

    /// Answers `POST /process.Process/Start`.
    fn start(&self, body: &[u8], user: &str) -> Response<Body> {
        let mut parser = EnvelopeParser::of_request();
        parser.push(body);
        let Ok(Some(Envelope::Message(message))) = parser.next_envelope() else {
            unreachable!("a request is one message")
        };
        let request: StartRequest = connect::decode(Codec::Proto, &message).unwrap();
        let config = request.process.unwrap();
        assert_eq!((config.cmd.as_str(), request.stdin), ("/bin/bash", Some(false)));
        let args: Vec<&str> = config.args.iter().map(String::as_str).collect();
        let (pieces, runs_on) = match args.as_slice() {
            ["-l", "-c", line] => self.play(line, &config, user),
            ["-c", _script, "courier", path] => {
                self.change(&format!("path{}", path.replace('/', "-")));
                (done(0), false)
            }
            ["-c", _script, "courier", path, owner] => {
                self.change(&format!("workdir-{owner}{}", path.replace('/', "-")));
                (done(0), false)
            }
            other => unreachable!("{other:?}"),
        };
        let pieces = stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(piece))));
        let body = if runs_on {
            StreamBody::new(pieces.chain(stream::pending())).boxed_unsync()
        } else {
            StreamBody::new(pieces).boxed_unsync()
        };
        let mut response = Response::new(body);
        let kind = HeaderValue::from_static("application/connect+proto");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// The pieces of the answer, and whether the command goes on after them.
    fn play(&self, line: &str, config: &ProcessConfig, user: &str) -> (Vec<Bytes>, bool) {
        let times = count(line);
        let refused = ConnectError::new(Code::Unauthenticated, "invalid username: 'nobody1'");
        let then = |text: &str, code| {
            vec![running(), wrote(text.as_bytes())].into_iter().chain(ended(code)).collect()
        };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ok" => (done(0), false),
            "serve" => (vec![running(), wrote(b"listening\n")], true),
            "fail" => (then("no such port\n", 3), false),
            "unknown" => (vec![encode_end(Err(&refused))], false),
            "third" => (done(i32::from(times < 3)), false),
            "touch" => {
                self.change(rest);
                (done(0), false)
            }
            "show" => {
                let cwd = config.cwd.as_deref().unwrap_or_default();
                let env: Vec<String> =
                    config.envs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                (then(&format!("{user} {cwd} {}\n", env.join(",")), 0), false)
            }
            other => unreachable!("{other}"),
        }
    }
}

/// The user that a request names.
fn user(headers: &http::HeaderMap) -> String {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return String::new() };
    let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
    let text = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
    text.trim_end_matches(':').to_owned()
}

fn account(name: &str) -> Account {
    Account { name: name.to_owned(), uid: 1000, gid: 1000, home: format!("/home/{name}") }
}

/// A layer with empty files of these names.
pub(crate) fn tar(names: &[String]) -> Bytes {
    let mut writer = Writer::new(Vec::new());
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    for name in names {
        let path = EntryPath::new(name.into_bytes()).unwrap();
        writer.append(&Header::new(path, Kind::File { size: 0 }), std::io::empty()).unwrap();
    }
    writer.finish().unwrap().into()
}

fn plain(status: StatusCode, bytes: Bytes) -> Response<Body> {
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    plain(StatusCode::OK, serde_json::to_vec(value).unwrap().into())
}

fn event(event: ProcessEvent) -> Bytes {
    encode_envelope(Codec::Proto, &StartResponse { event: Some(event) })
}

fn running() -> Bytes {
    event(ProcessEvent { start: Some(StartEvent { pid: 7 }), ..ProcessEvent::default() })
}

fn wrote(text: &[u8]) -> Bytes {
    let data = DataEvent { stderr: Some(text.to_vec()), ..DataEvent::default() };
    event(ProcessEvent { data: Some(data), ..ProcessEvent::default() })
}

fn ended(code: i32) -> [Bytes; 2] {
    let status = format!("exit status {code}");
    let end = EndEvent { exit_code: code, exited: true, status, error: None };
    let end = event(ProcessEvent { end: Some(end), ..ProcessEvent::default() });
    [end, encode_end(Ok(()))]
}

fn done(code: i32) -> Vec<Bytes> {
    std::iter::once(running()).chain(ended(code)).collect()
}
