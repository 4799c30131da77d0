//! The host's end: it begins epochs.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;

use crate::record::{Header, Kind, PAYLOAD_MAX, Side};
use crate::shared::Shared;
use crate::socket::Socket;
use crate::{ChannelError, EpochStream};

/// The host's end of a channel. What comes out of it is hostile.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
}

impl Channel {
    /// Takes the host's end of the socketpair; must be called in a tokio runtime.
    ///
    /// # Errors
    /// It is not a `SOCK_SEQPACKET` socket, or the runtime cannot watch it.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let shared = Shared::new(Socket::new(fd, Side::Host)?);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins an epoch, ending any other. `epoch` is a number not used before in this sandbox, also
    /// not by an earlier process: take it at random. Returns when the guest has been told, without
    /// waiting for its answer. Dropped half way, no epoch is current; call again.
    ///
    /// # Errors
    /// The channel is over for good.
    pub async fn open(&mut self, epoch: u32) -> Result<EpochStream, ChannelError> {
        self.shared.state().end_current()?;
        let mut scratch = vec![0; PAYLOAD_MAX];
        let header = Header { kind: Kind::Open, epoch };
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(sent) = self.shared.socket.poll_send(cx, header, &[]) {
                    return Poll::Ready(sent);
                }
                // A guest that is stuck in its own writing reads only once there is room again, so
                // what it has written for an earlier epoch is taken away meanwhile.
                match self.shared.poll_idle(cx, &mut self.shared.state(), &mut scratch) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await?;
        self.shared.state().begin(epoch);
        Ok(EpochStream::new(Arc::clone(&self.shared), epoch))
    }

    /// Why the channel is over for good, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<ChannelError> {
        self.shared.state().failure()
    }
}
