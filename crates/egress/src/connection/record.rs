//! Opaque connections: bytes both ways, and one record at the end, whatever ends them.

use std::io;
use std::sync::Arc;

use courier_types::DurationMs;
use courier_types::egress::{FlowEvent, FlowRefusal, HostName, Protocol, TunnelName};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::time::Instant;

use super::Place;
use super::guest::{Counters, GuestSide};
use crate::network::{Tasks, Ticket};

/// Buffer for each direction of an opaque connection in bytes: two TLS records of the largest size,
/// and 64 KiB for a connection.
const BUFFER: usize = 32 * 1024;

/// A connection that is being written down: dropping it writes the record.
#[derive(Debug)]
pub(super) struct Record {
    place: Place,
    host: Option<HostName>,
    tunnel: Option<TunnelName>,
    protocol: Protocol,
    counters: Arc<Counters>,
    since: Instant,
    tasks: Tasks,
    end: End,
}

/// How it ended.
#[derive(Debug)]
enum End {
    /// Not by itself: it was dropped.
    Dropped,
    /// By itself.
    Done,
    /// It did not come about, or broke.
    Failed(String),
    /// A fence refused it.
    Refused(FlowRefusal),
    /// Others write down what comes of it.
    HandedOn,
}

impl Record {
    /// A connection that begins now.
    pub(super) fn new(place: Place, protocol: Protocol, ticket: &Ticket) -> Self {
        Self {
            host: place.names.first().cloned(),
            place,
            tunnel: None,
            protocol,
            counters: Arc::default(),
            since: Instant::now(),
            tasks: ticket.tasks().clone(),
            end: End::Dropped,
        }
    }

    /// It is for that name.
    pub(super) fn host(mut self, host: Option<HostName>) -> Self {
        self.host = host;
        self
    }

    /// It goes through that tunnel.
    pub(super) fn tunnel(mut self, tunnel: TunnelName) -> Self {
        self.tunnel = Some(tunnel);
        self
    }

    /// It did not come about.
    pub(super) fn fail(mut self, why: String) {
        self.end = End::Failed(why);
    }

    /// A fence refused it.
    pub(super) fn refuse(mut self, refusal: FlowRefusal) {
        self.end = End::Refused(refusal);
    }

    /// Others write down what comes of it.
    pub(super) fn hand_on(mut self) {
        self.end = End::HandedOn;
    }

    /// Carries bytes both ways until both directions have ended, or one breaks.
    pub(super) async fn splice<G, U>(mut self, mut guest: GuestSide<G>, mut upstream: U)
    where
        G: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        self.counters = guest.counters();
        let copied = copy_bidirectional_with_sizes(&mut guest, &mut upstream, BUFFER, BUFFER).await;
        self.end = match copied {
            Ok(_counts) => End::Done,
            Err(error) => End::Failed(broken(&error)),
        };
    }
}

/// What broke, without anything of the host's.
fn broken(error: &io::Error) -> String {
    format!("the connection broke: {}", error.kind())
}

impl Record {
    /// Why it was dropped.
    fn why_dropped(&self) -> &'static str {
        if self.tasks.is_network_ended() {
            "the sandbox's network ended"
        } else if self.tasks.is_ended() {
            "closed: the policy was replaced and does not allow it"
        } else {
            "the sandbox ended the connection"
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let error = match std::mem::replace(&mut self.end, End::HandedOn) {
            End::Done => None,
            End::Failed(why) => Some(why),
            End::Dropped => Some(self.why_dropped().to_owned()),
            End::Refused(refusal) => {
                return self.place.refuse(self.host.as_ref(), Some(self.protocol), refusal);
            }
            End::HandedOn => return,
        };
        self.place.context.flows.write(FlowEvent::Connection {
            host: self.host.take(),
            tunnel: self.tunnel.take(),
            address: self.place.address,
            protocol: self.protocol,
            bytes_out: self.counters.bytes_out(),
            bytes_in: self.counters.bytes_in(),
            duration_ms: DurationMs::from(self.since.elapsed()),
            error,
        });
    }
}
