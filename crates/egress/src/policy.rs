//! The one decision function. Pure: no I/O, no clock, no logging.
//!
//! DNS, the gate in front of connections, TLS, HTTP, `explain` and the bench all ask here, and
//! nothing else in the product decides what a sandbox may reach. A [`Question`] says what is known
//! by then; what is not known yet makes the answer [`Verdict::Inspect`]: go on, look, ask again.
//!
//! What always holds:
//!
//! - Every layer must allow; without a layer nothing is allowed; so a layer more never allows more.
//! - Within a layer the first rule that matches decides, and what none matches is denied.
//! - A rule about a host matches by name, one about a network by address (whatever name led there),
//!   `internet` matches both. No rule about a network allows a name to be resolved.
//! - A rule that speaks `tcp` is about any bytes: HTTP and TLS too. What a rule leaves unsaid is the
//!   least where it allows a host (`http` on 80 and `https` on 443), and everything elsewhere (any
//!   bytes, all ports): a host that is denied without more is denied whole.
//! - Requests decide definitely. TLS is opened (`Inspect`) where a rule about methods or paths comes
//!   before the rule that would decide, or where a credential may have to be added; an opened
//!   connection is decided by its requests.
//! - A connection may carry any bytes (`Allow`) when the first rule about its port is about any
//!   bytes, no credential is for one of its names, and the port is neither 80 nor 443: there it is
//!   always looked at, so that the names are seen. Else it is looked at when some TLS, HTTP or
//!   opaque bytes on it could be allowed.
//! - Names that share an address are judged one by one as soon as the connection says which it
//!   means: a rule for one is neither a way to another nor in its way. Opaque bytes say nothing, so
//!   there the first rule for any of the names decides.
//!
//! Private and other addresses that no policy can open are no business of this module, but of the
//! dialer's.

mod compiled;
mod cover;
mod explain;
mod index;
mod layer;
mod matcher;
pub mod path;
mod ports;
mod propose;

use std::fmt;
use std::net::SocketAddrV4;

use courier_types::egress::{Credential, HostName, LayerSource};

pub use compiled::{CompileError, Compiled};
pub use cover::{Uncovered, covers};
pub use explain::{ExplainError, explain};
pub use propose::propose;

/// What is asked, with everything that is known by then.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// May this name be resolved?
    Name {
        /// The name.
        host: &'a HostName,
    },
    /// May a connection be opened? `Allow`: with any bytes. `Inspect`: accept it and look at its
    /// first bytes.
    Connection {
        /// Where to.
        address: SocketAddrV4,
        /// The names for which our own answers gave the address.
        names: &'a [HostName],
    },
    /// May bytes that are neither TLS nor HTTP go on?
    Opaque {
        /// Where to.
        address: SocketAddrV4,
        /// The names for which our own answers gave the address.
        names: &'a [HostName],
    },
    /// May a TLS connection go on? `Allow`: unopened. `Inspect`: open it and ask for each request.
    Tls {
        /// Where to.
        address: SocketAddrV4,
        /// The server name; `None` where the client names none, and where the address alone has to
        /// let it pass since no answer of ours gave it for the name: then rules about networks and
        /// `internet` decide, and no credential is looked for.
        host: Option<&'a HostName>,
    },
    /// May this request go out?
    Request {
        /// In clear or in TLS.
        scheme: Scheme,
        /// Where to.
        address: SocketAddrV4,
        /// The name, which is one of those for which our answers gave the address; `None` where
        /// the request names the address itself.
        host: Option<&'a HostName>,
        /// Its method, as it is on the wire.
        method: &'a str,
        /// Its path in canonical form, see `path::canonical`.
        path: &'a str,
    },
}

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In clear.
    Http,
    /// In TLS that was opened.
    Https,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No.
    Deny,
    /// Yes.
    Allow,
    /// Not before more is known.
    Inspect,
}

/// Which rule of which layer decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The layer.
    pub layer: LayerSource,
    /// The rule's place in it, from 0; `None` when no rule matched, which denies.
    pub rule: Option<usize>,
    /// The rule's text, or that none matched.
    pub text: String,
}

/// A decision with its reasons.
#[derive(Debug, Clone)]
pub struct Decision<'p> {
    /// What was decided.
    pub verdict: Verdict,
    /// The deciding rule of each layer up to and with the one that denied.
    pub reasons: Vec<Reason>,
    /// What is added to the request: of every layer, in order. Only for an allowed
    /// [`Question::Request`] in TLS.
    pub credentials: Vec<&'p Credential>,
}

impl fmt::Display for Question<'_> {
    /// What is asked about, for a reason: `api.example.com:443 (https)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { host } => write!(f, "the name {host}"),
            Self::Connection { address, names } => place(f, names.iter(), address, "any protocol"),
            Self::Opaque { address, names } => place(f, names.iter(), address, "tcp"),
            Self::Tls { address, host } => place(f, host.iter().copied(), address, "https"),
            Self::Request { scheme, address, host, method, path } => {
                let scheme = match scheme {
                    Scheme::Http => "http",
                    Scheme::Https => "https",
                };
                place(f, host.iter().copied(), address, scheme)?;
                write!(f, " {method} {path}")
            }
        }
    }
}

/// Most names of one address that are shown.
const NAMES_SHOWN: usize = 4;

fn place<'a>(
    f: &mut fmt::Formatter<'_>,
    names: impl Iterator<Item = &'a HostName>,
    address: &SocketAddrV4,
    protocol: &str,
) -> fmt::Result {
    let port = address.port();
    let mut names = names.peekable();
    if names.peek().is_none() {
        return write!(f, "{address} ({protocol})");
    }
    for (n, name) in names.take(NAMES_SHOWN).enumerate() {
        let separator = if n == 0 { "" } else { ", " };
        write!(f, "{separator}{name}:{port}")?;
    }
    write!(f, " ({protocol})")
}

#[cfg(test)]
mod tests;
