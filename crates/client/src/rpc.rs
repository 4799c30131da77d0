//! Connect calls from the client's side: binary codec, no compression, every wait bounded.

use std::marker::PhantomData;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_protocol::envd::connect::{
    self, Code, Codec, ConnectError, ContentType, Envelope, EnvelopeParser, Message, Shape,
};
use courier_protocol::node::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;

use crate::{ClientError, GuestClient, Refusal, drain, full};

/// Longest wait for the head of an answer to a small request.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// The guest sends a `keepalive` after this much silence on a stream.
const KEEPALIVE_SECONDS: u64 = 20;

/// A stream that is silent for longer is dead: several keepalives are missing.
const SILENCE_DEADLINE: Duration = Duration::from_secs(6 * KEEPALIVE_SECONDS);

/// Most bytes of the body of an error.
const ERROR_LIMIT_BYTES: usize = 64 * 1_024;

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        match code {
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Self::Invalid,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::DeadlineExceeded => Self::TimedOut,
            Code::ResourceExhausted => Self::Exhausted,
            Code::Canceled
            | Code::Unknown
            | Code::Aborted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Other,
        }
    }
}

impl From<ConnectError> for ClientError {
    fn from(error: ConnectError) -> Self {
        Self::refused(error.code.into(), &error.message)
    }
}

impl GuestClient {
    /// Begins a request as this client's user.
    pub(crate) fn request(&self, method: Method, uri: &str) -> http::request::Builder {
        let builder = Request::builder().method(method).uri(uri);
        match &self.user {
            None => builder,
            Some(user) => builder.header(
                header::AUTHORIZATION,
                format!("Basic {}", STANDARD.encode(format!("{user}:"))),
            ),
        }
    }

    /// Sends a request whose answer's head is due within [`ANSWER_DEADLINE`].
    pub(crate) async fn send(
        &self,
        what: &'static str,
        request: Request<Body>,
    ) -> Result<Response<Body>, ClientError> {
        match tokio::time::timeout(ANSWER_DEADLINE, self.transport.send(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(ClientError::Late { what, after: ANSWER_DEADLINE }),
        }
    }

    /// One message there, one message back.
    pub(crate) async fn unary<Q: Message, A: Message>(
        &self,
        method: &'static str,
        message: &Q,
    ) -> Result<A, ClientError> {
        let content = ContentType { codec: Codec::Proto, shape: Shape::Unary };
        let request = self
            .request(Method::POST, method)
            .header(header::CONTENT_TYPE, content.as_str())
            .header(connect::PROTOCOL_VERSION_HEADER, connect::PROTOCOL_VERSION)
            .body(full(connect::encode(content.codec, message)))
            .map_err(|error| ClientError::Request(error.into()))?;
        let answer = self.send(method, request).await?;
        let (status, named) = (answer.status(), content_type(&answer));
        let read = tokio::time::timeout(
            ANSWER_DEADLINE,
            drain(answer.into_body(), connect::MAX_MESSAGE_BYTES),
        );
        let body = read
            .await
            .map_err(|_elapsed| ClientError::Late { what: method, after: ANSWER_DEADLINE })??;
        if status != StatusCode::OK {
            return Err(ConnectError::from_answer(status, &body).into());
        }
        if named != Some(content) {
            return Err(ClientError::protocol(format!("{method} answered with another type")));
        }
        connect::decode(content.codec, &body)
            .map_err(|error| ClientError::protocol(error.to_string()))
    }

    /// One message there, a stream of messages back.
    pub(crate) async fn stream<Q: Message, A: Message>(
        &self,
        method: &'static str,
        message: &Q,
        timeout: Option<Duration>,
    ) -> Result<Messages<A>, ClientError> {
        let content = ContentType { codec: Codec::Proto, shape: Shape::Stream };
        let mut request = self
            .request(Method::POST, method)
            .header(header::CONTENT_TYPE, content.as_str())
            .header(connect::PROTOCOL_VERSION_HEADER, connect::PROTOCOL_VERSION)
            .header(connect::KEEPALIVE_HEADER, HeaderValue::from(KEEPALIVE_SECONDS));
        if let Some(timeout) = timeout {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            request = request.header(connect::TIMEOUT_HEADER, millis.min(9_999_999_999));
        }
        let request = request
            .body(full(connect::encode_envelope(content.codec, message)))
            .map_err(|error| ClientError::Request(error.into()))?;
        let answer = self.send(method, request).await?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            let body = drain_error(method, answer.into_body()).await?;
            return Err(ConnectError::from_answer(status, &body).into());
        }
        if content_type(&answer) != Some(content) {
            return Err(ClientError::protocol(format!("{method} answered with another type")));
        }
        Ok(Messages {
            method,
            body: answer.into_body(),
            parser: EnvelopeParser::of_response(),
            ended: false,
            message: PhantomData,
        })
    }
}

/// Reads the short body of an error within the usual deadline.
pub(crate) async fn drain_error(what: &'static str, body: Body) -> Result<Vec<u8>, ClientError> {
    tokio::time::timeout(ANSWER_DEADLINE, drain(body, ERROR_LIMIT_BYTES))
        .await
        .map_err(|_elapsed| ClientError::Late { what, after: ANSWER_DEADLINE })?
}

fn content_type(answer: &Response<Body>) -> Option<ContentType> {
    ContentType::parse(answer.headers().get(header::CONTENT_TYPE)?.to_str().ok()?)
}

/// Messages of a stream, in order, each bounded.
pub(crate) struct Messages<A> {
    method: &'static str,
    body: Body,
    parser: EnvelopeParser,
    ended: bool,
    message: PhantomData<fn() -> A>,
}

impl<A: Message> Messages<A> {
    /// The next message; `None` at the good end of the stream. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, ClientError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let envelope = self
                .parser
                .next_envelope()
                .map_err(|error| ClientError::protocol(error.to_string()))?;
            match envelope {
                Some(Envelope::Message(bytes)) => {
                    return connect::decode(Codec::Proto, &bytes)
                        .map(Some)
                        .map_err(|error| ClientError::protocol(error.to_string()));
                }
                Some(Envelope::End(end)) => {
                    self.ended = true;
                    end?;
                }
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let frame = tokio::time::timeout(SILENCE_DEADLINE, self.body.frame())
            .await
            .map_err(|_elapsed| ClientError::Late { what: self.method, after: SILENCE_DEADLINE })?;
        match frame {
            None => {
                self.parser.finish().map_err(|error| ClientError::BrokenOff(error.into()))?;
                self.ended = true;
            }
            Some(Err(error)) => return Err(ClientError::BrokenOff(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.parser.push(&data);
                }
            }
        }
        Ok(())
    }
}
