//! The body of a download: read in large pieces on a thread that may block, one piece ahead of the
//! client and no more, so that a slow client costs no thread and little memory.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use crate::buffers::Pool;
use crate::http::{Body, BoxError};

use super::gzip::{Gzip, Position};

/// Bytes read at once.
pub(super) const CHUNK: usize = 512 * 1_024;

/// Compressed bytes that make a piece worth sending.
const COMPRESSED_CHUNK: usize = 64 * 1_024;

/// Buffers kept for reuse by one download: the one being read, the one ahead, the one being sent.
const BUFFERS_KEPT: usize = 3;

/// What is left to be sent of a file.
#[derive(Debug)]
pub(super) struct Reader {
    /// Sent before anything of the file.
    first: Bytes,
    file: Option<File>,
    /// How many bytes of the file are to be sent; none for all that there are.
    left: Option<u64>,
    gzip: Option<Gzip>,
    pool: Pool,
}

impl Reader {
    /// Bytes that are there already.
    pub(super) fn of_bytes(bytes: Bytes) -> Self {
        Self {
            first: bytes,
            file: None,
            left: None,
            gzip: None,
            pool: Pool::new(CHUNK, BUFFERS_KEPT),
        }
    }

    /// `first`, then everything up to the file's end, wherever that is.
    pub(super) fn to_end(file: File, first: Bytes) -> Self {
        Self { file: Some(file), ..Self::of_bytes(first) }
    }

    /// As many bytes, from where the file stands.
    pub(super) fn exactly(file: File, length: u64) -> Self {
        Self { file: Some(file), left: Some(length), ..Self::of_bytes(Bytes::new()) }
    }

    /// The same, compressed.
    pub(super) fn compressed(self) -> Self {
        Self { gzip: Some(Gzip::default()), ..self }
    }

    /// The next piece as it is sent; empty at the end.
    fn next_piece(&mut self) -> io::Result<Bytes> {
        let Some(mut gzip) = self.gzip.take() else { return self.read_piece() };
        let mut output = Vec::new();
        while output.len() < COMPRESSED_CHUNK {
            let piece = self.read_piece()?;
            let position = if piece.is_empty() { Position::End } else { Position::Middle };
            gzip.compress(&piece, position, &mut output).map_err(io::Error::other)?;
            if position == Position::End {
                // Without a compressor and a file, the next piece is the empty one.
                self.file = None;
                return Ok(output.into());
            }
        }
        self.gzip = Some(gzip);
        Ok(output.into())
    }

    fn read_piece(&mut self) -> io::Result<Bytes> {
        if !self.first.is_empty() {
            return Ok(std::mem::take(&mut self.first));
        }
        let Some(file) = &self.file else { return Ok(Bytes::new()) };
        let most = self
            .left
            .map_or(CHUNK, |left| usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK)));
        if most == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = self.pool.take();
        let length = loop {
            match rustix::io::read(file, buffer.room(most)) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        if length == 0 && self.left.is_some() {
            let message = "the file became shorter while it was being sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        }
        Ok(buffer.into_bytes(length))
    }
}

type Job = JoinHandle<io::Result<(Reader, Bytes)>>;

/// A body that is read while it is sent.
#[derive(Debug)]
pub(super) struct FileBody {
    job: Option<Job>,
    left: Option<u64>,
}

impl FileBody {
    /// The body that sends what `reader` reads; it begins to read at once.
    pub(super) fn boxed(reader: Reader) -> Body {
        let left = reader.left;
        let job = (left != Some(0)).then(|| read_ahead(reader));
        Self { job, left }.boxed_unsync()
    }
}

fn read_ahead(mut reader: Reader) -> Job {
    tokio::task::spawn_blocking(move || {
        let piece = reader.next_piece()?;
        Ok((reader, piece))
    })
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(job) = &mut self.job else { return Poll::Ready(None) };
        let done = std::task::ready!(Pin::new(job).poll(context));
        self.job = None;
        let (reader, piece) = match done {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        if piece.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        }
        if self.left != Some(0) {
            self.job = Some(read_ahead(reader));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.job.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
