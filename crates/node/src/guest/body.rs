//! Bodies on their way to and from a guest: streamed, and cut off when the sandbox ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use courier_protocol::node::{Body, BoxError};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::meter::Meter;
use super::stalls::Flow;
use crate::failure::GuestError;

/// A request's body; tells when it has been read to its end, or dropped, and whether it broke off.
pub(crate) struct RequestBody {
    inner: Body,
    sent: Option<DropGuard>,
    broken: CancellationToken,
}

/// What becomes of a request's body.
pub(crate) struct Sending {
    /// It has been read to its end, or dropped.
    pub(super) sent: CancellationToken,
    /// It broke off: the client's doing.
    pub(crate) broken: CancellationToken,
}

impl RequestBody {
    pub(crate) fn new(inner: Body) -> (Self, Sending) {
        let sending = Sending { sent: CancellationToken::new(), broken: CancellationToken::new() };
        let guard = sending.sent.clone().drop_guard();
        let sent = (!inner.is_end_stream()).then_some(guard);
        (Self { inner, sent, broken: sending.broken.clone() }, sending)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(frame, Poll::Ready(Some(Err(_)))) {
            self.broken.cancel();
        }
        if matches!(frame, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.sent = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What an answer holds until it ends: its place among the requests in flight, and its connection's
/// account.
pub(super) type Account = (OwnedSemaphorePermit, Arc<Meter>);

/// An answer's body. It ends with an error when the sandbox is destroyed, or when its reader stalls
/// beyond what a sandbox can bear, so that whoever passes it on aborts too instead of ending well.
/// Trailers are dropped: the protocol has none.
pub(super) struct AnswerBody {
    flow: Arc<Flow>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    account: Account,
}

impl AnswerBody {
    pub(super) fn new(flow: Arc<Flow>, cut: CancellationToken, account: Account) -> Self {
        Self { flow, cut: Box::pin(cut.cancelled_owned()), ended: false, account }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled =
            self.flow.read(|body| Pin::new(body).poll_frame(context).map_err(BoxError::from));
        let frame = match polled.unwrap_or(Poll::Ready(Some(Err(GuestError::Stalled.into())))) {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => None,
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.account.1.delivered(bytes);
                self.flow.given();
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => Some(Err(error)),
            Poll::Ready(None) => None,
            Poll::Pending => match self.cut.as_mut().poll(context) {
                Poll::Ready(()) => Some(Err(GuestError::Ended.into())),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.ended = true;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.flow.look(http_body::Body::is_end_stream).unwrap_or_default()
    }

    fn size_hint(&self) -> SizeHint {
        self.flow.look(http_body::Body::size_hint).unwrap_or_default()
    }
}
