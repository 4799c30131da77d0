//! The byte stream of one epoch.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::record::{Header, Kind, PAYLOAD_MAX};
use crate::shared::{Incoming, Shared};
use crate::socket::cut;

/// The byte stream of one epoch, like a connected socket.
///
/// It reads its end when the peer has closed it or when another epoch has begun; writing then fails
/// with `BrokenPipe`. Shutting it down or dropping it tells the peer and leaves the channel intact.
#[derive(Debug)]
pub struct EpochStream {
    shared: Arc<Shared>,
    epoch: u32,
    /// What did not fit into the reader's buffer; one allocation for the stream's life.
    overflow: Box<[u8]>,
    unread: std::ops::Range<usize>,
    close: Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Owed,
    Told,
}

impl EpochStream {
    /// A stream of an epoch that [`crate::shared::State::begin`] has begun.
    pub(crate) fn new(shared: Arc<Shared>, epoch: u32) -> Self {
        let overflow = vec![0; PAYLOAD_MAX].into_boxed_slice();
        Self { shared, epoch, overflow, unread: 0..0, close: Close::Owed }
    }

    /// The epoch's number.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    fn take_unread(&mut self, buffer: &mut ReadBuf<'_>) {
        let bytes = self.unread.len().min(buffer.remaining());
        let until = self.unread.start + bytes;
        buffer.put_slice(self.overflow.get(self.unread.start..until).unwrap_or_default());
        self.unread.start = until;
    }

    fn is_over(&self) -> Result<bool, crate::ChannelError> {
        let state = self.shared.state();
        state.check()?;
        Ok(self.close == Close::Told || state.current != Some(self.epoch))
    }
}

impl AsyncRead for EpochStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.unread.is_empty() {
            // No record holds more, and what is made ready is written to first.
            let most = buffer.remaining().min(PAYLOAD_MAX);
            let room = buffer.initialize_unfilled_to(most);
            let overflow = &mut this.overflow;
            let incoming = ready!(this.shared.poll_incoming(cx, this.epoch, room, overflow))?;
            let Incoming::Data(bytes) = incoming else { return Poll::Ready(Ok(())) };
            let direct = bytes.min(room.len());
            buffer.advance(direct);
            this.unread = 0..bytes - direct;
        } else {
            this.take_unread(buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EpochStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_over()? {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (pieces, bytes) = cut(pieces, PAYLOAD_MAX);
        if bytes == 0 {
            return Poll::Ready(Ok(0));
        }
        let header = Header { kind: Kind::Data, epoch: self.epoch };
        ready!(self.shared.poll_outgoing(cx, header, &pieces))?;
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_over()? {
            let header = Header { kind: Kind::Close, epoch: self.epoch };
            ready!(self.shared.poll_outgoing(cx, header, &[]))?;
            self.close = Close::Told;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for EpochStream {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if self.close == Close::Owed && state.current == Some(self.epoch) {
            let header = Header { kind: Kind::Close, epoch: self.epoch };
            // Without room now, whoever reads next sends it; without a peer, nobody needs it.
            if self.shared.socket.try_send(header).is_err() {
                state.owed_close = Some(self.epoch);
            }
        }
        state.end(self.epoch);
    }
}
