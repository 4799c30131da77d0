//! What a packet from the guest is. Parses, decides nothing about destinations that could be real.
//!
//! Strict where smoltcp is generous, so that one thing has one form: the packet fills its record,
//! there are no IP options, no fragments (the link's MTU needs none), one source address.

use std::net::{Ipv4Addr, SocketAddrV4};

use courier_types::egress::{FlowEvent, FlowRefusal, Transport};
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};

use super::reply::Reply;
use super::{GUEST, HOST, PREFIX};

/// The longest question that is taken, in bytes: what DNS over UDP may have without fragments on
/// any path (the EDNS default that resolvers agreed on in 2020). A question needs some 300.
pub(super) const QUERY_MAX: usize = 1_232;
/// The port of our resolver (RFC 1035).
const DNS_PORT: u16 = 53;
/// The length of an IPv4 header without options, in bytes (RFC 791).
const IPV4_HEADER: u8 = 20;
/// ICMP's type of a destination that cannot be reached (RFC 792).
const ICMP_UNREACHABLE: u8 = 3;

/// The two ends of a TCP connection. The guest's address is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    /// The guest's end.
    pub(super) from: SocketAddrV4,
    /// The end that the guest wants to reach.
    pub(super) to: SocketAddrV4,
}

/// A packet that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusedPacket {
    /// What kind of packet it was.
    pub(crate) transport: Transport,
    /// Where it was to go, if anywhere; port 0 where its protocol has none.
    pub(crate) to: Option<SocketAddrV4>,
    /// Why it was refused.
    pub(crate) refusal: PacketRefusal,
}

/// Why a packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketRefusal {
    /// A datagram to anything but our resolver.
    Datagram,
    /// A connection to the gateway, which only answers DNS.
    Gateway,
    /// ICMP.
    Icmp,
    /// IPv6.
    Ipv6,
    /// A protocol other than TCP, UDP and ICMP.
    Protocol,
    /// A part of a packet.
    Fragment,
    /// A packet with IP options.
    Options,
    /// A packet that claims to come from another address.
    Source,
    /// A packet to an address that is nobody's: broadcast, multicast, loopback, the link's own.
    Destination,
    /// No valid packet.
    Malformed,
    /// More connections than a sandbox may have.
    Connections,
    /// More connections being opened than a sandbox may have.
    Opening,
    /// More questions to the resolver at once than a sandbox may have.
    Questions,
}

impl PacketRefusal {
    /// The fence, and the reason for people.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Datagram => ("protocol", "UDP leads to the sandbox's own resolver only"),
            Self::Gateway => ("address", "the gateway answers DNS questions only"),
            Self::Icmp => ("protocol", "ICMP leads nowhere"),
            Self::Ipv6 => ("protocol", "there is no IPv6"),
            Self::Protocol => ("protocol", "only TCP and DNS lead out"),
            Self::Fragment => ("protocol", "fragments of packets are not put together"),
            Self::Options => ("protocol", "packets with IP options are not taken"),
            Self::Source => ("address", "the packet claims a foreign source address"),
            Self::Destination => ("address", "the address is no single host's"),
            Self::Malformed => ("protocol", "it is no valid packet"),
            Self::Connections => ("limit", "too many connections are open"),
            Self::Opening => ("limit", "too many connections are being opened"),
            Self::Questions => ("limit", "too many DNS questions at once"),
        }
    }
}

impl From<RefusedPacket> for FlowEvent {
    fn from(RefusedPacket { transport, to, refusal }: RefusedPacket) -> Self {
        let (fence, why) = refusal.words();
        Self::Refused {
            transport,
            host: None,
            address: to,
            protocol: None,
            method: None,
            path: None,
            refusal: FlowRefusal::new(fence, why),
            count: 1,
        }
    }
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Incoming<'p> {
    /// The first segment of a connection to a place that could be real.
    Syn(Ends),
    /// Another segment.
    Segment(Ends),
    /// A question to our resolver.
    Query {
        /// Where the answer goes.
        from: SocketAddrV4,
        /// The question.
        query: &'p [u8],
    },
    /// Nothing that may be here.
    Refused(RefusedPacket, Reply),
    /// Nothing to act on.
    Nothing,
}

/// Parses a packet.
pub(super) fn parse(packet: &[u8]) -> Incoming<'_> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {}
        Some(6) => return refused(Transport::Ipv6, None, PacketRefusal::Ipv6),
        _ => return refused(Transport::Other, None, PacketRefusal::Malformed),
    }
    let Some(ip) = whole(packet) else {
        return refused(Transport::Other, None, PacketRefusal::Malformed);
    };
    let to = SocketAddrV4::new(ip.dst_addr(), 0);
    let refusal = if ip.src_addr() != GUEST {
        PacketRefusal::Source
    } else if ip.header_len() != IPV4_HEADER {
        PacketRefusal::Options
    } else if ip.more_frags() || ip.frag_offset() != 0 {
        PacketRefusal::Fragment
    } else if !is_somebody(ip.dst_addr()) {
        PacketRefusal::Destination
    } else {
        return payload(&ip);
    };
    refused(transport(ip.next_header()), Some(to), refusal)
}

