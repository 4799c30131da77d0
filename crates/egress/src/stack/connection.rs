//! One TCP connection of the guest: smoltcp's state machine behind a lock.
//!
//! ```text
//! SYN ─▶ Opening ──ACK──▶ Open ──both FINs, a RST, or too long without them──▶ Finished
//!           └──── RST, or OPENING_PATIENCE ───────────────────────────────────────┘
//! ```
//!
//! Whoever has something to do with a connection does it at once, packets included: the stack's task
//! with a packet that came, a [`super::GuestStream`] with bytes. [`Connection::drive`] does what is
//! left: timers, and packets that found no room in the link. What always holds after an operation:
//! there is nothing left to send, or `drive` has been told.
//!
//! Memory: a buffer in each direction and one packet, see [`Buffers`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{self, State as TcpState};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpEndpoint};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::LINK_MTU;
use super::device::Device;
use super::link::Link;
use super::packet::Ends;

/// How much a connection holds. Buffers that are not yet used cost nothing where the allocator takes
/// them fresh from the kernel, and all of their size where it uses memory again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffers {
    /// Four of the link's packets in each direction, so that both ends of the link work at once: less
    /// was slower when measured, and more was not faster.
    Large,
    /// Half a packet in each direction: a third of the throughput or more, an eighth of the memory.
    Small,
}

impl Buffers {
    /// The size of each of both buffers, in bytes.
    const fn bytes(self) -> usize {
        match self {
            Self::Large => 4 * LINK_MTU,
            Self::Small => LINK_MTU / 2,
        }
    }
}

/// How long the guest may take to acknowledge that its connection was accepted.
const OPENING_PATIENCE: Duration = Duration::from_secs(10);
/// How long the guest may take to close its half once nobody here reads it any more.
const CLOSING_PATIENCE: Duration = Duration::from_secs(30);
/// The most packets that are sent in one go, so that nobody holds a connection, or a thread, for
/// long when the guest wants small ones.
const BURST: usize = 16;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The guest has not yet acknowledged that it was accepted.
    Opening,
    /// It is established; each half may be closed.
    Open,
    /// No packet of it will come or go.
    Finished,
}

/// What is left to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    /// Until when at most.
    until: Option<Instant>,
    /// For room in the link.
    room: bool,
    /// For nothing: more can be sent at once.
    again: bool,
}

/// A connection.
pub(super) struct Connection {
    /// Where smoltcp's clock begins.
    epoch: Instant,
    changed: Notify,
    state: Mutex<State>,
}

pub(super) struct State {
    /// Absent once the connection is finished, or the stack.
    link: Option<Arc<Link>>,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// A packet that the link had no room for.
    unsent: Option<Box<[u8]>>,
    /// What [`Connection::drive`] waits for now.
    waits: Option<Wait>,
    /// When the guest's patience with us ends, or ours with it.
    abort_at: Option<Instant>,
    phase: Phase,
    reader: Reader,
}

