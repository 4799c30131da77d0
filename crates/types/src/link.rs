//! The network link of a machine: what drivers make it like, and what reads it relies on.

use std::net::Ipv4Addr;

/// Longest IP packet on a machine's network link, in bytes: as long as an IP packet can nearly be
/// (65,535), so that few packets carry much, and still within one receive of gVisor's netstack.
pub const LINK_MTU: usize = 65_520;

/// The guest's address on its link, the same in every machine: each link is a network of its own.
/// From `192.0.0.0/29`, the prefix that RFC 7335 sets apart for addresses within a host (RFC 6333
/// for one end of a tunnel before that). Nothing routes it, so it is in nobody's way, private
/// networks included.
pub const LINK_GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);

/// The host's address on every link: the guest's default gateway, and its resolver.
pub const LINK_HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);

/// Length of the network prefix of both addresses.
pub const LINK_PREFIX: u8 = 29;
