//! The TCP/IP stack in user space at the host's end of a sandbox's link.
//!
//! ```text
//! link ─▶ task (one per sandbox) ─▶ what is it?
//!           ├─ question to the resolver ─▶ Services::dns ─▶ answer
//!           ├─ SYN ─▶ Services::admit ─▶ RST │ a connection of its own ─▶ GuestStream
//!           ├─ segment of a connection ─▶ that connection
//!           └─ anything else ─▶ refused: RST, port unreachable or nothing; Services::refused
//! ```
//!
//! What always holds: packets are read from nowhere else and forwarded to nowhere; no packet makes a
//! connection before `admit` said so; every table, queue and buffer has a bound; whatever ends the
//! task ends every connection and closes the link.
//!
//! A connection is a TCP state machine of its own, behind a lock of its own. Packets find theirs by
//! its ends, so an idle connection costs nothing; who reads or writes a [`GuestStream`] drives it
//! without a detour over another task, and a task for each connection only waits for its timers and
//! for room in the link.

mod connection;
mod device;
mod link;
mod pace;
mod packet;
mod reply;
mod stream;
mod table;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use courier_types::link::{
    LINK_GUEST as GUEST, LINK_HOST as HOST, LINK_MTU, LINK_PREFIX as PREFIX,
};
use futures_util::future::BoxFuture;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::link::Link;
pub(crate) use self::packet::RefusedPacket;
pub(crate) use self::stream::GuestStream;
use self::table::Table;
use self::task::Stack;

/// What the stack asks of the rest of the crate.
pub(crate) trait Services: Send + Sync + 'static {
    /// The answer to one datagram to our resolver, or none. At most `task::DNS_IN_FLIGHT` are asked
    /// at once for a sandbox, with at most `packet::QUERY_MAX` bytes each.
    fn dns(&self, query: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>>;

    /// Whether a connection may be opened, asked once for each pair of ends. The guest hears nothing
    /// before the answer, and is refused after `task::ADMIT_PATIENCE`.
    fn admit(&self, to: SocketAddrV4) -> BoxFuture<'static, Admission>;

    /// A packet had no business here; for the flow log. Must not block.
    fn refused(&self, what: RefusedPacket);
}

/// What serves one accepted connection. Its future is dropped with the stack.
pub(crate) type Serve = Box<dyn FnOnce(GuestStream) -> BoxFuture<'static, ()> + Send>;

/// Whether a connection is opened.
pub(crate) enum Admission {
    /// The guest gets a RST.
    Refuse,
    /// The guest gets its connection, which is served once it is established.
    Accept(Serve),
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Refuse => "Refuse",
            Self::Accept(_) => "Accept",
        })
    }
}

/// A running stack. Dropping it aborts every connection and closes the link.
pub(crate) struct StackHandle {
    table: Arc<Table>,
    tracker: TaskTracker,
    _end: DropGuard,
}

impl fmt::Debug for StackHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.connections();
        formatter.debug_struct("StackHandle").field("connections", &connections).finish()
    }
}

impl StackHandle {
    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.table.open()
    }

    /// Waits until the stack has ended: the link ended, or it broke.
    pub(crate) async fn closed(&self) {
        self.tracker.wait().await;
    }
}

/// Runs a stack on a link: a connected `SOCK_SEQPACKET` socket, one record an IP packet. Must be
/// called within a runtime.
pub(crate) fn spawn(link: OwnedFd, services: Arc<dyn Services>) -> io::Result<StackHandle> {
    let link = Arc::new(Link::new(link)?);
    let table = Arc::new(Table::default());
    let end = CancellationToken::new();
    let tracker = TaskTracker::new();
    let stack = Stack::new(link, Arc::clone(&table), services);
    tracker.spawn(stack.run(end.clone()));
    tracker.close();
    Ok(StackHandle { table, tracker, _end: end.drop_guard() })
}
