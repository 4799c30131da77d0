//! Feeds a program's standard input from a stream, as one client stream with flow control: a
//! program that does not read holds the sender back and costs no memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use courier_protocol::envd::connect::{
    self, Codec, ConnectError, ContentType, Envelope, EnvelopeParser, Shape, encode_envelope,
};
use courier_protocol::envd::process::{
    ProcessInput, StreamInputData, StreamInputRequest, StreamInputStart,
};
use courier_protocol::node::{Body, BoxError};
use http::{Method, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt as _;

use crate::rpc::drain_error;
use crate::{ClientError, GuestClient, Selector};

/// Most bytes of input in one message.
const PIECE_BYTES: usize = 32 * 1_024;

impl GuestClient {
    /// Writes a stream to a command's standard input, then closes it.
    ///
    /// # Errors
    /// See [`ClientError`]; a command that is gone is a refusal.
    pub async fn feed_stdin(&self, selector: &Selector, input: Body) -> Result<(), ClientError> {
        const METHOD: &str = "/process.Process/StreamInput";
        let content = ContentType { codec: Codec::Proto, shape: Shape::Stream };
        let start = StreamInputRequest {
            start: Some(StreamInputStart { process: Some(selector.into()) }),
            ..StreamInputRequest::default()
        };
        let body = InputBody {
            head: Some(encode_envelope(content.codec, &start)),
            rest: Bytes::new(),
            input,
        };
        let request = self
            .request(Method::POST, METHOD)
            .header(header::CONTENT_TYPE, content.as_str())
            .header(connect::PROTOCOL_VERSION_HEADER, connect::PROTOCOL_VERSION)
            .body(body.boxed_unsync())
            .map_err(|error| ClientError::Request(error.into()))?;
        let answer = self.transport.send(request).await?;
        let status = answer.status();
        let body = drain_error(METHOD, answer.into_body()).await?;
        if status != StatusCode::OK {
            return Err(ConnectError::from_answer(status, &body).into());
        }
        let mut parser = EnvelopeParser::of_response();
        parser.push(&body);
        while let Some(envelope) =
            parser.next_envelope().map_err(|error| ClientError::protocol(error.to_string()))?
        {
            if let Envelope::End(Err(error)) = envelope {
                return Err(error.into());
            }
        }
        self.close_stdin(selector).await
    }
}

/// A request body: the start message, then the input in messages.
struct InputBody {
    head: Option<Bytes>,
    rest: Bytes,
    input: Body,
}

fn piece(bytes: &Bytes) -> Frame<Bytes> {
    let input = ProcessInput { stdin: Some(bytes.to_vec()), pty: None };
    let message = StreamInputRequest {
        data: Some(StreamInputData { input: Some(input) }),
        ..StreamInputRequest::default()
    };
    Frame::data(encode_envelope(Codec::Proto, &message))
}

impl http_body::Body for InputBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.input).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let next = self.rest.split_to(length);
        Poll::Ready(Some(Ok(piece(&next))))
    }
}
