//! The socket: whole records in and out, never blocking, never more than a record may be.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, SocketType,
    sockopt,
};
use tokio::io::unix::AsyncFd;

use crate::ChannelError;
use crate::record::{HEADER_BYTES, Header, Side};

/// Bytes that the kernel may hold on the way, each way. The kernel grants less where
/// `net.core.wmem_max` is lower; a few records are enough.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// Most pieces of one write that go into one record.
const PIECES_MAX: usize = 16;

/// One end of the socketpair.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: AsyncFd<OwnedFd>,
    side: Side,
}

/// A received record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) header: Header,
    /// Payload bytes that went into the caller's buffer; the rest is in the overflow.
    pub(crate) payload: usize,
}

impl Socket {
    /// Takes an end; must be called in a tokio runtime.
    pub(crate) fn new(fd: OwnedFd, side: Side) -> io::Result<Self> {
        if sockopt::socket_type(&fd)? != SocketType::SEQPACKET {
            let message = "the channel is not a SOCK_SEQPACKET socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER_BYTES) {
            // The default is smaller, and works.
            Ok(()) | Err(Errno::PERM | Errno::NOPROTOOPT | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe code, and an OwnedFd cannot go wrong"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { fd, side })
    }

    /// Sends one record. `pieces` together are at most a record's payload.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        header: Header,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<(), ChannelError>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx)).map_err(|e| failed(&e))?;
            match guard.try_io(|fd| send(fd.get_ref(), header, pieces)) {
                Ok(sent) => return Poll::Ready(sent.map_err(|error| failed(&error))),
                Err(_would_block) => {}
            }
        }
    }

    /// Sends one record if there is room for it now.
    pub(crate) fn try_send(&self, header: Header) -> Result<(), ChannelError> {
        send(self.fd.get_ref(), header, &[]).map_err(|error| failed(&error))
    }

    /// Receives one record into `buffer`, and what does not fit there into `overflow`; together they
    /// hold at least a record's payload.
    pub(crate) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        overflow: &mut [u8],
    ) -> Poll<Result<Received, ChannelError>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx)).map_err(|e| failed(&e))?;
            let mut head = [0; HEADER_BYTES];
            match guard.try_io(|fd| receive(fd.get_ref(), &mut head, buffer, overflow)) {
                Ok(Ok(Ok(bytes))) => {
                    let header = Header::decode(self.side, head, bytes)?;
                    let payload = bytes.saturating_sub(HEADER_BYTES);
                    return Poll::Ready(Ok(Received { header, payload }));
                }
                Ok(Ok(Err(broken))) => return Poll::Ready(Err(broken)),
                Ok(Err(error)) => return Poll::Ready(Err(failed(&error))),
                Err(_would_block) => {}
            }
        }
    }
}

fn send(fd: &OwnedFd, header: Header, pieces: &[IoSlice<'_>]) -> io::Result<()> {
    let header = header.encode();
    let mut record = [IoSlice::new(&[]); PIECES_MAX + 1];
    let all = std::iter::once(IoSlice::new(&header)).chain(pieces.iter().copied());
    let mut count = 0;
    for (slot, piece) in record.iter_mut().zip(all) {
        *slot = piece;
        count += 1;
    }
    let record = record.get(..count).unwrap_or_default();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut control = SendAncillaryBuffer::default();
    loop {
        match rustix::net::sendmsg(fd, record, &mut control, flags) {
            Ok(_all_or_nothing) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

type Record = Result<usize, ChannelError>;

fn receive(
    fd: &OwnedFd,
    head: &mut [u8],
    buffer: &mut [u8],
    overflow: &mut [u8],
) -> io::Result<Record> {
    let mut record = [IoSliceMut::new(head), IoSliceMut::new(buffer), IoSliceMut::new(overflow)];
    let flags = RecvFlags::DONTWAIT;
    let mut control = RecvAncillaryBuffer::default();
    let message = loop {
        match rustix::net::recvmsg(fd, &mut record, &mut control, flags) {
            Ok(message) => break message,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    // There is no room for descriptors, so the kernel closes any and sets CTRUNC.
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Ok(Err(ChannelError::Oversized));
    }
    // Nobody sends an empty record, so this is the end.
    Ok(if message.bytes == 0 { Err(ChannelError::Closed) } else { Ok(message.bytes) })
}

fn failed(error: &io::Error) -> ChannelError {
    match Errno::from_io_error(error) {
        Some(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => ChannelError::Closed,
        Some(errno) => ChannelError::Socket(errno),
        None => ChannelError::Socket(Errno::IO),
    }
}

/// The first `limit` bytes of `pieces`, at most [`PIECES_MAX`] pieces; and how many bytes they are.
pub(crate) fn cut<'a>(
    pieces: &'a [IoSlice<'a>],
    limit: usize,
) -> ([IoSlice<'a>; PIECES_MAX], usize) {
    let mut kept = [IoSlice::new(&[]); PIECES_MAX];
    let mut bytes = 0;
    let some = pieces.iter().filter(|piece| !piece.is_empty());
    for (slot, piece) in kept.iter_mut().zip(some) {
        let room = limit - bytes;
        let piece = piece.get(..room.min(piece.len())).unwrap_or_default();
        *slot = IoSlice::new(piece);
        bytes += piece.len();
    }
    (kept, bytes)
}
