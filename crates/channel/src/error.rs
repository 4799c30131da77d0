//! Why a channel cannot go on.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// Why a channel is over for good. Every later call on it fails with the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChannelError {
    /// The other end of the socket is closed.
    #[error("the channel's other end is closed")]
    Closed,
    /// A record was shorter than its header.
    #[error("a record of {bytes} bytes is too short for a header")]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// A record was longer than any record may be, or carried descriptors.
    #[error("a record is too long or carries descriptors")]
    Oversized,
    /// A record has a kind that does not exist, or that only this side may send.
    #[error("a record has the kind {kind}, which the other end must not send")]
    Kind {
        /// The kind's number.
        kind: u8,
    },
    /// An `open` or `close` with a payload, or a `data` without one.
    #[error("a record of kind {kind} has {bytes} bytes of payload")]
    Payload {
        /// The kind's number.
        kind: u8,
        /// The payload's length.
        bytes: usize,
    },
    /// The other end goes on with epochs that are over.
    #[error("more than {} records of epochs that are over", crate::record::STALE_RECORDS_MAX)]
    Stale,
    /// The socket failed.
    #[error("the channel's socket failed ({0})")]
    Socket(Errno),
}

impl From<ChannelError> for io::Error {
    fn from(error: ChannelError) -> Self {
        let kind = match error {
            ChannelError::Closed => io::ErrorKind::ConnectionReset,
            ChannelError::Short { .. }
            | ChannelError::Oversized
            | ChannelError::Kind { .. }
            | ChannelError::Payload { .. }
            | ChannelError::Stale => io::ErrorKind::InvalidData,
            ChannelError::Socket(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
