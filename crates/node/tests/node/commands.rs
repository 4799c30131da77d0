//! A guest's commands, played: what a command line says is what happens.
//!
//! `ok`, `serve` (runs on), `fail` (writes a line, exits with 3), `unknown user`, `third` (exits with 0
//! the third time, with 1 before); what follows the word makes a command line the test's own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use courier_protocol::envd::connect::{
    self, Code, Codec, ConnectError, Envelope, EnvelopeParser, encode_end, encode_envelope,
};
use courier_protocol::envd::process::{
    DataEvent, EndEvent, ProcessEvent, StartEvent, StartRequest, StartResponse,
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How often each command line was started, in all guests.
static STARTED: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// How often a command line was started so far.
pub(crate) fn started(line: &str) -> usize {
    let mut table = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    table.get_or_insert_default().get(line).copied().unwrap_or(0)
}

fn count(line: &str) -> usize {
    let mut table = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = table.get_or_insert_default().entry(line.to_owned()).or_default();
    *count += 1;
    *count
}

/// Answers `POST /process.Process/Start`.
pub(crate) fn start(body: &[u8]) -> Response<Body> {
    let mut parser = EnvelopeParser::of_request();
    parser.push(body);
    let Ok(Some(Envelope::Message(message))) = parser.next_envelope() else {
        unreachable!("a request is one message")
    };
    let request: StartRequest = connect::decode(Codec::Proto, &message).unwrap();
    let config = request.process.unwrap();
    assert_eq!((config.cmd.as_str(), request.stdin), ("/bin/bash", Some(false)));
    assert_eq!(config.args[..2], ["-l", "-c"]);
    let line = config.args[2].as_str();
    let times = count(line);
    let (pieces, runs_on) = play(line, times);
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
fn play(line: &str, times: usize) -> (Vec<Bytes>, bool) {
    let refused = ConnectError::new(Code::Unauthenticated, "invalid username: 'nobody1'");
    let lines = |text: &[u8]| vec![running(), wrote(text)];
    match line.split_once(' ').unwrap_or((line, "")) {
        ("ok", _) => (vec![running(), ended(0), encode_end(Ok(()))], false),
        ("serve", _) => (lines(b"listening\n"), true),
        ("fail", _) => {
            let end = [ended(3), encode_end(Ok(()))];
            (lines(b"no such port\n").into_iter().chain(end).collect(), false)
        }
        ("unknown", _) => (vec![encode_end(Err(&refused))], false),
        ("third", _) => {
            let code = i32::from(times < 3);
            (vec![running(), ended(code), encode_end(Ok(()))], false)
        }
        _other => unreachable!("{line}"),
    }
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

fn ended(code: i32) -> Bytes {
    let status = format!("exit status {code}");
    let end = EndEvent { exit_code: code, exited: true, status, error: None };
    event(ProcessEvent { end: Some(end), ..ProcessEvent::default() })
}

/// Reads a request's body.
pub(crate) async fn read(body: hyper::body::Incoming) -> Result<Bytes, Infallible> {
    Ok(body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default())
}
