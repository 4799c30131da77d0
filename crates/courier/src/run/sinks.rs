//! Where a program's output goes: straight through, or into memory.

use std::io::ErrorKind;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use courier_client::execution::{OutputStream, Sink};
use tokio::io::{AsyncWriteExt as _, Stderr, Stdout};
use tokio::sync::Notify;

/// Passes output through, each piece at once and as it is.
#[derive(Debug)]
pub(crate) struct Live {
    stdout: Stdout,
    stderr: Stderr,
    broken: Arc<Notify>,
}

impl Live {
    /// Passes on to our own standard output and error. `broken` is told once nobody reads it.
    pub(crate) fn new(broken: Arc<Notify>) -> Self {
        Self { stdout: tokio::io::stdout(), stderr: tokio::io::stderr(), broken }
    }
}

#[async_trait]
impl Sink for Live {
    async fn output(&mut self, stream: OutputStream, chunk: Bytes) {
        let written = match stream {
            OutputStream::Stdout => {
                let written = self.stdout.write_all(&chunk).await;
                written.and(self.stdout.flush().await)
            }
            OutputStream::Stderr => {
                let written = self.stderr.write_all(&chunk).await;
                written.and(self.stderr.flush().await)
            }
        };
        if let Err(error) = written {
            if error.kind() != ErrorKind::BrokenPipe {
                tracing::error!(%error, "the output cannot be written");
            }
            self.broken.notify_one();
        }
    }
}

/// Keeps output; the execution's own bound keeps it small.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Standard output so far.
    pub(crate) stdout: Vec<u8>,
    /// Standard error so far.
    pub(crate) stderr: Vec<u8>,
}

#[async_trait]
impl Sink for Kept {
    async fn output(&mut self, stream: OutputStream, chunk: Bytes) {
        match stream {
            OutputStream::Stdout => self.stdout.extend_from_slice(&chunk),
            OutputStream::Stderr => self.stderr.extend_from_slice(&chunk),
        }
    }
}
