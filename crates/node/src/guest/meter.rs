//! Bounds what a guest may send without being asked. HTTP/2 bounds memory, but not work: pings,
//! settings and empty frames cost this process time and no flow control holds them back. So all
//! bytes that come are counted against what requests, uploads and delivered answers account for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection may send without any request: years of pings.
const FREE_BYTES: u64 = 64 * 1_024 * 1_024;

/// What a request accounts for: its head, and one window of data that nobody reads any more.
const REQUEST_BYTES: u64 = 1_280 * 1_024;

/// What a delivered byte accounts for: an answer in small pieces is mostly framing.
const DELIVERED_FACTOR: u64 = 4;

/// What framing adds to a piece of an answer (RFC 9113, section 4.1). A server may well answer byte by
/// byte; an empty piece is delivered to nobody and accounts for nothing.
const FRAME_HEADER_BYTES: usize = 9;

/// Sent bytes of which the guest's one byte of window updates may come.
const SENT_DIVISOR: u64 = 4;

/// The account of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    received: AtomicU64,
    allowed: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { received: AtomicU64::new(0), allowed: AtomicU64::new(FREE_BYTES) }
    }
}

impl Meter {
    /// A request begins.
    pub(super) fn requested(&self) {
        self.allow(REQUEST_BYTES);
    }

    /// A piece of an answer went on to whoever asked.
    pub(super) fn delivered(&self, bytes: usize) {
        if bytes > 0 {
            self.allow(count(bytes + FRAME_HEADER_BYTES).saturating_mul(DELIVERED_FACTOR));
        }
    }

    fn sent(&self, bytes: usize) {
        self.allow(count(bytes) / SENT_DIVISOR);
    }

    /// An atomic sum of what cannot reach 2^64 in the life of a machine.
    fn allow(&self, bytes: u64) {
        self.allowed.fetch_add(bytes, Ordering::Relaxed);
    }

    fn received(&self, bytes: usize) -> io::Result<()> {
        let received = self.received.fetch_add(count(bytes), Ordering::Relaxed) + count(bytes);
        if received <= self.allowed.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the guest floods its channel with what nobody asked for",
        ))
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(super) const fn new(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        Poll::Ready(self.meter.received(buffer.filled().len().saturating_sub(before)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.meter.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, pieces))?;
        self.meter.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_flood_that_nobody_asked_for_ends_the_connection() {
        let (mut guest, host) = tokio::io::duplex(1 << 20);
        let mut host = Metered::new(host, Arc::new(Meter::default()));
        let flood = tokio::spawn(async move {
            let piece = vec![0; 1 << 20];
            while guest.write_all(&piece).await.is_ok() {}
        });
        let mut buffer = vec![0; 1 << 20];
        let mut read = 0;
        let error = loop {
            match host.read(&mut buffer).await {
                Ok(bytes) => read += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read <= 64 << 20, "{read}");
        drop(host);
        flood.await.unwrap();
    }

    #[test]
    fn empty_pieces_are_a_flood() {
        let meter = Meter::default();
        let flooded = (0..8 << 20).any(|_piece| {
            meter.delivered(0);
            meter.received(FRAME_HEADER_BYTES).is_err()
        });
        assert!(flooded);
    }

    #[test]
    fn what_was_delivered_or_asked_for_never_counts_as_a_flood() {
        let meter = Meter::default();
        for _answer in 0..10_000 {
            meter.received(1 << 20).unwrap();
            meter.delivered(1 << 20);
        }
        meter.received(64 << 20).unwrap();
        for _byte in 0..1 << 20 {
            meter.received(1 + FRAME_HEADER_BYTES).unwrap();
            meter.delivered(1);
        }
        let meter = Meter::default();
        meter.received(64 << 20).unwrap();
        for _cancelled in 0..1_000 {
            meter.requested();
            meter.received(1 << 20).unwrap();
        }
    }
}
