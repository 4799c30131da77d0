//! The guest's end: it serves the epochs that the host begins.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::record::{Header, Kind, PAYLOAD_MAX, Side};
use crate::shared::{Shared, State};
use crate::socket::Socket;
use crate::{ChannelError, EpochStream};

/// The guest's end of a channel.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    scratch: Vec<u8>,
}

impl Channel {
    /// Takes the guest's end of the socketpair; must be called in a tokio runtime.
    ///
    /// # Errors
    /// It is not a `SOCK_SEQPACKET` socket, or the runtime cannot watch it.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let shared = Shared::new(Socket::new(fd, Side::Guest)?);
        Ok(Self { shared: Arc::new(shared), scratch: vec![0; PAYLOAD_MAX] })
    }

    /// Waits for the next epoch. Keep it running while a stream is served: the stream is over as
    /// soon as the host begins another one, which whoever serves it learns by reading. May be dropped and called again.
    ///
    /// # Errors
    /// The channel is over for good; [`ChannelError::Closed`] when the host closed the socket.
    pub async fn accept(&mut self) -> Result<EpochStream, ChannelError> {
        let epoch = poll_fn(|cx| self.poll_accept(cx)).await?;
        Ok(EpochStream::new(Arc::clone(&self.shared), epoch))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32, ChannelError>> {
        let mut state = self.shared.state();
        loop {
            state.check()?;
            if let Some(epoch) = state.opened.take() {
                state.begin(epoch);
                return Poll::Ready(Ok(epoch));
            }
            state.wait_accept(cx);
            if state.current.is_some() {
                // The stream reads, and wakes us.
                return Poll::Pending;
            }
            self.pay_close(cx, &mut state)?;
            ready!(self.shared.poll_idle(cx, &mut state, &mut self.scratch))?;
        }
    }

    /// Tells the host about a stream that was dropped when there was no room to say so.
    fn pay_close(&self, cx: &mut Context<'_>, state: &mut State) -> Result<(), ChannelError> {
        let Some(epoch) = state.owed_close else { return Ok(()) };
        let header = Header { kind: Kind::Close, epoch };
        match self.shared.socket.poll_send(cx, header, &[]) {
            Poll::Ready(sent) => {
                state.owed_close = None;
                sent
            }
            Poll::Pending => Ok(()),
        }
    }
}
