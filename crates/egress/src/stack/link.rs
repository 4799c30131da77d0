//! The link: one record of a `SOCK_SEQPACKET` socket is one IP packet.
//!
//! This is the seam for links of another form: what they add to a packet is taken off and put on
//! here, and nowhere else.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::LINK_MTU;

/// What became of a packet that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The guest has it, or never will: the link is gone.
    Done,
    /// There is no room in the link: again once [`Link::writable`].
    Full,
}

/// A link's end.
#[derive(Debug)]
pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
}

impl Link {
    /// Takes a connected socket over.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            let message = "the link is not a SOCK_SEQPACKET socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // The kernel refuses packets that are longer than this, however empty the link is.
        if sockopt::socket_send_buffer_size(&socket)? < 2 * LINK_MTU {
            let message = "the link has no room for a packet";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe code, and an OwnedFd cannot go wrong"
        )]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { socket })
    }

    /// The next packet; `None` at the end of the link. A record that is too long to be a packet is
    /// an empty one; an empty record is the end, as nothing tells them apart.
    pub(super) async fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let count = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                // A plain receive: descriptors that are sent along are dropped by the kernel.
                rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC)
                    .map(|(_, count)| count)
                    .map_err(io::Error::from)
            })
            .await?;
        Ok(match count {
            0 => None,
            1..=LINK_MTU => buffer.get(..count),
            _ => Some(&[]),
        })
    }

    /// Sends a packet, or nothing of it.
    pub(super) fn send(&self, packet: &[u8]) -> Sent {
        let sent = self.socket.try_io(Interest::WRITABLE, |socket| {
            loop {
                match rustix::net::send(socket, packet, SendFlags::NOSIGNAL) {
                    Err(Errno::INTR) => {}
                    other => return other.map_err(io::Error::from),
                }
            }
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            // Whoever receives learns of a broken link; a lost packet is no news to a sender.
            Ok(_) | Err(_) => Sent::Done,
        }
    }

    /// Waits until there may be room.
    pub(super) async fn writable(&self) {
        // An error shows at the next use of the link.
        let _ready = self.socket.writable().await;
    }
}
