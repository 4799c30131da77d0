//! The one decision function. Pure: no I/O, no clock, no logging.
//!
//! DNS, the gate in front of connections, TLS, HTTP, `explain` and the bench all ask here, and
//! nothing else in the product decides what a sandbox may reach. A [`Question`] says what is known
//! by then; what is not known yet makes the answer [`Verdict::Inspect`]: go on, look, ask again.

use std::net::SocketAddrV4;

use courier_types::egress::{Credential, HostName, LayerSource};

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
        /// The server name, which is one of those for which our answers gave the address; `None`
        /// without one.
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
