//! One connection through a connector, as a stream of bytes.
//!
//! Nothing is handed to the HTTP/2 library that the connector has not made room for, and a stream
//! that is dropped before both sides have said all is reset. So a connector that takes nothing has
//! nothing kept for it, and a connection that broke off never looks like one that ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

/// Most bytes that are sent at once.
const PIECE_BYTES: usize = 16 * 1_024;

/// A connection through a connector, and its place among those that there may be.
pub(super) struct ConnectorConnection {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What came and was not read yet.
    unread: Bytes,
    /// Whether our last word has been said.
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl ConnectorConnection {
    pub(super) fn new(
        (send, receive): (SendStream<Bytes>, RecvStream),
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { send, receive, unread: Bytes::new(), ended: false, _permit: permit }
    }
}

impl Drop for ConnectorConnection {
    fn drop(&mut self) {
        if !(self.ended && self.receive.is_end_stream()) {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_reset() {
        return io::Error::new(io::ErrorKind::ConnectionReset, error);
    }
    io::Error::other(error)
}

impl AsyncRead for ConnectorConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.receive.poll_data(context)) {
                Some(Ok(bytes)) => self.unread = bytes,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(self.unread.get(..length).unwrap_or_default());
        self.unread.advance(length);
        let released = self.receive.flow_control().release_capacity(length);
        Poll::Ready(released.map_err(broken))
    }
}

impl AsyncWrite for ConnectorConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(bytes.len().min(PIECE_BYTES));
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(context)) {
                Some(Ok(_more_or_less)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = self.send.capacity().min(bytes.len()).min(PIECE_BYTES);
        let piece = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
        let sent = self.send.send_data(piece, false);
        Poll::Ready(sent.map(|()| length).map_err(broken))
    }

    /// What was written goes out by itself.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}
