//! The server side of Connect: from a request to a typed call, from events to a stream.
//!
//! A unary call that fails is an HTTP status; a stream that fails, even before its first message, is
//! status 200 with the error in its last envelope, as Connect wants it.

mod call;
mod stream;

use std::future::Future;

use courier_protocol::envd::connect::{
    self, Code, Codec, ConnectError, ContentType, MAX_MESSAGE_BYTES, Message, Shape,
};
use futures_util::Stream;
use http::StatusCode;

use crate::http::{self as answers, Body, BodyError, Request, Response};

pub(crate) use call::{Call, basic_username};
pub(crate) use stream::Messages;

/// Serves a call of one message each way. A handler that takes longer than the caller allows is
/// dropped.
pub(crate) async fn unary<Q, A, F>(request: Request, handler: impl FnOnce(Call, Q) -> F) -> Response
where
    Q: Message,
    A: Message,
    F: Future<Output = Result<A, ConnectError>>,
{
    let call = match Call::of(&request, Shape::Unary) {
        Ok(call) => call,
        Err(refusal) => return *refusal,
    };
    let codec = call.codec;
    let answer = async {
        let message = read_one(codec, request.into_body()).await?;
        let timeout = call.timeout;
        call::within(timeout, handler(call, message)).await?
    };
    match answer.await {
        Ok(answer) => {
            let body = answers::full(connect::encode(codec, &answer));
            answers::typed(StatusCode::OK, content_type(codec, Shape::Unary), body)
        }
        Err(error) => failed_unary(&error),
    }
}

/// Serves a call of one message, answered by a stream of events, with `keepalive` after each spell
/// of silence that the caller asked for. The handler's own deadline is its business: see
/// [`Call::bounded`].
pub(crate) async fn server_stream<Q, A, F, S>(
    request: Request,
    keepalive: fn() -> A,
    handler: impl FnOnce(Call, Q) -> F,
) -> Response
where
    Q: Message,
    A: Message,
    F: Future<Output = Result<S, ConnectError>>,
    S: Stream<Item = Result<A, ConnectError>> + Send + 'static,
{
    let call = match Call::of(&request, Shape::Stream) {
        Ok(call) => call,
        Err(refusal) => return *refusal,
    };
    let (codec, silence) = (call.codec, call.keepalive);
    let events = async {
        let mut messages = Messages::new(codec, request.into_body());
        let message = messages.next().await?.unwrap_or_default();
        handler(call, message).await
    };
    let body = match events.await {
        Ok(events) => stream::body(codec, silence, keepalive, events),
        Err(error) => answers::full(connect::encode_end(Err(&error))),
    };
    answers::typed(StatusCode::OK, content_type(codec, Shape::Stream), body)
}

/// Serves a call of a stream of messages, answered by one.
pub(crate) async fn client_stream<Q, A, F>(
    request: Request,
    handler: impl FnOnce(Call, Messages<Q>) -> F,
) -> Response
where
    Q: Message,
    A: Message,
    F: Future<Output = Result<A, ConnectError>>,
{
    let call = match Call::of(&request, Shape::Stream) {
        Ok(call) => call,
        Err(refusal) => return *refusal,
    };
    let (codec, timeout) = (call.codec, call.timeout);
    let messages = Messages::new(codec, request.into_body());
    let answer = call::within(timeout, handler(call, messages)).await;
    let body = stream::single(codec, answer.and_then(|answer| answer));
    answers::typed(StatusCode::OK, content_type(codec, Shape::Stream), body)
}

/// The answer to a method that does not exist.
pub(crate) fn unknown_method(path: &str) -> Response {
    let message = format!("{path} does not exist");
    failed_unary(&ConnectError::new(Code::Unimplemented, message))
}

fn failed_unary(error: &ConnectError) -> Response {
    answers::typed(error.code.status(), "application/json", answers::full(error.to_json()))
}

const fn content_type(codec: Codec, shape: Shape) -> &'static str {
    ContentType { codec, shape }.as_str()
}

async fn read_one<Q: Message>(codec: Codec, body: Body) -> Result<Q, ConnectError> {
    let body = crate::http::read_all(body, MAX_MESSAGE_BYTES).await.map_err(|error| {
        let code = match error {
            BodyError::TooLong { .. } => Code::ResourceExhausted,
            BodyError::CutOff(_) => Code::Canceled,
        };
        ConnectError::new(code, error.to_string())
    })?;
    Ok(connect::decode(codec, &body)?)
}

fn unreadable(error: crate::http::BoxError) -> ConnectError {
    ConnectError::new(Code::Canceled, format!("the request was cut off: {error}"))
}
