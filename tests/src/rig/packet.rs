//! A packet as it left the node, taken apart just so far that a test can tell what it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::wiring::NODE_MAC;

/// IP protocol numbers (IANA).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;
/// The IPv6 header of options for each hop, which stands before what is carried.
const HOP_BY_HOP: u8 = 0;

/// `EtherType` numbers (IANA).
const ETHER_IPV4: [u8; 2] = [0x08, 0x00];
const ETHER_IPV6: [u8; 2] = [0x86, 0xdd];
/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// Length of an IPv6 header.
const IPV6: usize = 40;
/// Of TCP's flags.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carried {
    /// The first packet of a connection.
    Dial,
    /// Any other packet of a connection.
    Tcp,
    /// A datagram.
    Udp,
    /// An ICMP message of this type.
    Icmp(u8),
    /// Some other IP protocol.
    Other(u8),
}

/// One packet that left the node.
#[derive(Debug, Clone, Serialize)]
pub struct Packet {
    /// Where it goes.
    pub to: IpAddr,
    /// The port that it goes to; 0 for protocols without ports.
    pub port: u16,
    /// What it carries.
    pub carried: Carried,
    /// Everything after the IP header, up to the sniffer's bound.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

impl Packet {
    /// Takes a frame apart; `None` when it is not IP, or not from the node.
    #[must_use]
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        if frame.get(6..12)? != NODE_MAC {
            return None;
        }
        let packet = frame.get(ETHERNET..)?;
        let kind: [u8; 2] = frame.get(12..ETHERNET)?.try_into().ok()?;
        let (to, protocol, bytes) = match kind {
            ETHER_IPV4 => {
                let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
                let header = usize::from(packet.first()? & 0x0f) * 4;
                (IpAddr::from(Ipv4Addr::from(to)), *packet.get(9)?, packet.get(header..)?)
            }
            ETHER_IPV6 => {
                let to: [u8; 16] = packet.get(24..IPV6)?.try_into().ok()?;
                let (protocol, bytes) = behind_options(*packet.get(6)?, packet.get(IPV6..)?)?;
                (IpAddr::from(Ipv6Addr::from(to)), protocol, bytes)
            }
            _other => return None,
        };
        let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
        let (carried, port) = match protocol {
            TCP if bytes.get(13)? & (SYN | ACK) == SYN => (Carried::Dial, port()?),
            TCP => (Carried::Tcp, port()?),
            UDP => (Carried::Udp, port()?),
            ICMP | ICMP_V6 => (Carried::Icmp(*bytes.first()?), 0),
            other => (Carried::Other(other), 0),
        };
        Some(Self { to, port, carried, bytes: bytes.to_vec() })
    }

    /// True for what the node's kernel says by itself about its neighbours and groups: neighbour
    /// and router discovery (133-136), and reports of listeners (143).
    #[must_use]
    pub fn is_upkeep(&self) -> bool {
        matches!(self.carried, Carried::Icmp(133..=136 | 143)) && self.to.is_ipv6()
    }
}

/// What an IPv6 packet carries behind its options for each hop, if it has some (RFC 8200, 4.3).
fn behind_options(next: u8, bytes: &[u8]) -> Option<(u8, &[u8])> {
    if next != HOP_BY_HOP {
        return Some((next, bytes));
    }
    let length = (usize::from(*bytes.get(1)?) + 1) * 8;
    Some((*bytes.first()?, bytes.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
        [&[0; 6][..], &NODE_MAC, &kind, rest].concat()
    }

    #[test]
    fn a_dial_is_told_from_the_rest_of_a_connection() {
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0, 1, 1, 1, 1, 9, 9, 9, 9];
        ip.extend([0x80, 0, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, SYN, 0, 0, 0, 0, 0, 0]);
        let packet = Packet::from_frame(&frame(ETHER_IPV4, &ip)).unwrap();
        assert_eq!((packet.carried, packet.port), (Carried::Dial, 443));
        assert_eq!(packet.to.to_string(), "9.9.9.9");
        ip[33] = SYN | ACK;
        let packet = Packet::from_frame(&frame(ETHER_IPV4, &ip)).unwrap();
        assert_eq!(packet.carried, Carried::Tcp);
    }

    #[test]
    fn a_report_of_listeners_is_upkeep_and_an_echo_is_none() {
        let carries = |kind: u8| {
            let mut ip = vec![0x60, 0, 0, 0, 0, 16, 0, 1];
            ip.extend([0; 32]);
            ip.extend([ICMP_V6, 0, 5, 2, 0, 0, 1, 0, kind, 0, 0, 0, 0, 0, 0, 0]);
            Packet::from_frame(&frame(ETHER_IPV6, &ip)).unwrap()
        };
        assert!(carries(143).is_upkeep());
        assert_eq!(carries(128).carried, Carried::Icmp(128));
        assert!(!carries(128).is_upkeep());
    }

    #[test]
    fn frames_of_others_and_cut_off_frames_are_no_packets() {
        let mut others = frame(ETHER_IPV4, &[0x45; 40]);
        others[6] = 0;
        assert!(Packet::from_frame(&others).is_none());
        assert!(Packet::from_frame(&frame(ETHER_IPV6, &[0x60; 12])).is_none());
    }
}
