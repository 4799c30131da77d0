//! One connection of the guest: what is spoken on it, for which name, and whether it may go on.
//!
//! ```text
//! SYN ─▶ gate ─▶ refused (RST)
//!          ├─ any bytes: dialled first ─▶ splice
//!          ├─ a tunnel: opened first ─▶ splice
//!          ├─ a name refused in learn mode: looked at, written down, refused
//!          └─ looked at: sniff ─▶ TLS ─▶ judge ─▶ refused (alert) │ splice │ opened ─▶ HTTP
//!                          ├───▶ HTTP
//!                          └───▶ other bytes ─▶ refused │ splice
//! ```

mod gate;
mod guest;
mod inspected;
mod judge;
mod learn;
mod record;
mod sniff;
mod upstream;

use std::net::SocketAddrV4;
use std::sync::Arc;

use courier_types::egress::{FlowEvent, FlowRefusal, HostName, Protocol, Transport};

pub(crate) use self::gate::Gate;
pub(crate) use self::upstream::upstream;
use crate::dial::{DialError, Stream};
use crate::network::{Context, Tasks};
use crate::policy::Scheme;

/// A connection on which HTTP is spoken, in clear or in TLS that was opened.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// What it shares with the sandbox's other connections.
    pub(crate) context: Arc<Context>,
    /// Where tasks for it run: they end when the connection may not go on.
    pub(crate) tasks: Tasks,
    /// In clear or in TLS.
    pub(crate) scheme: Scheme,
    /// Where the guest went, and so where we go.
    pub(crate) address: SocketAddrV4,
    /// The names for which our own answers gave the address.
    pub(crate) names: Vec<HostName>,
    /// The server name of the TLS that was opened; one of `names`.
    pub(crate) server_name: Option<HostName>,
}

/// Where a connection leads.
#[derive(Debug, Clone)]
struct Place {
    context: Arc<Context>,
    /// Where the guest went, and so where we go.
    address: SocketAddrV4,
    /// The names for which our own answers gave the address, newest first.
    names: Vec<HostName>,
}

impl Place {
    /// A connection to it.
    async fn dial(&self, host: Option<&HostName>) -> Result<Box<dyn Stream>, DialError> {
        let dialer = self.context.dialer();
        // Boxed: connecting through a proxy with TLS takes a lot of state, once.
        Box::pin(dialer.dial(self.address, host)).await
    }

    /// Writes down that the connection was refused.
    fn refuse(&self, host: Option<&HostName>, protocol: Option<Protocol>, refusal: FlowRefusal) {
        self.context.flows.write(FlowEvent::Refused {
            transport: Transport::Tcp,
            host: host.or(self.names.first()).cloned(),
            address: Some(self.address),
            protocol,
            method: None,
            path: None,
            refusal,
            count: 1,
        });
    }
}
