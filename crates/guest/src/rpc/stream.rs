//! Streams of messages: those that a client sends, and those that it gets.

use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use courier_protocol::envd::connect::{
    self, Codec, ConnectError, Envelope, EnvelopeParser, Message,
};
use futures_util::{Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::http::{Body, BoxError, full};

/// The messages of a client's stream, one by one. Back-pressure: nothing is read ahead.
#[derive(Debug)]
pub(crate) struct Messages<Q> {
    codec: Codec,
    body: Body,
    parser: EnvelopeParser,
    kind: PhantomData<fn() -> Q>,
}

impl<Q: Message> Messages<Q> {
    pub(super) fn new(codec: Codec, body: Body) -> Self {
        Self { codec, body, parser: EnvelopeParser::of_request(), kind: PhantomData }
    }

    /// The next message; none when the client has sent all.
    ///
    /// # Errors
    /// The client broke the protocol or went away.
    pub(crate) async fn next(&mut self) -> Result<Option<Q>, ConnectError> {
        loop {
            if let Some(Envelope::Message(bytes)) = self.parser.next_envelope()? {
                return Ok(Some(connect::decode(self.codec, &bytes)?));
            }
            let Some(frame) = self.body.frame().await else {
                self.parser.finish()?;
                return Ok(None);
            };
            if let Ok(piece) = frame.map_err(super::unreadable)?.into_data() {
                self.parser.push(&piece);
            }
        }
    }
}

/// The body of an answer of one message.
pub(super) fn single<A: Message>(codec: Codec, answer: Result<A, ConnectError>) -> Body {
    match answer {
        Ok(answer) => {
            let mut bytes = connect::encode_envelope(codec, &answer).to_vec();
            bytes.extend_from_slice(&connect::encode_end(Ok(())));
            full(bytes)
        }
        Err(error) => full(connect::encode_end(Err(&error))),
    }
}

/// How far a stream of events has come.
enum Progress<S> {
    Going(Pin<Box<S>>),
    Ended,
}

/// The body of an answer of many messages, each sent as soon as it is there.
pub(super) fn body<A, S>(codec: Codec, silence: Duration, keepalive: fn() -> A, events: S) -> Body
where
    A: Message,
    S: Stream<Item = Result<A, ConnectError>> + Send + 'static,
{
    let frames = futures_util::stream::unfold(
        Progress::Going(Box::pin(events)),
        move |progress| async move {
            let Progress::Going(mut events) = progress else { return None };
            let (bytes, progress) = match tokio::time::timeout(silence, events.next()).await {
                Err(_silent) => {
                    (connect::encode_envelope(codec, &keepalive()), Progress::Going(events))
                }
                Ok(Some(Ok(event))) => {
                    (connect::encode_envelope(codec, &event), Progress::Going(events))
                }
                Ok(Some(Err(error))) => (connect::encode_end(Err(&error)), Progress::Ended),
                Ok(None) => (connect::encode_end(Ok(())), Progress::Ended),
            };
            Some((Ok::<Frame<Bytes>, BoxError>(Frame::data(bytes)), progress))
        },
    );
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use courier_protocol::envd::process::{Empty, ProcessEvent, StartResponse};

    use super::*;

    fn keepalive() -> StartResponse {
        let event = ProcessEvent { keepalive: Some(Empty {}), ..ProcessEvent::default() };
        StartResponse { event: Some(event) }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_keepalives_and_the_end_says_how() {
        let late = async {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            Err(ConnectError::not_found("gone"))
        };
        let events = futures_util::stream::once(late);
        let body = body(Codec::Json, Duration::from_secs(1), keepalive, events);
        let bytes = body.collect().await.unwrap().to_bytes();
        let mut parser = EnvelopeParser::of_response();
        parser.push(&bytes);
        let mut seen = Vec::new();
        while let Some(envelope) = parser.next_envelope().unwrap() {
            seen.push(envelope);
        }
        assert_eq!(seen.len(), 3, "two keepalives and the end");
        assert_eq!(seen.pop(), Some(Envelope::End(Err(ConnectError::not_found("gone")))));
    }

    #[tokio::test]
    async fn messages_are_read_one_by_one_and_a_cut_stream_is_an_error() {
        let mut bytes = connect::encode_envelope(Codec::Json, &keepalive()).to_vec();
        let mut messages = Messages::<StartResponse>::new(Codec::Json, full(bytes.clone()));
        assert_eq!(messages.next().await.unwrap(), Some(keepalive()));
        assert_eq!(messages.next().await.unwrap(), None);
        bytes.pop();
        let mut messages = Messages::<StartResponse>::new(Codec::Json, full(bytes));
        assert!(messages.next().await.is_err());
    }
}
