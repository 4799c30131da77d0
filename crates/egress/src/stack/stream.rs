//! A connection of the guest as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::socket::tcp::{RecvError, State as TcpState};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;

/// One connection that the guest opened and that was accepted.
///
/// Each half ends by itself: a read of nothing is the guest's end, [`AsyncWrite::poll_shutdown`] is
/// ours. What is written goes out at once when nothing is on its way or a packet is full, otherwise
/// with the next acknowledgement or [`AsyncWrite::poll_flush`], whichever comes first. Dropping the
/// stream resets the connection, unless our half was shut down: then what was written still arrives,
/// and the guest has a while to end its own half, unread.
#[derive(Debug)]
pub(crate) struct GuestStream {
    connection: Arc<Connection>,
}

impl GuestStream {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.connection.lock();
        let before = buffer.filled().len();
        // The bytes lie in a ring: what is there may take two reads.
        while buffer.remaining() > 0 {
            let read = state.socket().recv(|data| {
                let data = data.get(..buffer.remaining()).unwrap_or(data);
                buffer.put_slice(data);
                (data.len(), data.len())
            });
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if buffer.filled().len() > before => break,
                Err(RecvError::Finished) => return Poll::Ready(Ok(())),
                Err(RecvError::InvalidState) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
        if buffer.filled().len() == before && buffer.remaining() > 0 {
            state.socket().register_recv_waker(context.waker());
            return Poll::Pending;
        }
        // The guest may send more now.
        self.connection.settle(&mut state, None);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.connection.lock();
        let socket = state.socket();
        let Ok(count) = socket.send_slice(bytes) else {
            let kind = match socket.state() {
                TcpState::Closed | TcpState::Listen => io::ErrorKind::ConnectionReset,
                _ => io::ErrorKind::BrokenPipe,
            };
            return Poll::Ready(Err(kind.into()));
        };
        if count == 0 && !bytes.is_empty() {
            socket.register_send_waker(context.waker());
            return Poll::Pending;
        }
        self.connection.settle(&mut state, None);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.connection.lock();
        // Nagle's algorithm waits for more, and there is no more.
        state.socket().set_nagle_enabled(false);
        self.connection.settle(&mut state, None);
        state.socket().set_nagle_enabled(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.connection.lock();
        state.socket().close();
        self.connection.settle(&mut state, None);
        Poll::Ready(Ok(()))
    }
}

impl Drop for GuestStream {
    fn drop(&mut self) {
        let mut state = self.connection.lock();
        state.release();
        self.connection.settle(&mut state, None);
    }
}
