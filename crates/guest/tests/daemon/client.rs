//! A daemon under test and a client of it.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use courier_channel::host::Channel;
use courier_protocol::envd::connect::{
    self, Codec, ConnectError, ContentType, Envelope, EnvelopeParser, Message, Shape,
};
use courier_protocol::envd::process::{
    ProcessConfig, ProcessEvent, ProcessSelector, StartRequest, StartResponse,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// No step of a test takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// A running daemon, killed with the test.
pub(crate) struct Daemon {
    pub(crate) channel: Option<Channel>,
    pub(crate) child: Child,
    client: Option<Client>,
}

/// A connection to it.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) codec: Codec,
}

impl Daemon {
    pub(crate) async fn start() -> Self {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a socketpair");
        let child = Command::new(env!("CARGO_BIN_EXE_courier-guest"))
            .stdin(Stdio::from(theirs))
            .spawn()
            .expect("the daemon");
        let (channel, client) = Client::over(ours, 1).await;
        Self { channel: Some(channel), child, client: Some(client) }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone().expect("a daemon that was not hung up")
    }

    /// Closes the node's end.
    pub(crate) fn hang_up(&mut self) {
        self.client = None;
        self.channel = None;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        self.child.wait().expect("our own child");
    }
}

impl Client {
    async fn over(fd: OwnedFd, epoch: u32) -> (Channel, Self) {
        let mut channel = Channel::new(fd).expect("a channel");
        let client = Self::open(&mut channel, epoch).await;
        (channel, client)
    }

    pub(crate) async fn open(channel: &mut Channel, epoch: u32) -> Self {
        let stream = soon(channel.open(epoch)).await.expect("an epoch");
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        Self { sender, codec: Codec::Json }
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        soon(self.sender.clone().send_request(request)).await
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Bytes) {
        let request = Request::get(format!("http://guest{path}")).body(Full::default());
        let response = self.send(request.expect("a request")).await.expect("an answer");
        let status = response.status();
        (status, soon(response.collect()).await.expect("a body").to_bytes())
    }

    pub(crate) async fn unary<Q: Message, A: Message>(
        &self,
        method: &str,
        message: &Q,
    ) -> Result<A, ConnectError> {
        let content = ContentType { codec: self.codec, shape: Shape::Unary };
        let request = Request::post(format!("http://guest/process.Process/{method}"))
            .header("content-type", content.as_str())
            .header("authorization", "Basic cm9vdDo=")
            .body(Full::new(connect::encode(self.codec, message)))
            .expect("a request");
        let response = self.send(request).await.expect("an answer");
        let status = response.status();
        let body = soon(response.collect()).await.expect("a body").to_bytes();
        if status != StatusCode::OK {
            return Err(ConnectError::from_answer(status, &body));
        }
        Ok(connect::decode(self.codec, &body).expect("a message"))
    }

    pub(crate) async fn stream<Q: Message>(
        &self,
        method: &str,
        message: &Q,
        headers: &[(&str, &str)],
    ) -> Events {
        let content = ContentType { codec: self.codec, shape: Shape::Stream };
        let mut request = Request::post(format!("http://guest/process.Process/{method}"))
            .header("content-type", content.as_str());
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", "Basic cm9vdDo=");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(connect::encode_envelope(self.codec, message));
        let response = self.send(request.body(body).expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        Events {
            codec: self.codec,
            body: response.into_body(),
            parser: EnvelopeParser::of_response(),
        }
    }

    /// Calls a method that takes a stream; `body` is all its envelopes.
    pub(crate) async fn client_stream(&self, method: &str, body: Vec<u8>) -> Vec<Envelope> {
        let content = ContentType { codec: self.codec, shape: Shape::Stream };
        let request = Request::post(format!("http://guest/process.Process/{method}"))
            .header("content-type", content.as_str())
            .body(Full::new(body.into()))
            .expect("a request");
        let response = self.send(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let mut parser = EnvelopeParser::of_response();
        parser.push(&soon(response.collect()).await.expect("a body").to_bytes());
        let mut seen = Vec::new();
        while let Some(envelope) = parser.next_envelope().expect("envelopes") {
            seen.push(envelope);
        }
        seen
    }

    pub(crate) async fn start(&self, request: &StartRequest) -> Events {
        self.stream("Start", request, &[]).await
    }

    pub(crate) async fn shell(&self, script: &str) -> Events {
        self.start(&shell(script)).await
    }
}

pub(crate) fn shell(script: &str) -> StartRequest {
    let args = vec!["-c".to_owned(), script.to_owned()];
    let process =
        Some(ProcessConfig { cmd: "/bin/sh".to_owned(), args, ..ProcessConfig::default() });
    StartRequest { process, ..StartRequest::default() }
}

pub(crate) fn pid(pid: u32) -> Option<ProcessSelector> {
    Some(ProcessSelector { pid: Some(pid), tag: None })
}

/// The events of a stream.
pub(crate) struct Events {
    codec: Codec,
    body: Incoming,
    parser: EnvelopeParser,
}

/// Everything that a command said.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(crate) pid: u32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) pty: Vec<u8>,
    pub(crate) keepalives: u32,
    pub(crate) exit_code: Option<i32>,
    pub(crate) error: Option<String>,
    pub(crate) failure: Option<ConnectError>,
}

impl Events {
    /// The next event; none at the end, which may be a failure.
    pub(crate) async fn next(&mut self) -> Option<Result<ProcessEvent, ConnectError>> {
        loop {
            match self.parser.next_envelope().expect("envelopes") {
                Some(Envelope::Message(bytes)) => {
                    let message: StartResponse =
                        connect::decode(self.codec, &bytes).expect("a message");
                    return message.event.map(Ok);
                }
                Some(Envelope::End(end)) => return end.err().map(Err),
                None => {}
            }
            let frame = soon(self.body.frame()).await.expect("an end").expect("a frame");
            self.parser.push(&frame.into_data().unwrap_or_default());
        }
    }

    pub(crate) async fn started(&mut self) -> u32 {
        let event = self.next().await.expect("an event").expect("a start");
        event.start.expect("a start first").pid
    }

    pub(crate) async fn rest(mut self) -> Transcript {
        let mut seen = Transcript::default();
        while let Some(event) = self.next().await {
            match event {
                Ok(event) => seen.take(event),
                Err(error) => {
                    seen.failure = Some(error);
                    break;
                }
            }
        }
        seen
    }
}

impl Transcript {
    fn take(&mut self, event: ProcessEvent) {
        assert_eq!(self.exit_code, None, "nothing comes after the end");
        if let Some(start) = event.start {
            self.pid = start.pid;
        }
        if let Some(data) = event.data {
            self.stdout.extend(data.stdout.unwrap_or_default());
            self.stderr.extend(data.stderr.unwrap_or_default());
            self.pty.extend(data.pty.unwrap_or_default());
        }
        self.keepalives += u32::from(event.keepalive.is_some());
        if let Some(end) = event.end {
            self.exit_code = Some(end.exit_code);
            self.error = end.error;
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}
