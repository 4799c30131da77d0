//! The framing guard: a byte stream that lets through only HTTP/1 requests which every parser reads
//! the same way.
//!
//! ```text
//! guest ─▶ input ─▶ Framer ─▶ ready ─▶ the HTTP server behind
//!                      └─ violation: nothing more comes out; 400 and the end of the connection
//! ```
//!
//! What always holds: bytes of a request come out only after its whole head was judged, and after
//! as much of its content as had arrived; the next request is not looked at before the answer to
//! this one is complete; behind an upgrade request nothing comes out before it was granted.

mod authority;
mod framing;
mod head;
#[cfg(test)]
mod tests;
mod violation;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

pub(super) use authority::{Authority, Host};
use framing::{Framer, Progress};
pub(super) use head::{HEAD_MAX, Origin, is_method};
pub(super) use violation::Violation;

use super::turn::{Phase, Turn};

/// From the first byte of a head, or the connection's begin, to the head's end.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Between two requests.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);
/// Between two pieces of a request's content.
const BODY_DEADLINE: Duration = Duration::from_secs(300);

/// How much is read at once, and kept of what comes too early: one window of the guest's stack.
const READ_MAX: usize = 16 * 1024;
/// How much of a request's content is judged ahead of the server behind.
const READY_MAX: usize = 64 * 1024;

/// A guarded stream.
pub(super) struct Guarded<S> {
    stream: S,
    framer: Framer,
    turn: Turn,
    /// Told of what is refused, once.
    report: Box<dyn Fn(Violation) + Send>,
    /// Read and not judged.
    input: BytesMut,
    /// Judged and not given out.
    ready: BytesMut,
    message: Message,
    /// The guest will send no more.
    ended: bool,
    /// The answer to write before the end.
    farewell: Bytes,
    deadline: Pin<Box<Sleep>>,
    waiting: Option<Waiting>,
}

/// How far the current request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// None begun.
    None,
    /// Its head is judged; nothing was given out.
    Held,
    /// Some of it was given out.
    Given,
    /// All of it was judged.
    Whole,
    /// All of it was judged, and it asks for an upgrade.
    Upgrade,
    /// Nothing more is given out, and there is no request to fail.
    Refused,
    /// Nothing more is given out, and the request whose content was refused fails.
    Broken,
}

/// For what the deadline runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Head,
    Next,
    Content,
}

/// What an attempt to read brought.
enum Filled {
    Some,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Guards the stream from its first byte on. `report` is called for the first violation.
    pub(super) fn new(
        stream: S,
        origin: Origin,
        turn: Turn,
        report: impl Fn(Violation) + Send + 'static,
    ) -> Self {
        Self {
            stream,
            framer: Framer::new(origin),
            turn,
            report: Box::new(report),
            input: BytesMut::new(),
            ready: BytesMut::new(),
            message: Message::None,
            ended: false,
            farewell: Bytes::new(),
            deadline: Box::pin(tokio::time::sleep(HEAD_DEADLINE)),
            waiting: Some(Waiting::Head),
        }
    }

    /// Judges what was read; true when there is more to judge than was there.
    fn judge(&mut self) -> bool {
        loop {
            let judged = self.framer.advance(&mut self.input, &mut self.ready);
            let begun = self.message == Message::None && !self.ready.is_empty();
            if begun && judged.is_ok() {
                self.message = Message::Held;
                self.turn.begin();
            }
            match judged {
                Ok(Progress::More) => return true,
                Ok(Progress::MessageEnd) => self.message = Message::Whole,
                Ok(Progress::Upgrade) => {
                    self.message = Message::Upgrade;
                    // A second look: what stands behind it already is refused.
                    if !self.input.is_empty() {
                        continue;
                    }
                }
                Err(violation) => self.refuse(violation),
            }
            return false;
        }
    }

    fn report(&self, violation: Violation) {
        if self.turn.refuse(violation) {
            (self.report)(violation);
        }
    }