/// Who takes what the guest sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// A stream.
    Stream,
    /// Nobody: the stream is gone, its own half was shut down, and the guest may finish its own.
    Nobody,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection that answers to the SYN with those ends.
    pub(super) fn new(link: Arc<Link>, ends: Ends, buffers: Buffers) -> Option<Self> {
        let epoch = Instant::now();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = rand::random();
        let mut unsent = None;
        let mut device = Device::new(&link, None, &mut unsent);
        let mut interface = Interface::new(config, &mut device, StackInstant::ZERO);
        // Which address is meant has been decided by then: the socket listens to no other.
        interface.set_any_ip(true);
        let buffer = || tcp::SocketBuffer::new(vec![0; buffers.bytes()]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // What comes is acknowledged at once, as that costs less than a timer.
        socket.set_ack_delay(None);
        socket.listen(IpEndpoint::from(ends.to)).ok()?;
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        let state = State {
            link: Some(link),
            interface,
            sockets,
            handle,
            unsent,
            waits: None,
            abort_at: Some(epoch + OPENING_PATIENCE),
            phase: Phase::Opening,
            reader: Reader::Stream,
        };
        Some(Self { epoch, changed: Notify::new(), state: Mutex::new(state) })
    }

    /// A lock that a panic left is taken all the same: what is behind it is at worst a connection
    /// that makes no sense to the guest.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A packet of this connection came.
    pub(super) fn receive(&self, packet: &[u8]) {
        self.settle(&mut self.lock(), Some(packet));
    }

    /// Does what is left to do until the connection leaves a phase; returns the next one.
    pub(super) async fn drive(&self, phase: Phase) -> Phase {
        loop {
            let (wait, link) = {
                let mut state = self.lock();
                state.waits = None;
                let wait = self.pump(&mut state, None);
                if state.phase != phase {
                    return state.phase;
                }
                state.waits = Some(wait);
                (wait, state.link.clone())
            };
            if wait.again {
                tokio::task::yield_now().await;
                continue;
            }
            let room = async {
                match link.filter(|_| wait.room) {
                    Some(link) => link.writable().await,
                    None => std::future::pending().await,
                }
            };
            let time = async {
                match wait.until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = room => {}
                () = time => {}
            }
        }
    }

    /// Ends the connection with a RST, as far as there is room for it.
    pub(super) fn abort(&self) {
        let mut state = self.lock();
        state.socket().abort();
        self.settle(&mut state, None);
    }

    /// Ends the connection with the stack: nothing of it touches the link from here on.
    pub(super) fn sever(&self) {
        self.abort();
        let mut state = self.lock();
        state.link = None;
        state.unsent = None;
        state.phase = Phase::Finished;
        self.changed.notify_one();
    }

    /// Pumps, and tells `drive` if that changed what it has to wait for.
    pub(super) fn settle(&self, state: &mut State, packet: Option<&[u8]>) {
        let phase = state.phase;
        let wait = self.pump(state, packet);
        let sooner = state.waits.is_none_or(|waits| {
            let earlier = match (wait.until, waits.until) {
                (Some(until), Some(awaited)) => until < awaited,
                (Some(_), None) => true,
                (None, _) => false,
            };
            earlier || wait.again || (wait.room && !waits.room)
        });
        if sooner || state.phase != phase {
            self.changed.notify_one();
        }
    }

    /// Takes a packet in, and sends what can be sent.
    fn pump(&self, state: &mut State, packet: Option<&[u8]>) -> Wait {
        let idle = Wait { until: None, room: false, again: false };
        let Some(link) = state.link.clone() else { return idle };
        let now = Instant::now();
        if state.abort_at.is_some_and(|at| at <= now) {
            state.abort_at = None;
            state.socket().abort();
        }
        let time = self.time(now);
        let mut device = Device::new(&link, packet, &mut state.unsent);
        if packet.is_some() {
            state.interface.poll_ingress_single(time, &mut device, &mut state.sockets);
        }
        let mut burst = 0;
        while burst < BURST {
            match state.interface.poll_egress(time, &mut device, &mut state.sockets) {
                PollResult::None => break,
                PollResult::SocketStateChanged => burst += 1,
            }
        }
        state.advance();
        if state.phase == Phase::Finished {
            return idle;
        }
        if state.unsent.is_some() {
            return Wait { until: state.abort_at, room: true, again: false };
        }
        let timer = state.interface.poll_at(time, &state.sockets);
        let until =
            timer.map(|at| self.epoch + Duration::from_micros(at.total_micros().unsigned_abs()));
        let until = [until, state.abort_at].into_iter().flatten().min();
        Wait { until, room: false, again: burst == BURST }
    }

    fn time(&self, now: Instant) -> StackInstant {
        StackInstant::ZERO + now.saturating_duration_since(self.epoch).into()
    }
}

impl State {
    /// The socket; what is done to it has to be settled.
    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Nobody reads any more. The guest may finish its half if ours is finished, which is how what was
    /// written last gets to a guest that is still sending; otherwise the connection is aborted.
    pub(super) fn release(&mut self) {
        if self.socket().may_send() {
            self.socket().abort();
        } else {
            self.reader = Reader::Nobody;
            self.abort_at = Some(Instant::now() + CLOSING_PATIENCE);
        }
    }

    /// Draws the conclusions from the socket's state.
    fn advance(&mut self) {
        if self.reader == Reader::Nobody {
            self.discard();
        }
        let nothing_unsent = self.unsent.is_none();
        let socket = self.socket();
        let over = match socket.state() {
            // A RST to our SYN-ACK makes smoltcp listen again: there was one SYN, and that is it.
            TcpState::Listen => socket.remote_endpoint().is_none(),
            // The endpoint goes with the RST that tells the guest.
            TcpState::Closed => socket.remote_endpoint().is_none(),
            // Nothing gets lost on the link: the last acknowledgement needs no second one.
            TcpState::TimeWait => true,
            TcpState::SynSent | TcpState::SynReceived => return,
            TcpState::Established
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::CloseWait
            | TcpState::Closing
            | TcpState::LastAck => false,
        };
        if over && nothing_unsent {
            self.phase = Phase::Finished;
            self.link = None;
        } else if self.phase == Phase::Opening {
            self.phase = Phase::Open;
            self.abort_at = None;
        }
    }

    /// Drops what the guest sends and nobody reads.
    fn discard(&mut self) {
        // An error means that there is nothing to read, now or ever.
        while self.socket().recv(|data| (data.len(), data.len())).is_ok_and(|count| count > 0) {}
    }
}
