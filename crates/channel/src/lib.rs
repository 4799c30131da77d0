//! A byte stream that can be re-opened, over one seqpacket socket between host and guest.
//!
//! The host begins an epoch ([`host::Channel::open`]) and the guest serves it
//! ([`guest::Channel::accept`]); each epoch is one byte stream ([`EpochStream`]), which both ends
//! treat like a connected socket. A new epoch ends the one before, whatever was under way: that is
//! how a restarted server takes over. The socket itself outlives all of them.
//!
//! A record is 5 bytes of header (kind: 1 open, 2 data, 3 close; epoch: u32, little endian) and up to
//! [`PAYLOAD_MAX`] bytes. Records of epochs that are over are dropped; anything else that is not as
//! described ends the channel with a typed [`ChannelError`].

mod error;
pub mod guest;
pub mod host;
mod record;
mod shared;
mod socket;
mod stream;

pub use error::ChannelError;
pub use record::PAYLOAD_MAX;
pub use stream::EpochStream;
