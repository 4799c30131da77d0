//! Bodies for code that blocks: written to by a thread while they are sent, and read by one while
//! they arrive. Few pieces are under way at any time.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::http::{Body, BoxError};

/// Bytes sent at once.
const PIECE_BYTES: usize = 256 * 1_024;

/// Pieces under way.
const PIECES_MAX: usize = 4;

/// Longest silence in the middle of an upload.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// How long the rest of an upload that was refused is still taken in, so that a client that sends
/// first and reads then gets to read the answer.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// What is done when a body was taken to its end.
type AtEnd = Box<dyn FnOnce() + Send>;

enum Piece {
    Bytes(Bytes),
    Failed(BoxError),
    End(AtEnd),
}

/// Where a thread writes a body.
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
}

/// A body, and what it is written to.
pub(super) fn outgoing() -> (Outgoing, Body) {
    let (sender, mut receiver) = mpsc::channel(PIECES_MAX);
    let mut is_over = false;
    let frames = stream::poll_fn(move |context| {
        if is_over {
            return std::task::Poll::Ready(None);
        }
        receiver.poll_recv(context).map(|piece| match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End(at_end)) => {
                is_over = true;
                at_end();
                None
            }
            Some(Piece::Failed(error)) => {
                is_over = true;
                Some(Err(error))
            }
            None => {
                is_over = true;
                Some(Err("whoever wrote this ended".into()))
            }
        })
    });
    (Outgoing { buffer: Vec::new(), pieces: sender }, StreamBody::new(frames).boxed_unsync())
}

impl Outgoing {
    /// Ends the body well; `at_end` is done when it was taken whole.
    pub(super) fn end(mut self, at_end: impl FnOnce() + Send + 'static) {
        if self.flush().is_ok() {
            // Nobody waits for it any more otherwise.
            let _gone = self.pieces.blocking_send(Piece::End(Box::new(at_end)));
        }
    }

    /// A way to break the body off.
    pub(super) fn breaker(&self) -> Breaker {
        Breaker(self.pieces.clone())
    }

    fn send(&self, bytes: Vec<u8>) -> io::Result<()> {
        let sent = self.pieces.blocking_send(Piece::Bytes(bytes.into()));
        sent.map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.buffer) {
            empty if empty.is_empty() => Ok(()),
            bytes => self.send(bytes),
        }
    }
}

/// Breaks a body off.
pub(super) struct Breaker(mpsc::Sender<Piece>);

impl Breaker {
    /// Whoever reads the body learns of the error instead of its end.
    pub(super) fn fail(self, error: impl Into<BoxError>) {
        let _gone = self.0.blocking_send(Piece::Failed(error.into()));
    }
}

/// A body that a thread reads.
pub(super) struct Arriving {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// Takes a body in. The task ends with the body, or when nothing comes any more.
pub(super) fn arriving(mut body: Body) -> (Arriving, JoinHandle<()>) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let task = tokio::spawn(async move {
        loop {
            let frame = tokio::time::timeout(IDLE_MAX, body.frame()).await;
            let piece = match frame {
                Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came")),
                Ok(None) => return,
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Ok(bytes),
                    Err(_trailers) => continue,
                },
            };
            let is_last = piece.is_err();
            // Where nobody reads, the rest is dropped.
            let _unread = sender.send(piece).await;
            if is_last {
                return;
            }
        }
    });
    (Arriving { pieces, rest: Bytes::new() }, task)
}

/// Waits until the rest of a body was taken in, or for as long as is worth it.
pub(super) async fn drain(task: JoinHandle<()>) {
    let abort = task.abort_handle();
    if tokio::time::timeout(DRAIN_MAX, task).await.is_err() {
        abort.abort();
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        let (room, _) = buffer.split_at_mut(length);
        self.rest.copy_to_slice(room);
        Ok(length)
    }
}
