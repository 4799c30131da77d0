//! What an end of the channel and its streams share: the socket, and which epoch it is.
//!
//! ```text
//!            open             accept (guest)
//!   idle ───────────▶ opened ───────────────▶ current ──▶ over (close, another open, dropped)
//! ```
//!
//! On the host, `open` goes straight to current. One stream, or nobody, reads at a time: whoever
//! receives holds the lock while it does, and checks under it that the epoch is still its own. So a
//! former stream can never swallow a record of its successor.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use crate::ChannelError;
use crate::record::{Header, Kind, STALE_RECORDS_MAX};
use crate::socket::{Received, Socket};

/// Shared by an end and its streams.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) socket: Socket,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The epoch whose stream lives.
    pub(crate) current: Option<u32>,
    /// Guest: the epoch that the host has opened and nobody accepted yet.
    pub(crate) opened: Option<u32>,
    /// An epoch that is over here while the peer was not told yet: there was no room.
    pub(crate) owed_close: Option<u32>,
    /// Why the channel is over for good.
    failure: Option<ChannelError>,
    stale: u32,
    wakers: Wakers,
}

/// Who waits. The socket itself keeps only the last one of each direction.
#[derive(Debug, Default)]
struct Wakers {
    stream_read: Option<Waker>,
    stream_write: Option<Waker>,
    accept: Option<Waker>,
}

/// What a stream finds when it looks for a record.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Payload bytes of its epoch.
    Data(usize),
    /// Its epoch is over.
    Over,
}

impl State {
    /// Begins an epoch, ending any other.
    pub(crate) fn begin(&mut self, epoch: u32) {
        self.current = Some(epoch);
        self.stale = 0;
        self.wake_stream();
    }

    /// Ends an epoch, if it is still the one.
    pub(crate) fn end(&mut self, epoch: u32) {
        if self.current == Some(epoch) {
            self.current = None;
            self.wake_stream();
            self.wake_accept();
        }
    }

    /// Ends whatever epoch it is, unless the channel is over for good.
    pub(crate) fn end_current(&mut self) -> Result<(), ChannelError> {
        self.check()?;
        if let Some(epoch) = self.current {
            self.end(epoch);
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), ChannelError> {
        self.failure.map_or(Ok(()), Err)
    }

    pub(crate) fn failure(&self) -> Option<ChannelError> {
        self.failure
    }

    pub(crate) fn wait_accept(&mut self, cx: &Context<'_>) {
        keep(&mut self.wakers.accept, cx);
    }

    fn wake_stream(&mut self) {
        let wakers = [self.wakers.stream_read.take(), self.wakers.stream_write.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn wake_accept(&mut self) {
        self.wakers.accept.take().into_iter().for_each(Waker::wake);
    }

    fn fail(&mut self, error: ChannelError) {
        self.failure.get_or_insert(error);
        self.current = None;
        self.wake_stream();
        self.wake_accept();
    }

    /// Takes note of a record; says how many bytes of it are for the stream of the current epoch.
    fn note(&mut self, received: Received) -> Result<usize, ChannelError> {
        let Header { kind, epoch } = received.header;
        match kind {
            Kind::Open => {
                // A peer that repeats itself must not be answered with a second stream.
                if self.opened != Some(epoch) {
                    self.opened = Some(epoch);
                    self.current = None;
                    self.wake_stream();
                    self.wake_accept();
                }
            }
            Kind::Data if self.current == Some(epoch) => return Ok(received.payload),
            Kind::Close if self.opened == Some(epoch) => self.opened = None,
            Kind::Close if self.current == Some(epoch) => self.end(epoch),
            Kind::Data | Kind::Close => {
                self.stale += 1;
                if self.stale > STALE_RECORDS_MAX {
                    return Err(ChannelError::Stale);
                }
            }
        }
        Ok(0)
    }
}

impl Shared {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, state: Mutex::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives for the stream of `epoch` until there are bytes for it or it is over.
    pub(crate) fn poll_incoming(
        &self,
        cx: &mut Context<'_>,
        epoch: u32,
        buffer: &mut [u8],
        overflow: &mut [u8],
    ) -> Poll<Result<Incoming, ChannelError>> {
        let mut state = self.state();
        loop {
            state.check()?;
            if state.current != Some(epoch) {
                return Poll::Ready(Ok(Incoming::Over));
            }
            let received = match self.socket.poll_receive(cx, buffer, overflow) {
                Poll::Ready(received) => received,
                Poll::Pending => {
                    keep(&mut state.wakers.stream_read, cx);
                    return Poll::Pending;
                }
            };
            let bytes = Self::noted(&mut state, received)?;
            if bytes > 0 {
                return Poll::Ready(Ok(Incoming::Data(bytes)));
            }
        }
    }

    /// Receives while no stream does, and drops what is data.
    pub(crate) fn poll_idle(
        &self,
        cx: &mut Context<'_>,
        state: &mut State,
        scratch: &mut [u8],
    ) -> Poll<Result<(), ChannelError>> {
        state.check()?;
        let received = ready!(self.socket.poll_receive(cx, &mut [], scratch));
        Self::noted(state, received)?;
        Poll::Ready(Ok(()))
    }

    /// Sends a record of the stream of `epoch`; the peer drops it where the epoch is over there.
    pub(crate) fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        header: Header,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<(), ChannelError>> {
        let sent = self.socket.poll_send(cx, header, pieces);
        if let Poll::Ready(Err(error)) = sent {
            self.state().fail(error);
        }
        if sent.is_pending() {
            let mut state = self.state();
            if state.current != Some(header.epoch) {
                return Poll::Ready(state.check());
            }
            keep(&mut state.wakers.stream_write, cx);
        }
        sent
    }

    fn noted(
        state: &mut State,
        received: Result<Received, ChannelError>,
    ) -> Result<usize, ChannelError> {
        received.and_then(|received| state.note(received)).inspect_err(|error| state.fail(*error))
    }
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
