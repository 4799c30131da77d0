//! Packets to the guest that belong to no connection.

use std::net::SocketAddrV4;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::{GUEST, HOST, LINK_MTU};

/// The time to live of what we send; it goes one step.
const HOP_LIMIT: u8 = 64;
/// How much of a refused packet goes back, in bytes after its IP header: what a sender needs to know
/// its socket again (RFC 792).
const QUOTED: usize = 8;

/// How a packet is answered that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not at all.
    None,
    /// TCP: the connection is refused, or is not there.
    Reset,
    /// UDP: nobody is there. Programs that try QUIC first go on to TCP at once.
    PortUnreachable,
}

impl Reply {
    /// The answer to a packet that [`super::packet::parse`] took for a packet of that protocol.
    pub(super) fn to(self, packet: &[u8]) -> Option<Vec<u8>> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        match self {
            Self::None => None,
            Self::Reset => reset(&ip),
            Self::PortUnreachable => unreachable_port(&ip),
        }
    }
}

fn reset(ip: &Ipv4Packet<&[u8]>) -> Option<Vec<u8>> {
    let segment = TcpPacket::new_checked(ip.payload()).ok()?;
    if segment.rst() {
        return None;
    }
    // RFC 9293, 3.10.7.1: with the number that the other end expects if it told, otherwise with an
    // acknowledgement of what it sent.
    let length = segment.payload().len() + usize::from(segment.syn()) + usize::from(segment.fin());
    let (seq_number, ack_number) = match segment.ack() {
        true => (segment.ack_number(), None),
        false => (TcpSeqNumber(0), Some(segment.seq_number() + length)),
    };
    let tcp = TcpRepr {
        src_port: segment.dst_port(),
        dst_port: segment.src_port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ends = (IpAddress::Ipv4(ip.dst_addr()), IpAddress::Ipv4(ip.src_addr()));
    Some(emit(ip.dst_addr(), IpProtocol::Tcp, tcp.buffer_len(), |payload| {
        let mut segment = TcpPacket::new_unchecked(payload);
        tcp.emit(&mut segment, &ends.0, &ends.1, &ChecksumCapabilities::default());
    }))
}

fn unreachable_port(ip: &Ipv4Packet<&[u8]>) -> Option<Vec<u8>> {
    let data = ip.payload().get(..QUOTED)?;
    let icmp = Icmpv4Repr::DstUnreachable {
        reason: Icmpv4DstUnreachable::PortUnreachable,
        header: Ipv4Repr {
            src_addr: ip.src_addr(),
            dst_addr: ip.dst_addr(),
            next_header: ip.next_header(),
            payload_len: data.len(),
            hop_limit: ip.hop_limit(),
        },
        data,
    };
    // From the address that was asked for, as if its host had said so.
    Some(emit(ip.dst_addr(), IpProtocol::Icmp, icmp.buffer_len(), |payload| {
        icmp.emit(&mut Icmpv4Packet::new_unchecked(payload), &ChecksumCapabilities::default());
    }))
}

/// An answer of our resolver; `None` if it is longer than a packet may be.
pub(super) fn answer(to: SocketAddrV4, answer: &[u8]) -> Option<Vec<u8>> {
    let udp = UdpRepr { src_port: 53, dst_port: to.port() };
    let length = udp.header_len() + answer.len();
    if length > LINK_MTU - smoltcp::wire::IPV4_HEADER_LEN {
        return None;
    }
    let ends = (IpAddress::Ipv4(HOST), IpAddress::Ipv4(*to.ip()));
    Some(emit(HOST, IpProtocol::Udp, length, |payload| {
        udp.emit(
            &mut UdpPacket::new_unchecked(payload),
            &ends.0,
            &ends.1,
            answer.len(),
            |data| data.copy_from_slice(answer),
            &ChecksumCapabilities::default(),
        );
    }))
}

/// A packet to the guest.
fn emit(
    from: std::net::Ipv4Addr,
    protocol: IpProtocol,
    payload_len: usize,
    write: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: GUEST,
        next_header: protocol,
        payload_len,
        hop_limit: HOP_LIMIT,
    };
    let mut packet = vec![0; ip.buffer_len() + payload_len];
    let (_, payload) = packet.split_at_mut(ip.buffer_len());
    write(payload);
    let mut header = Ipv4Packet::new_unchecked(packet);
    ip.emit(&mut header, &ChecksumCapabilities::default());
    header.into_inner()
}
