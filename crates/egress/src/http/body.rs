//! Content on its way through: counted, redacted, cut off when it may not go on. Nothing is
//! gathered: a piece is asked for when there is room for it behind.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::decode::Decoder;
use super::exchange::Exchange;
use super::pool::Lease;
use super::turn::Turn;
use crate::broker::Redactor;

/// Content in either direction.
pub(super) type ProxyBody = UnsyncBoxBody<Bytes, BodyError>;

/// Longest silence within an answer. Event streams are kept alive by events or comments; what says
/// nothing for so long is forgotten by every other middlebox too.
const ANSWER_SILENCE: Duration = Duration::from_secs(15 * 60);

/// How much is decoded at once: what a decoder makes of it stays below 1.1 MiB.
const DECODE_MAX: usize = 1_024;

/// Why content ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The guest's request broke off.
    #[error("the request broke off")]
    Guest(#[source] hyper::Error),
    /// The upstream's answer broke off.
    #[error("the server's answer broke off")]
    Upstream(#[source] hyper::Error),
    /// The request has trailers.
    #[error("the request has trailer fields, which are not carried")]
    Trailers,
    /// A `GET` or `HEAD` with content.
    #[error("a GET, HEAD or TRACE request has content")]
    Content,
    /// The answer cannot be decoded.
    #[error("the server's answer cannot be decoded")]
    Decode(#[source] std::io::Error),
    /// Nothing came for [`ANSWER_SILENCE`].
    #[error("the server said nothing for too long")]
    Silence,
    /// The policy does not allow the request any more.
    #[error("the policy does not allow the request any more")]
    Policy,
}

/// Fires when the policy does not allow the request any more.
type Ended = Pin<Box<WaitForCancellationFutureOwned>>;

fn ended(token: &CancellationToken) -> Ended {
    Box::pin(token.clone().cancelled_owned())
}

/// Whether a request may have content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// It may.
    Allowed,
    /// Servers would not expect it.
    Forbidden,
}

/// A request's content on its way out.
pub(super) struct Request {
    inner: Incoming,
    content: Content,
    exchange: Arc<Exchange>,
    ended: Ended,
}

impl Request {
    /// The content of the request of an exchange.
    pub(super) fn new(inner: Incoming, content: Content, exchange: Arc<Exchange>) -> Self {
        let ended = ended(exchange.ended());
        Self { inner, content, exchange, ended }
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.exchange.failed(error.to_string());
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Request {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return self.fail(BodyError::Policy);
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return self.fail(BodyError::Guest(error)),
            None => return Poll::Ready(None),
        };
        let Some(data) = frame.data_ref() else { return self.fail(BodyError::Trailers) };
        if !data.is_empty() && self.content == Content::Forbidden {
            return self.fail(BodyError::Content);
        }
        self.exchange.sent(data.len());
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Takes values out of an answer.
pub(super) struct Rewriting {
    decoder: Option<Decoder>,
    redactor: Redactor,
    /// Not looked at yet.
    input: Bytes,
    is_fed: bool,
}

impl Rewriting {
    /// Decodes, where there is a decoder, then redacts.
    pub(super) const fn new(decoder: Option<Decoder>, redactor: Redactor) -> Self {
        Self { decoder, redactor, input: Bytes::new(), is_fed: false }
    }

    /// Redacts the fields at the end.
    fn trailers(&self, trailers: &mut HeaderMap) {
        self.redactor.headers(trailers);
    }

    fn push(&mut self, input: Bytes) {
        self.is_fed |= !input.is_empty();
        self.input = input;
    }

    /// The next piece, while there is something to be looked at.
    fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.input.is_empty() {
            let output = match &mut self.decoder {
                None => self.redactor.push(&std::mem::take(&mut self.input)),
                Some(decoder) => {
                    let piece = self.input.split_to(self.input.len().min(DECODE_MAX));
                    let decoded = decoder.push(&piece).map_err(BodyError::Decode)?;
                    self.redactor.push(&decoded)
                }
            };
            if !output.is_empty() {
                return Ok(Some(output.into()));
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<Bytes, BodyError> {
        let mut output = Vec::new();
        // An encoding of nothing may be nothing.
        if let Some(decoder) = self.decoder.as_mut().filter(|_| self.is_fed) {
            let decoded = decoder.finish().map_err(BodyError::Decode)?;
            output = self.redactor.push(&decoded);
        }
        output.extend_from_slice(&self.redactor.finish());
        Ok(output.into())
    }
}

/// An answer's content on its way in.
pub(super) struct Answer {
    inner: Incoming,
    rewriting: Option<Rewriting>,
    exchange: Arc<Exchange>,
    ended: Ended,
    silence: Option<Pin<Box<Sleep>>>,
    trailers: Option<HeaderMap>,
    state: State,
    /// Given back when the answer is whole, else closed.
    lease: Option<Lease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// All of it came; trailers may be left.
    Last,
    Done,
}

impl Answer {
    /// The content of the answer of an exchange.
    pub(super) fn new(
        inner: Incoming,
        rewriting: Option<Rewriting>,
        exchange: Arc<Exchange>,
        lease: Lease,
    ) -> Self {
        let ended = ended(exchange.ended());
        let (silence, trailers) = (None, None);
        let (lease, state) = (Some(lease), State::Open);
        Self { inner, rewriting, exchange, ended, silence, trailers, state, lease }
    }

    /// What comes in, before it is looked at.
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Policy)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let Some(silence) = &mut self.silence {
                silence.as_mut().reset(Instant::now() + ANSWER_SILENCE);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Upstream)));
        }
        let silence =
            self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(ANSWER_SILENCE)));
        ready!(silence.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Silence)))
    }

    /// One step; `None` where there is nothing to give yet and another step can be made.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(rewriting) = &mut self.rewriting
                && let Some(output) = rewriting.next()?
            {
                return Poll::Ready(Some(Ok(Frame::data(output))));
            }
            match self.state {
                State::Done => return Poll::Ready(None),
                State::Last => {
                    self.state = State::Done;
                    self.lease.take().into_iter().for_each(Lease::give_back);
                    return Poll::Ready(self.trailers.take().map(|last| Ok(Frame::trailers(last))));
                }
                State::Open => {}
            }
            let frame = ready!(self.poll_inner(cx)).transpose()?;
            match (frame.map(Frame::into_data), &mut self.rewriting) {
                (Some(Ok(data)), None) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                (Some(Ok(data)), Some(rewriting)) => rewriting.push(data),
                (Some(Err(frame)), rewriting) => {
                    self.trailers = frame.into_trailers().ok();
                    if let (Some(trailers), Some(rewriting)) = (&mut self.trailers, rewriting) {
                        rewriting.trailers(trailers);
                    }
                }
                (None, rewriting) => {
                    self.state = State::Last;
                    let rest = match rewriting {
                        Some(rewriting) => rewriting.finish()?,
                        None => Bytes::new(),
                    };
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.step(cx));
        match &frame {
            Some(Ok(frame)) => self.exchange.received(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => {
                self.exchange.failed(error.to_string());
                self.lease = None;
                self.state = State::Done;
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done || (self.rewriting.is_none() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.rewriting.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // An answer without content is never asked for it.
        if self.inner.is_end_stream() {
            self.lease.take().into_iter().for_each(Lease::give_back);
        } else if self.state == State::Open {
            self.exchange.failed("the guest did not take the whole answer");
        }
    }
}

/// Content at whose end it is the guest's turn again.
pub(super) struct Ending<B> {
    inner: B,
    turn: Option<Turn>,
}

impl<B> Ending<B> {
    /// Ends the turn, where there is one, when the content is complete or dropped.
    pub(super) const fn new(inner: B, turn: Option<Turn>) -> Self {
        Self { inner, turn }
    }
}

impl<B: Body + Unpin> Body for Ending<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Ending<B> {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            turn.finish();
        }
    }
}