/// A packet whose lengths are right, its own being that of its record.
fn whole(packet: &[u8]) -> Option<Ipv4Packet<&[u8]>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    (usize::from(ip.total_len()) == packet.len()).then_some(ip)
}

/// True for an address that one host could have, from where the guest is: not the guest itself, nor
/// an address of its link but the gateway's.
fn is_somebody(address: Ipv4Addr) -> bool {
    const LINK: u32 = u32::MAX << (32 - PREFIX);
    let link = HOST.to_bits() & LINK == address.to_bits() & LINK;
    // 0.0.0.0/8 is "this network", 240.0.0.0/4 is reserved and has the broadcast address.
    let [first, ..] = address.octets();
    let nobody = first == 0 || address.is_loopback() || address.is_multicast() || first >= 240;
    !nobody && (!link || address == HOST)
}

fn transport(protocol: IpProtocol) -> Transport {
    match protocol {
        IpProtocol::Tcp => Transport::Tcp,
        IpProtocol::Udp => Transport::Udp,
        IpProtocol::Icmp => Transport::Icmp,
        _ => Transport::Other,
    }
}

fn payload<'p>(ip: &Ipv4Packet<&'p [u8]>) -> Incoming<'p> {
    match ip.next_header() {
        IpProtocol::Tcp => tcp(ip),
        IpProtocol::Udp => udp(ip),
        // A guest that no longer waits for a DNS answer says so this way.
        IpProtocol::Icmp if ip.payload().first() == Some(&ICMP_UNREACHABLE) => Incoming::Nothing,
        other => {
            let refusal = match other {
                IpProtocol::Icmp => PacketRefusal::Icmp,
                _ => PacketRefusal::Protocol,
            };
            refused(transport(other), Some(SocketAddrV4::new(ip.dst_addr(), 0)), refusal)
        }
    }
}

fn tcp<'p>(ip: &Ipv4Packet<&'p [u8]>) -> Incoming<'p> {
    let address = SocketAddrV4::new(ip.dst_addr(), 0);
    let segment = TcpPacket::new_checked(ip.payload()).ok();
    let Some(tcp) = segment.filter(|tcp| tcp.src_port() != 0 && tcp.dst_port() != 0) else {
        return refused(Transport::Tcp, Some(address), PacketRefusal::Malformed);
    };
    let to = SocketAddrV4::new(ip.dst_addr(), tcp.dst_port());
    let ends = Ends { from: SocketAddrV4::new(ip.src_addr(), tcp.src_port()), to };
    let opens = tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin();
    if ip.dst_addr() == HOST {
        let what = RefusedPacket {
            transport: Transport::Tcp,
            to: Some(to),
            refusal: PacketRefusal::Gateway,
        };
        return Incoming::Refused(what, Reply::Reset);
    }
    match opens {
        // Nothing sends data with its first segment unless the other end once offered that.
        true if !tcp.payload().is_empty() => {
            refused(Transport::Tcp, Some(to), PacketRefusal::Malformed)
        }
        true => Incoming::Syn(ends),
        false => Incoming::Segment(ends),
    }
}

fn udp<'p>(ip: &Ipv4Packet<&'p [u8]>) -> Incoming<'p> {
    let address = SocketAddrV4::new(ip.dst_addr(), 0);
    let datagram = ip.payload();
    let Some(udp) = UdpPacket::new_checked(datagram).ok().filter(|udp| udp.src_port() != 0) else {
        return refused(Transport::Udp, Some(address), PacketRefusal::Malformed);
    };
    let to = SocketAddrV4::new(ip.dst_addr(), udp.dst_port());
    if to != SocketAddrV4::new(HOST, DNS_PORT) {
        let refusal = PacketRefusal::Datagram;
        let what = RefusedPacket { transport: Transport::Udp, to: Some(to), refusal };
        return Incoming::Refused(what, Reply::PortUnreachable);
    }
    let query = datagram.get(usize::from(UDP_HEADER)..usize::from(udp.len())).unwrap_or_default();
    if query.is_empty() || query.len() > QUERY_MAX {
        return refused(Transport::Dns, Some(to), PacketRefusal::Malformed);
    }
    Incoming::Query { from: SocketAddrV4::new(ip.src_addr(), udp.src_port()), query }
}

/// The length of a UDP header in bytes (RFC 768).
const UDP_HEADER: u8 = 8;

fn refused<'p>(
    transport: Transport,
    to: Option<SocketAddrV4>,
    refusal: PacketRefusal,
) -> Incoming<'p> {
    Incoming::Refused(RefusedPacket { transport, to, refusal }, Reply::None)
}
