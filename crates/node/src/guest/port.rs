//! A connection to a port inside, as a stream: its two directions are the bodies of one request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use courier_protocol::envd::ports;
use courier_protocol::node::BoxError;
use http::{Request, StatusCode, Uri};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::PollSender;

use super::body::AnswerBody;
use super::{Guest, absolute};
use crate::failure::GuestError;

/// Most connections to ports of one sandbox at a time: the rest of the requests in flight is left to
/// the guest daemon, whatever visitors do.
pub(super) const PORTS_LIMIT: usize = 768;

/// Longest time for the guest daemon to connect: its own attempts take up to 10 s for each family of
/// addresses where a server accepts nothing.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Pieces that wait to be sent; each is one frame.
const PIECES_LIMIT: usize = 4;

/// Most bytes of one piece.
const PIECE_BYTES: usize = 64 * 1_024;

/// A connection to a port inside. Reading ends where the server has ended its direction, and fails
/// where the connection or the sandbox was broken off; dropping it breaks it off.
pub(crate) struct PortStream {
    download: AnswerBody,
    unread: Bytes,
    upload: PollSender<Piece>,
    _permit: OwnedSemaphorePermit,
}

/// What goes to the server.
enum Piece {
    Data(Bytes),
    End,
}

/// The request's body. Without [`Piece::End`] it breaks off.
struct Upload {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

impl Guest {
    /// Connects to a port inside, on the loopback interface.
    pub(crate) async fn connect(&self, port: u16) -> Result<PortStream, GuestError> {
        let busy = |_exhausted| GuestError::Busy { limit: PORTS_LIMIT };
        let permit = self.ports.clone().try_acquire_owned().map_err(busy)?;
        let account = self.account()?;
        let (upload, pieces) = mpsc::channel(PIECES_LIMIT);
        let body = Upload { pieces, ended: false }.boxed_unsync();
        let path = Uri::try_from(ports::path(port))
            .map_err(|error| GuestError::Request(http::Error::from(error)))?;
        let request = Request::post(absolute(path)?).body(body).map_err(GuestError::Request)?;
        let mut sender = self.sender.clone();
        let asked = tokio::time::timeout(CONNECT_DEADLINE, sender.send_request(request));
        let answer = tokio::select! {
            biased;
            () = self.cut.cancelled() => return Err(GuestError::Ended),
            answer = asked => match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) if self.cut.is_cancelled() => return Err(GuestError::Ended),
                Ok(Err(error)) => return Err(GuestError::Connection(error)),
                Err(_elapsed) => return Err(GuestError::Late { after: CONNECT_DEADLINE }),
            },
        };
        match answer.status() {
            StatusCode::OK => Ok(PortStream {
                download: self.answer_body(answer.into_body(), account),
                unread: Bytes::new(),
                upload: PollSender::new(upload),
                _permit: permit,
            }),
            StatusCode::BAD_GATEWAY => Err(GuestError::PortClosed),
            status => Err(GuestError::Answer { path: ports::PORTS_PATH, status }),
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(context));
        if let Some(Piece::Data(bytes)) = piece {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        self.ended = true;
        // The guest daemon sees a reset, and not a proper end.
        let broken = piece.is_none().then(|| Err(GuestError::BodyBroken.into()));
        Poll::Ready(broken)
    }
}

impl AsyncRead for PortStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.download).poll_frame(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)));
                }
                Some(Ok(frame)) => self.unread = frame.into_data().unwrap_or_default(),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        let bytes = self.unread.split_to(count);
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl PortStream {
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        piece: impl FnOnce() -> Piece,
    ) -> Poll<io::Result<()>> {
        let gone = |_closed| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.upload.poll_reserve(context)).map_err(gone)?;
        Poll::Ready(self.upload.send_item(piece()).map_err(gone))
    }
}

impl AsyncWrite for PortStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = whole.min(PIECE_BYTES);
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        let gather = || {
            let mut bytes = BytesMut::with_capacity(count);
            for slice in slices {
                let room = count - bytes.len();
                bytes.extend_from_slice(slice.get(..room).unwrap_or(slice));
            }
            Piece::Data(bytes.freeze())
        };
        ready!(self.poll_piece(context, gather))?;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.upload.is_closed() {
            // Ended before, or the guest reads no more.
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_piece(context, || Piece::End))?;
        self.upload.close();
        Poll::Ready(Ok(()))
    }
}
