//! Why a sandbox did not start or was lost, kept for everybody who asks.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courier_channel::ChannelError;
use courier_driver::DriverError;
use courier_protocol::node::NodeError;

use crate::sandbox::StartError;

/// What a guest daemon did wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    /// The channel's socket is none.
    #[error("the channel's socket cannot be used")]
    Socket(#[source] std::io::Error),
    /// The channel could not be opened.
    #[error("the channel could not be opened")]
    Channel(#[source] ChannelError),
    /// The connection on the channel failed.
    #[error("the connection to the guest daemon failed")]
    Connection(#[source] hyper::Error),
    /// The request cannot be sent.
    #[error("the request cannot be sent to the guest daemon")]
    Request(#[source] http::Error),
    /// The request's own body broke off: whoever sent it hung up.
    #[error("the request broke off before its end")]
    BodyBroken,
    /// Its reader stalled for so long, with so many others, that it held up the sandbox.
    #[error("the answer was not read on, and many others were not either")]
    Stalled,
    /// Nothing listens on the port.
    #[error("nothing listens on the port")]
    PortClosed,
    /// It did not answer in time.
    #[error("the guest daemon did not answer within {} s", after.as_secs())]
    Late {
        /// How long was waited.
        after: Duration,
    },
    /// It answered something else than it must.
    #[error("the guest daemon answered {path} with {status}")]
    Answer {
        /// What was asked.
        path: &'static str,
        /// The answer's status.
        status: http::StatusCode,
    },
    /// Its network could not be brought up, so it was never told to begin.
    #[error("the sandbox's network could not be brought up")]
    Network(#[source] courier_egress::NetworkError),
    /// It answers, but what its build wants to be started did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The sandbox ended.
    #[error("the sandbox ended")]
    Ended,
    /// Too many requests are in flight.
    #[error("{limit} requests are in flight in this sandbox: wait for one to end")]
    Busy {
        /// The bound.
        limit: usize,
    },
}

/// Why the driver did not do what the node asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverFailure {
    /// The driver says why.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The sandbox was to end before its turn came.
    #[error("the sandbox was to end before it was made")]
    Doomed,
    /// It took too long.
    #[error("the driver did not answer within {} s", after.as_secs())]
    Late {
        /// How long was waited.
        after: Duration,
    },
}

/// A failure that many may look at.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// No machine.
    Make(Arc<DriverFailure>),
    /// No guest daemon.
    Guest(Arc<GuestError>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(error) => error.fmt(f),
            Self::Guest(error) => error.fmt(f),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Make(error) => error.source(),
            Self::Guest(error) => error.source(),
        }
    }
}

impl Failure {
    /// What is short, when the host had no room.
    pub(crate) fn no_room(&self) -> Option<&str> {
        match self {
            Self::Make(error) => match error.as_ref() {
                DriverFailure::Driver(DriverError::Full { what }) => Some(what),
                DriverFailure::Driver(
                    DriverError::Unavailable { .. }
                    | DriverError::NotFound { .. }
                    | DriverError::NotStarted { .. }
                    | DriverError::NoVolume { .. }
                    | DriverError::VolumeInUse { .. }
                    | DriverError::Launcher(_)
                    | DriverError::Host { .. },
                )
                | DriverFailure::Doomed
                | DriverFailure::Late { .. } => None,
            },
            Self::Guest(_) => None,
        }
    }

    /// What the build's own start or ready command did wrong, where that is what failed.
    pub(crate) fn start(&self) -> Option<&StartError> {
        match self {
            Self::Guest(error) => match error.as_ref() {
                GuestError::Start(error) => Some(error),
                GuestError::Socket(_)
                | GuestError::Channel(_)
                | GuestError::Connection(_)
                | GuestError::Request(_)
                | GuestError::BodyBroken
                | GuestError::Stalled
                | GuestError::PortClosed
                | GuestError::Late { .. }
                | GuestError::Answer { .. }
                | GuestError::Network(_)
                | GuestError::Ended
                | GuestError::Busy { .. } => None,
            },
            Self::Make(_) => None,
        }
    }

    /// True when there was no machine to attach to.
    pub(crate) fn no_machine(&self) -> bool {
        match self {
            Self::Make(error) => {
                matches!(error.as_ref(), DriverFailure::Driver(DriverError::NotFound { .. }))
            }
            Self::Guest(_) => false,
        }
    }

    /// The whole chain in one line, for people.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// A driver's error as a node's.
pub(crate) fn node_error(error: DriverError) -> NodeError {
    match error {
        DriverError::NotFound { id } => NodeError::NotFound { id },
        DriverError::Full { what } => NodeError::Full { what },
        DriverError::Unavailable { .. }
        | DriverError::NotStarted { .. }
        | DriverError::NoVolume { .. }
        | DriverError::VolumeInUse { .. }
        | DriverError::Launcher(_)
        | DriverError::Host { .. } => NodeError::Node(error.into()),
    }
}
