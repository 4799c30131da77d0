//! What the decoys received, in the order in which they did.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;

/// Events that are kept. A suite makes some thousands; an endless loop is a failure.
const MOST: usize = 200_000;

/// Something that reached a decoy. Addresses are those of the packets: `local` is what was dialled.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A connection was made.
    Connection {
        /// What was dialled.
        local: SocketAddr,
        /// Who dialled.
        peer: SocketAddr,
        /// The decoy that answered.
        decoy: &'static str,
    },
    /// A TLS handshake began with this name.
    Hello {
        /// What was dialled.
        local: SocketAddr,
        /// The server name of the hello, if it had one.
        name: Option<String>,
    },
    /// A TLS handshake ended well.
    Secured {
        /// What was dialled.
        local: SocketAddr,
        /// The server name of the hello, if it had one.
        name: Option<String>,
    },
    /// An HTTP request arrived whole.
    Request(Box<Request>),
    /// Bytes arrived at a decoy that has no protocol.
    Bytes {
        /// What was dialled.
        local: SocketAddr,
        /// What arrived, as text.
        text: String,
    },
    /// A DNS question arrived.
    Question {
        /// What was asked.
        local: SocketAddr,
        /// Over UDP or TCP.
        transport: &'static str,
        /// The name, as it was sent.
        name: String,
        /// The type: `A`, `AAAA`, `HTTPS` …
        kind: String,
    },
    /// The SOCKS decoy was asked for a target.
    Socks {
        /// What was dialled.
        local: SocketAddr,
        /// Who asked; empty without authentication.
        user: String,
        /// The target, `host:port`.
        target: String,
    },
}

/// An HTTP request.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// What was dialled.
    pub local: SocketAddr,
    /// The server name of the TLS hello; `None` for plain HTTP and for no name.
    pub tls: Option<String>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub version: String,
    /// The method.
    pub method: String,
    /// `Host` or `:authority`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case, values as text.
    pub headers: Vec<(String, String)>,
    /// The body, as text, up to the decoy's bound.
    pub body: String,
}

impl Request {
    /// The value of a header; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _v)| n == name).map(|(_n, v)| v.as_str())
    }
}

/// A place in the journal: what came after it is what a test looks at. The default is its begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place(usize);

/// All events so far.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Vec<Event>>);

impl Journal {
    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().expect("nothing panics with the journal's lock")
    }

    /// Adds an event.
    pub fn add(&self, event: Event) {
        let mut events = self.events();
        // The decoys go on: what they do not write down shows as a full journal.
        if events.len() < MOST {
            events.push(event);
        }
    }

    /// The end, as it is now.
    #[must_use]
    pub fn place(&self) -> Place {
        Place(self.events().len())
    }

    /// What came after `place`.
    #[track_caller]
    #[must_use]
    pub fn since(&self, place: Place) -> Vec<Event> {
        let events = self.events();
        assert!(events.len() < MOST, "the decoys' journal is full");
        events.iter().skip(place.0).cloned().collect()
    }

    /// The HTTP requests after `place`.
    #[track_caller]
    #[must_use]
    pub fn requests(&self, place: Place) -> Vec<Request> {
        let request = |event| match event {
            Event::Request(request) => Some(*request),
            Event::Connection { .. }
            | Event::Hello { .. }
            | Event::Secured { .. }
            | Event::Bytes { .. }
            | Event::Question { .. }
            | Event::Socks { .. } => None,
        };
        self.since(place).into_iter().filter_map(request).collect()
    }

    /// Everything as JSON lines.
    #[must_use]
    pub fn lines(&self) -> String {
        let line = |event: &Event| serde_json::to_string(event).expect("events are plain") + "\n";
        self.events().iter().map(line).collect()
    }
}
