//! The guest's side of a connection: what was read to judge it is read again, and bytes are counted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Read from the guest.
    out: AtomicU64,
    /// Written to the guest.
    into: AtomicU64,
}

impl Counters {
    /// Bytes out of the sandbox.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.out.load(Ordering::Relaxed)
    }

    /// Bytes into the sandbox.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.into.load(Ordering::Relaxed)
    }
}

/// A stream whose first bytes were already read, and are read again.
#[derive(Debug)]
pub(crate) struct GuestSide<S> {
    first: io::Cursor<Vec<u8>>,
    stream: S,
    counters: Arc<Counters>,
}

impl<S> GuestSide<S> {
    /// A stream of which `first` was read.
    pub(crate) fn new(first: Vec<u8>, stream: S) -> Self {
        Self { first: io::Cursor::new(first), stream, counters: Arc::default() }
    }

    /// Its counters.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    fn count_out(&self, before: usize, after: usize) {
        let read = u64::try_from(after.saturating_sub(before)).unwrap_or(0);
        self.counters.out.fetch_add(read, Ordering::Relaxed);
    }

    fn count_in(&self, written: usize) {
        self.counters.into.fetch_add(u64::try_from(written).unwrap_or(0), Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuestSide<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let position = usize::try_from(this.first.position()).unwrap_or(usize::MAX);
        if position < this.first.get_ref().len() {
            ready!(Pin::new(&mut this.first).poll_read(cx, buf))?;
        } else {
            if !this.first.get_ref().is_empty() {
                this.first = io::Cursor::default();
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        self.count_out(before, buf.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuestSide<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.count_in(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.count_in(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn first_bytes_are_read_again_before_the_rest_and_all_are_counted() {
        let (mut guest, ours) = tokio::io::duplex(64);
        guest.write_all(b" world").await.unwrap();
        guest.shutdown().await.unwrap();
        let mut side = GuestSide::new(b"hello".to_vec(), ours);
        let mut text = String::new();
        side.read_to_string(&mut text).await.unwrap();
        side.write_all(b"bye").await.unwrap();
        assert_eq!(text, "hello world");
        assert_eq!((side.counters().bytes_out(), side.counters().bytes_in()), (11, 3));
    }
}