    fn refuse(&mut self, violation: Violation) {
        self.report(violation);
        let given = matches!(self.message, Message::Given);
        self.ready.clear();
        self.input.clear();
        self.message = if given { Message::Broken } else { Message::Refused };
        if !given {
            self.turn.finish();
            self.farewell = farewell(violation);
        }
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        if self.ended {
            return Poll::Ready(Ok(Filled::End));
        }
        self.input.reserve(READ_MAX);
        if ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))? == 0 {
            self.ended = true;
            return Poll::Ready(Ok(Filled::End));
        }
        Poll::Ready(Ok(Filled::Some))
    }

    /// Reads and judges all that is there, to the end of the request or [`READY_MAX`].
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while matches!(self.message, Message::None | Message::Held | Message::Given) {
            if !self.judge() || self.ready.len() >= READY_MAX {
                break;
            }
            match self.fill(cx) {
                Poll::Ready(Ok(Filled::Some)) => self.progressed(),
                Poll::Ready(Ok(Filled::End)) => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.ready.is_empty() => return self.wait(cx),
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn progressed(&mut self) {
        // A head has one deadline, whatever drips in; content has one for each piece of it.
        if self.waiting != Some(Waiting::Head) {
            self.waiting = None;
        }
    }

    /// Waits for the guest, but not for ever.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (waiting, span) = if self.message != Message::None {
            (Waiting::Content, BODY_DEADLINE)
        } else if self.framer.is_between() && self.waiting != Some(Waiting::Head) {
            (Waiting::Next, IDLE_DEADLINE)
        } else {
            (Waiting::Head, HEAD_DEADLINE)
        };
        if self.waiting != Some(waiting) {
            self.waiting = Some(waiting);
            self.deadline.as_mut().reset(Instant::now() + span);
        }
        ready!(self.deadline.as_mut().poll(cx));
        match waiting {
            Waiting::Content => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Waiting::Head | Waiting::Next => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// While a request is answered: sees whether the guest goes away, and keeps a little of what
    /// it sends too early.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where this returns without reading, the turn's end wakes us.
        while self.input.len() < READ_MAX {
            match ready!(self.fill(cx))? {
                Filled::Some if self.message == Message::Upgrade => {
                    self.report(Violation::AfterUpgrade);
                    return Poll::Pending;
                }
                Filled::Some => {}
                Filled::End if self.input.is_empty() => return Poll::Ready(Ok(())),
                Filled::End => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// The answer is complete: on to the next request.
    fn next_message(&mut self) {
        if self.message == Message::Upgrade {
            self.framer.refuse_upgrade();
            if let Some(violation) = self.turn.violation() {
                self.refuse(violation);
                return;
            }
        }
        self.message = Message::None;
        self.waiting = None;
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready.split_to(count));
        if self.message == Message::Held {
            self.message = Message::Given;
        }
    }
}

/// The answer to a request that is refused before anything of it went on.
fn farewell(violation: Violation) -> Bytes {
    let text = format!("CodeCourier refused this request: {violation}.\n");
    let length = text.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{text}"
    )
    .into()
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.ready.is_empty() {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            match this.message {
                Message::Refused => return Poll::Ready(Ok(())),
                Message::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Message::None | Message::Held | Message::Given => {
                    ready!(this.gather(cx))?;
                    if this.ready.is_empty() && this.ended {
                        return Poll::Ready(Ok(()));
                    }
                }
                Message::Whole | Message::Upgrade => match this.turn.phase(cx.waker()) {
                    Phase::Asking => this.next_message(),
                    Phase::Answering => return this.watch(cx),
                    Phase::Upgraded if this.input.is_empty() => {
                        return Pin::new(&mut this.stream).poll_read(cx, buffer);
                    }
                    // Came between the grant and the look at it.
                    Phase::Upgraded => this.ready = this.input.split(),
                },
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.farewell.is_empty() {
            let count = ready!(Pin::new(&mut this.stream).poll_write(cx, &this.farewell))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.farewell.advance(count);
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
