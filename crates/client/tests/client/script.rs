//! A transport that answers from a script, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use courier_client::{GuestClient, Transport, TransportError, drain};
use courier_protocol::envd::connect::{Codec, encode_end, encode_envelope};
use courier_protocol::envd::process::{
    DataEvent, EndEvent, ProcessEvent, StartEvent, StartResponse,
};
use courier_protocol::node::Body;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Channel};

/// How one path is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Status, content type, body.
    Whole(StatusCode, &'static str, Bytes),
    /// A stream of these pieces, then its tail.
    Pieces(Vec<Bytes>, Tail),
    /// Not at all.
    Never,
    /// The sandbox is gone.
    Gone,
}

/// How a stream of pieces goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    End,
    Hang,
    Break,
}

/// Path and body of a request.
pub(crate) type Asked = (String, Vec<u8>);

/// The script: the first entry whose path is a prefix of the request's.
#[derive(Clone, Default)]
pub(crate) struct Script {
    answers: Vec<(&'static str, Answer)>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    pub(crate) fn on(mut self, path: &'static str, answer: Answer) -> Self {
        self.answers.push((path, answer));
        self
    }

    pub(crate) fn client(&self) -> GuestClient {
        GuestClient::new(Arc::new(self.clone()))
    }

    /// Paths and bodies so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn was_asked(&self, path: &str) -> bool {
        self.asked().iter().any(|(asked, _body)| asked.starts_with(path))
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let path = request.uri().to_string();
        let answer = self.answers.iter().find(|(prefix, _)| path.starts_with(prefix));
        let body = drain(request.into_body(), 1 << 24).await.unwrap();
        self.asked.lock().unwrap().push((path.clone(), body));
        match answer.map(|(_, answer)| answer.clone()) {
            Some(Answer::Whole(status, content_type, body)) => {
                let answer =
                    Response::builder().status(status).header("content-type", content_type);
                Ok(answer.body(courier_client::full(body)).unwrap())
            }
            Some(Answer::Pieces(pieces, tail)) => Ok(streamed(pieces, tail)),
            Some(Answer::Never) => std::future::pending().await,
            Some(Answer::Gone) => Err(TransportError::Gone("gone".into())),
            None => Err(TransportError::Unreachable(format!("no answer to {path}").into())),
        }
    }
}

fn streamed(pieces: Vec<Bytes>, tail: Tail) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        for piece in pieces {
            if sender.send_data(piece).await.is_err() {
                return;
            }
        }
        match tail {
            Tail::End => {}
            Tail::Hang => std::future::pending().await,
            Tail::Break => sender.abort(std::io::Error::other("broken")),
        }
    });
    let body = body.map_err(Into::into).boxed_unsync();
    Response::builder().header("content-type", "application/connect+proto").body(body).unwrap()
}

fn event(event: ProcessEvent) -> Bytes {
    encode_envelope(Codec::Proto, &StartResponse { event: Some(event) })
}

pub(crate) fn started() -> Bytes {
    event(ProcessEvent { start: Some(StartEvent { pid: 7 }), ..ProcessEvent::default() })
}

pub(crate) fn stdout(bytes: &[u8]) -> Bytes {
    let data = DataEvent { stdout: Some(bytes.to_vec()), ..DataEvent::default() };
    event(ProcessEvent { data: Some(data), ..ProcessEvent::default() })
}

pub(crate) fn stderr(bytes: &[u8]) -> Bytes {
    let data = DataEvent { stderr: Some(bytes.to_vec()), ..DataEvent::default() };
    event(ProcessEvent { data: Some(data), ..ProcessEvent::default() })
}

pub(crate) fn exited(exit_code: i32) -> Bytes {
    let status = format!("exit status {exit_code}");
    let end = EndEvent { exit_code, exited: true, status, error: None };
    event(ProcessEvent { end: Some(end), ..ProcessEvent::default() })
}

pub(crate) fn end() -> Bytes {
    encode_end(Ok(()))
}
