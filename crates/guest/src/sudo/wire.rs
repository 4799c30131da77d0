//! How client and daemon talk, over one stream socket.
//!
//! ```text
//!   client ─▶ request: one frame, with descriptors ─▶ signals: one byte each, until the end
//!   client ◀─ replies: frames
//! ```
//!
//! A frame is its length (u32, little endian) and JSON. The descriptors travel with the length:
//! standard input, output and error, then the working directory, if it can be opened.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::request::{Reply, Request};

/// Most bytes of a frame. The kernel gives a process 2 MiB of arguments and environment, of which a
/// byte takes two here, some six.
const FRAME_MAX_BYTES: usize = 8 * 1024 * 1024;

const LENGTH_BYTES: usize = 4;

/// Standard input, output and error.
const STDIO: usize = 3;

/// Those and the working directory.
const DESCRIPTORS_MAX: usize = STDIO + 1;

/// Why the two did not understand each other.
#[derive(Debug, Error)]
pub(super) enum WireError {
    /// The socket failed, or the other side is gone.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// There is too much to say.
    #[error("arguments and environment are too long: {bytes} bytes of at most {FRAME_MAX_BYTES}")]
    TooLong {
        /// Bytes of the frame.
        bytes: usize,
    },
    /// It is no JSON of that kind.
    #[error("the other side speaks another language")]
    Malformed(#[from] serde_json::Error),
    /// The descriptors are not those of a request.
    #[error("a request came with {count} descriptors")]
    Descriptors {
        /// How many there were.
        count: usize,
    },
}

/// What a command gets of its caller.
#[derive(Debug)]
pub(super) struct Streams {
    /// Standard input, output and error.
    pub(super) stdio: [OwnedFd; STDIO],
    /// The working directory, if the caller could open it.
    pub(super) folder: Option<OwnedFd>,
}

/// Sends a request with the descriptors of its caller.
///
/// # Errors
/// It is too long, or the daemon is gone.
pub(super) async fn send_request(
    stream: &mut UnixStream,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), WireError> {
    let (length, json) = frame(request)?;
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let pieces = [IoSlice::new(&length)];
        let flags = SendFlags::NOSIGNAL;
        Ok(rustix::net::sendmsg(stream.as_fd(), &pieces, &mut ancillary, flags)?)
    };
    let sent = stream.async_io(Interest::WRITABLE, send).await?;
    // On a fresh stream four bytes go at once or not at all.
    if sent != length.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero).into());
    }
    stream.write_all(&json).await?;
    Ok(())
}

/// Receives a request with the descriptors of its caller.
///
/// # Errors
/// It is too long or no request, or the client is gone.
pub(super) async fn receive_request(
    stream: &mut UnixStream,
) -> Result<(Request, Streams), WireError> {
    let mut length = [0; LENGTH_BYTES];
    let mut descriptors = Vec::with_capacity(DESCRIPTORS_MAX);
    let receive = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let pieces = &mut [IoSliceMut::new(&mut length)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(stream.as_fd(), pieces, &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(received.bytes)
    };
    // Another client than ours may send the length in pieces; nobody needs to serve it.
    if stream.async_io(Interest::READABLE, receive).await? != LENGTH_BYTES {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let count = descriptors.len();
    let mut descriptors = descriptors.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (descriptors.next(), descriptors.next(), descriptors.next())
    else {
        return Err(WireError::Descriptors { count });
    };
    let streams = Streams { stdio: [stdin, stdout, stderr], folder: descriptors.next() };
    Ok((read_json(stream, length).await?, streams))
}

/// Sends a reply.
///
/// # Errors
/// The client is gone.
pub(super) async fn send_reply(
    writer: &mut (impl AsyncWrite + Unpin),
    reply: &Reply,
) -> Result<(), WireError> {
    let (length, json) = frame(reply)?;
    writer.write_all(&length).await?;
    writer.write_all(&json).await?;
    Ok(())
}

/// Receives a reply.
///
/// # Errors
/// The daemon is gone, or what it says makes no sense.
pub(super) async fn receive_reply(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Reply, WireError> {
    let mut length = [0; LENGTH_BYTES];
    reader.read_exact(&mut length).await?;
    read_json(reader, length).await
}

fn frame(message: &impl Serialize) -> Result<([u8; LENGTH_BYTES], Vec<u8>), WireError> {
    let json = serde_json::to_vec(message)?;
    let bytes = json.len();
    match u32::try_from(bytes) {
        Ok(length) if bytes <= FRAME_MAX_BYTES => Ok((length.to_le_bytes(), json)),
        Ok(_) | Err(_) => Err(WireError::TooLong { bytes }),
    }
}

async fn read_json<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin),
    length: [u8; LENGTH_BYTES],
) -> Result<T, WireError> {
    let length = u32::from_le_bytes(length);
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if bytes > FRAME_MAX_BYTES {
        return Err(WireError::TooLong { bytes });
    }
    // It grows with what arrives, not with what was announced.
    let mut json = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut json).await?;
    if json.len() < bytes {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::super::request::{Ask, Caller};
    use super::super::text::Text;
    use super::*;

    fn request(word: &[u8]) -> Request {
        let ask = Ask::List(vec![Text::from(word)]);
        Request { ask, caller: Caller { environment: Vec::new(), uid: 1, gid: 2 } }
    }

    #[tokio::test]
    async fn a_request_of_all_that_a_process_can_have_arrives_with_its_descriptors() {
        let (mut client, mut daemon) = UnixStream::pair().unwrap();
        let asked = request(&vec![b'x'; 4 << 20]);
        let folder = std::fs::File::open("/").unwrap();
        let input = std::io::stdin();
        let descriptors = [input.as_fd(), input.as_fd(), input.as_fd(), folder.as_fd()];
        let (sent, received) = tokio::join!(
            send_request(&mut client, &asked, &descriptors),
            receive_request(&mut daemon)
        );
        sent.unwrap();
        let (request, streams) = received.unwrap();
        assert_eq!(request, asked);
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(&streams.folder.unwrap()), inode(&folder.into()));
    }

    #[tokio::test]
    async fn more_than_that_is_not_even_sent() {
        let (mut client, _daemon) = UnixStream::pair().unwrap();
        let asked = request(&vec![b'x'; FRAME_MAX_BYTES]);
        let input = std::io::stdin();
        let error = send_request(&mut client, &asked, &[input.as_fd()]).await.unwrap_err();
        assert!(matches!(error, WireError::TooLong { .. }));
    }

    #[tokio::test]
    async fn a_length_beyond_the_bound_is_refused_before_the_rest_is_read() {
        let (mut client, daemon) = UnixStream::pair().unwrap();
        client.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        let (mut reader, _writer) = daemon.into_split();
        let error = receive_reply(&mut reader).await.unwrap_err();
        assert!(matches!(error, WireError::TooLong { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_request_without_streams_is_refused() {
        let (mut client, mut daemon) = UnixStream::pair().unwrap();
        client.write_all(&2_u32.to_le_bytes()).await.unwrap();
        let error = receive_request(&mut daemon).await.unwrap_err();
        assert!(matches!(error, WireError::Descriptors { count: 0 }), "{error}");
    }

    #[tokio::test]
    async fn a_request_that_breaks_off_is_no_request() {
        let (mut client, mut daemon) = UnixStream::pair().unwrap();
        client.write_all(&9_u32.to_le_bytes()[..2]).await.unwrap();
        drop(client);
        assert!(matches!(receive_request(&mut daemon).await, Err(WireError::Broken(_))));
    }
}
