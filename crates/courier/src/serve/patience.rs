//! A bound on how long a client may leave open which version of HTTP it speaks.
//!
//! Both versions come in on one port, and the library that tells them apart by a connection's first
//! bytes waits for those without a deadline; only then do the deadlines of either version begin.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first reads are due in time.
#[derive(Debug)]
pub(crate) struct Patience<S> {
    inner: S,
    undecided: Option<Undecided>,
}

#[derive(Debug)]
struct Undecided {
    /// What of the preface is still to come.
    rest: &'static [u8],
    deadline: Pin<Box<Sleep>>,
}

impl<S> Patience<S> {
    /// Gives a client so long from now.
    pub(crate) fn new(inner: S, patience: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(patience));
        Self { inner, undecided: Some(Undecided { rest: PREFACE, deadline }) }
    }
}

impl Undecided {
    /// Takes bytes; `None` once they tell the version.
    fn take(self, bytes: &[u8]) -> Option<Self> {
        let common = self.rest.get(..bytes.len())?;
        let rest = self.rest.get(bytes.len()..).filter(|rest| !rest.is_empty())?;
        (common == bytes).then_some(Self { rest, ..self })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(undecided) = &mut self.undecided
            && undecided.deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        if let Some(undecided) = self.undecided.take() {
            self.undecided = undecided.take(buffer.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
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
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Bytes that come one by one, and then nothing.
    async fn read(text: &[u8]) -> io::Result<Vec<u8>> {
        let (mut client, server) = tokio::io::duplex(1);
        let sending = text.to_vec();
        tokio::spawn(async move {
            let _sent = tokio::io::AsyncWriteExt::write_all(&mut client, &sending).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        let mut read = Vec::new();
        Patience::new(server, Duration::from_secs(1)).read_to_end(&mut read).await?;
        Ok(read)
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_version_is_known_a_connection_may_be_silent() {
        for text in [&b"G"[..], b"PRO", PREFACE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"] {
            assert_eq!(read(text).await.unwrap(), text);
        }
        for text in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(read(text).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }
}
