//! What can go wrong between a client and a guest daemon, and whose fault it is.

use std::time::Duration;

use courier_protocol::node::BoxError;

use crate::TransportError;

/// Most bytes of an error message of a guest that are kept.
const MESSAGE_LIMIT_BYTES: usize = 2_048;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Whoever asked: another request would work.
    Caller,
    /// The guest: what runs inside lied, closed or did not answer.
    Guest,
    /// This side: the node, the server or the way to them.
    Host,
}

/// Why a guest daemon refused, as a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// What was named is not there.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// The request makes no sense.
    Invalid,
    /// The user does not exist or may not.
    Denied,
    /// The command ran longer than it was allowed to.
    TimedOut,
    /// The disk, or another of the sandbox's limits, is full.
    Exhausted,
    /// Something else.
    Other,
}

/// A call to the guest daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no answer.
    #[error("no answer")]
    Transport(#[from] TransportError),
    /// The answer broke off before its end.
    #[error("the answer broke off")]
    BrokenOff(#[source] BoxError),
    /// The guest daemon refused. Its own message, made safe to print.
    #[error("{message}")]
    Refused {
        /// The kind.
        refusal: Refusal,
        /// The message.
        message: String,
    },
    /// The answer is not what the protocol says.
    #[error("the guest broke the protocol: {what}")]
    Protocol {
        /// What is wrong with it.
        what: String,
    },
    /// Something is larger than this client takes.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound.
        limit_bytes: usize,
    },
    /// The guest did not answer in time.
    #[error("no answer to {what} within {} s", after.as_secs())]
    Late {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The request cannot be written down.
    #[error("this cannot be sent")]
    Request(#[source] BoxError),
}

impl ClientError {
    /// A refusal, with the guest's message cut and stripped of control characters.
    pub(crate) fn refused(refusal: Refusal, message: &str) -> Self {
        let message: String = message
            .chars()
            .map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c })
            .scan(0_usize, |bytes, c| {
                *bytes = bytes.saturating_add(c.len_utf8());
                (*bytes <= MESSAGE_LIMIT_BYTES).then_some(c)
            })
            .collect();
        Self::Refused { refusal, message }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Refused { .. } | Self::Request(_) => Fault::Caller,
            Self::Transport(TransportError::Unreachable(_)) => Fault::Host,
            Self::Transport(TransportError::Gone(_) | TransportError::Guest(_))
            | Self::BrokenOff(_)
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::Late { .. } => Fault::Guest,
        }
    }

    /// True when the sandbox ended under the request, or its channel did.
    #[must_use]
    pub const fn is_sandbox_lost(&self) -> bool {
        match self {
            Self::Transport(TransportError::Gone(_) | TransportError::Guest(_))
            | Self::BrokenOff(_) => true,
            Self::Transport(TransportError::Unreachable(_))
            | Self::Refused { .. }
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::Late { .. }
            | Self::Request(_) => false,
        }
    }

    /// The kind of refusal, where it is one.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            Self::Transport(_)
            | Self::BrokenOff(_)
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::Late { .. }
            | Self::Request(_) => None,
        }
    }
}
