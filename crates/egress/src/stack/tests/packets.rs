//! Packets made by hand: what is refused, and how.

use std::net::{Ipv4Addr, SocketAddrV4};

use courier_types::egress::Transport;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::super::packet::PacketRefusal;
use super::super::{GUEST, HOST, RefusedPacket};
use super::guest::Wire;
use super::script::{ECHO, PATIENCE, REFUSED, start};

/// An address outside; from those for documentation (RFC 5737).
pub(super) const THERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// The guest's port in packets made by hand.
const PORT: u16 = 40_000;

/// An IPv4 packet.
pub(super) fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; header.buffer_len()];
    packet.extend_from_slice(payload);
    header.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &ChecksumCapabilities::default());
    packet
}

/// A datagram from the guest.
pub(super) fn udp(to: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    let header = UdpRepr { src_port: PORT, dst_port: to.port() };
    let mut datagram = vec![0; header.header_len() + data.len()];
    header.emit(
        &mut UdpPacket::new_unchecked(&mut datagram[..]),
        &GUEST.into(),
        &(*to.ip()).into(),
        data.len(),
        |payload| payload.copy_from_slice(data),
        &ChecksumCapabilities::default(),
    );
    ip(GUEST, *to.ip(), IpProtocol::Udp, &datagram)
}

/// A question to the resolver, which the script answers backwards.
pub(super) fn question(data: &[u8]) -> Vec<u8> {
    udp(SocketAddrV4::new(HOST, 53), data)
}

/// A segment from the guest.
pub(super) fn segment(port: u16, to: SocketAddrV4, of: &Segment<'_>) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: port,
        dst_port: to.port(),
        control: of.control,
        seq_number: TcpSeqNumber(of.seq),
        ack_number: of.ack.map(TcpSeqNumber),
        window_len: 65_535,
        window_scale: None,
        max_seg_size: of.mss,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: of.data,
    };
    let mut payload = vec![0; tcp.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut payload[..]);
    tcp.emit(&mut packet, &GUEST.into(), &(*to.ip()).into(), &ChecksumCapabilities::default());
    ip(GUEST, *to.ip(), IpProtocol::Tcp, &payload)
}

/// What is in a segment.
pub(super) struct Segment<'a> {
    pub(super) control: TcpControl,
    pub(super) seq: i32,
    pub(super) ack: Option<i32>,
    pub(super) mss: Option<u16>,
    pub(super) data: &'a [u8],
}

impl Default for Segment<'_> {
    fn default() -> Self {
        Self { control: TcpControl::None, seq: 1_000, ack: None, mss: None, data: b"" }
    }
}

/// The first segment of a connection.
pub(super) fn syn(port: u16, to: SocketAddrV4) -> Vec<u8> {
    segment(port, to, &Segment { control: TcpControl::Syn, ..Segment::default() })
}

/// What came in a segment to the guest, whose checksums are right.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) from: SocketAddrV4,
    pub(super) flags: String,
    pub(super) seq: i32,
    pub(super) ack: i32,
    pub(super) data: Vec<u8>,
}

impl Tcp {
    #[track_caller]
    pub(super) fn of(packet: &[u8]) -> Self {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        assert_eq!((ip.next_header(), ip.dst_addr()), (IpProtocol::Tcp, GUEST));
        assert!(ip.verify_checksum());
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        let flags = [('S', tcp.syn()), ('F', tcp.fin()), ('R', tcp.rst()), ('A', tcp.ack())];
        Self {
            from: SocketAddrV4::new(ip.src_addr(), tcp.src_port()),
            flags: flags.iter().filter(|(_, set)| *set).map(|(flag, _)| flag).collect(),
            seq: tcp.seq_number().0,
            ack: tcp.ack_number().0,
            data: tcp.payload().to_vec(),
        }
    }
}

/// Sends a packet and sees to it that nothing comes back and that it is refused for that reason.
#[track_caller]
fn refused_quietly(
    packet: Vec<u8>,
    transport: Transport,
    refusal: PacketRefusal,
) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let (_handle, script, fd) = start();
        let wire = Wire::new(fd);
        assert!(wire.send(&packet).await);
        wire.quiet().await;
        let seen = script.refused.borrow().clone();
        let [seen] = seen[..] else { panic!("{seen:?}, from {place}") };
        assert_eq!((seen.transport, seen.refusal), (transport, refusal), "from {place}");
        assert_eq!(script.asked(), 0, "from {place}");
    }
}

fn there(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(THERE, port)
}

#[tokio::test]
async fn the_resolver_is_asked_and_answers_from_its_own_address() {
    let (_handle, _script, fd) = start();
    let wire = Wire::new(fd);
    assert!(wire.send(&question(b"abc")).await);
    let packet = wire.next().await.unwrap();
    let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
    assert!(ip.verify_checksum());
    assert_eq!((ip.src_addr(), ip.dst_addr(), ip.next_header()), (HOST, GUEST, IpProtocol::Udp));
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert!(udp.verify_checksum(&HOST.into(), &GUEST.into()));
    assert_eq!((udp.src_port(), udp.dst_port(), udp.payload()), (53, PORT, &b"cba"[..]));
}

#[tokio::test]
async fn other_datagrams_are_unreachable_at_once() {
    let (_handle, script, fd) = start();
    let wire = Wire::new(fd);
    // QUIC, a resolver elsewhere, and other ports of ours.
    for to in [there(443), there(53), SocketAddrV4::new(HOST, 54)] {
        let sent = udp(to, b"hello, may I come in?");
        assert!(wire.send(&sent).await);
        let packet = wire.next().await.unwrap();
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!((ip.src_addr(), ip.next_header()), (*to.ip(), IpProtocol::Icmp));
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!((icmp.msg_type(), icmp.msg_code()), (Icmpv4Message::DstUnreachable, 3));
        // The ports are in what is quoted, so that the socket is found.
        assert_eq!(icmp.data()[20..28], sent[20..28]);
        let (transport, refusal) = (Transport::Udp, PacketRefusal::Datagram);
        script.saw(RefusedPacket { transport, to: Some(to), refusal }).await;
    }
}

#[tokio::test]
async fn a_reset_answers_what_belongs_to_no_connection() {
    let (_handle, script, fd) = start();
    let wire = Wire::new(fd);
    // To a SYN: with an acknowledgement of it, or nobody believes it.
    assert!(wire.send(&syn(PORT, there(REFUSED))).await);
    let reset = Tcp::of(&wire.next().await.unwrap());
    assert_eq!((&reset.flags[..], reset.seq, reset.ack), ("RA", 0, 1_001));
    assert_eq!(reset.from, there(REFUSED));
    // To a segment of a connection that an earlier process had: with the number it expects.
    let lost = Segment { ack: Some(77), data: b"abc", ..Segment::default() };
    assert!(wire.send(&segment(PORT, there(80), &lost)).await);
    let reset = Tcp::of(&wire.next().await.unwrap());
    assert_eq!((&reset.flags[..], reset.seq), ("R", 77));
    // To the gateway.
    for port in [22, 53, 853] {
        let to = SocketAddrV4::new(HOST, port);
        assert!(wire.send(&syn(PORT, to)).await);
        assert_eq!(Tcp::of(&wire.next().await.unwrap()).flags, "RA");
        let (transport, refusal) = (Transport::Tcp, PacketRefusal::Gateway);
        script.saw(RefusedPacket { transport, to: Some(to), refusal }).await;
    }
    assert_eq!(script.asked(), 1);
    // Never to a reset.
    let reset = Segment { control: TcpControl::Rst, ..Segment::default() };
    for to in [there(80), SocketAddrV4::new(HOST, 80)] {
        assert!(wire.send(&segment(PORT, to, &reset)).await);
    }
    wire.quiet().await;
}

#[tokio::test]
async fn a_packet_in_the_guests_name_only() {
    for foreign in [HOST, THERE, Ipv4Addr::new(192, 0, 0, 3), Ipv4Addr::UNSPECIFIED] {
        let mut spoofed = syn(PORT, there(ECHO));
        spoofed[12..16].copy_from_slice(&foreign.octets());
        refused_quietly(spoofed, Transport::Tcp, PacketRefusal::Source).await;
        let mut spoofed = question(b"abc");
        spoofed[12..16].copy_from_slice(&foreign.octets());
        refused_quietly(spoofed, Transport::Udp, PacketRefusal::Source).await;
    }
}

#[tokio::test]
async fn addresses_of_nobody_are_refused_for_every_protocol() {
    let nobody = [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::new(0, 1, 2, 3),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(192, 0, 0, 0),
        GUEST,
        Ipv4Addr::new(192, 0, 0, 3),
        Ipv4Addr::new(192, 0, 0, 7),
        Ipv4Addr::new(224, 0, 0, 251),
        Ipv4Addr::new(239, 255, 255, 250),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::BROADCAST,
    ];
    for address in nobody {
        let to = SocketAddrV4::new(address, 5_353);
        let refusal = PacketRefusal::Destination;
        refused_quietly(syn(PORT, to), Transport::Tcp, refusal).await;
        refused_quietly(udp(to, b"who is there?"), Transport::Udp, refusal).await;
    }
}

#[tokio::test]
async fn other_protocols_lead_nowhere() {
    let echo = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 1, data: b"stolen" };
    let mut ping = vec![0; echo.buffer_len()];
    echo.emit(&mut Icmpv4Packet::new_unchecked(&mut ping[..]), &ChecksumCapabilities::default());
    for to in [THERE, HOST] {
        let packet = ip(GUEST, to, IpProtocol::Icmp, &ping);
        refused_quietly(packet, Transport::Icmp, PacketRefusal::Icmp).await;
    }
    // SCTP, GRE, an unknown one, and IPv6 in IPv4.
    for protocol in [132, 47, 253, 41] {
        let packet = ip(GUEST, THERE, IpProtocol::from(protocol), b"whatever");
        refused_quietly(packet, Transport::Other, PacketRefusal::Protocol).await;
    }
    let mut six = vec![0; 48];
    six[0] = 0x60;
    refused_quietly(six, Transport::Ipv6, PacketRefusal::Ipv6).await;
    // IGMP, by which groups are joined, goes to one.
    let packet = ip(GUEST, Ipv4Addr::new(224, 0, 0, 22), IpProtocol::Igmp, b"joining!");
    refused_quietly(packet, Transport::Other, PacketRefusal::Destination).await;
}

#[tokio::test]
async fn fragments_and_options_are_refused_whatever_is_in_them() {
    // More fragments, and one in the middle.
    for (byte, bits) in [(6, 0x20), (7, 0x01)] {
        let mut fragment = syn(PORT, there(ECHO));
        fragment[byte] |= bits;
        refused_quietly(fragment, Transport::Tcp, PacketRefusal::Fragment).await;
        let mut fragment = question(b"abc");
        fragment[byte] |= bits;
        refused_quietly(fragment, Transport::Udp, PacketRefusal::Fragment).await;
    }
    // A source route (RFC 791) to somewhere else.
    let plain = syn(PORT, there(ECHO));
    let mut routed = plain[..20].to_vec();
    routed.extend([131, 7, 4, 10, 0, 0, 1, 0]);
    routed.extend(&plain[20..]);
    routed[0] = 0x47;
    let length = u16::try_from(routed.len()).unwrap().to_be_bytes();
    routed[2..4].copy_from_slice(&length);
    refused_quietly(routed, Transport::Tcp, PacketRefusal::Options).await;
}

#[tokio::test]
async fn what_is_no_packet_is_refused() {
    let good = syn(PORT, there(ECHO));
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let longer = [&good[..], b"more"].concat();
    let broken = [
        vec![0],
        vec![0x45],
        good[..19].to_vec(),
        // Shorter and longer than it says.
        good[..30].to_vec(),
        longer,
        // Versions 5 and 0, headers of 0 and 16 bytes, a length of 0.
        with(0, 0x55),
        with(0, 0x05),
        with(0, 0x40),
        with(0, 0x44),
        with(3, 0),
        vec![0x45; 65_521],
    ];
    for packet in broken {
        refused_quietly(packet, Transport::Other, PacketRefusal::Malformed).await;
    }
    // TCP: a header longer than the packet, a port of 0 at either end, data with a SYN.
    for packet in [with(32, 0xf0), with(32, 0x10), syn(0, there(ECHO)), syn(PORT, there(0))] {
        refused_quietly(packet, Transport::Tcp, PacketRefusal::Malformed).await;
    }
    let early = Segment { control: TcpControl::Syn, data: b"early", ..Segment::default() };
    let packet = segment(PORT, there(ECHO), &early);
    refused_quietly(packet, Transport::Tcp, PacketRefusal::Malformed).await;
    // UDP: a length beyond the packet or below its header, nothing asked, too much asked.
    for length in [200, 7] {
        let mut packet = question(b"abc");
        packet[25] = length;
        refused_quietly(packet, Transport::Udp, PacketRefusal::Malformed).await;
    }
    for packet in [question(b""), question(&[b'x'; 1_233])] {
        refused_quietly(packet, Transport::Dns, PacketRefusal::Malformed).await;
    }
}

#[tokio::test]
async fn wrong_checksums_are_no_matter() {
    let (_handle, _script, fd) = start();
    let wire = Wire::new(fd);
    let mut packet = syn(PORT, there(ECHO));
    packet[10] ^= 0xff;
    packet[36] ^= 0xff;
    assert!(wire.send(&packet).await);
    assert_eq!(Tcp::of(&wire.next().await.unwrap()).flags, "SA");
}

#[tokio::test]
async fn segments_that_overlap_or_come_out_of_order_are_read_once_and_in_order() {
    let (_handle, _script, fd) = start();
    let wire = Wire::new(fd);
    let to = there(ECHO);
    assert!(wire.send(&syn(PORT, to)).await);
    let accepted = Tcp::of(&wire.next().await.unwrap());
    let ack = Some(accepted.seq + 1);
    let send = async |seq: i32, data: &[u8]| {
        let of = Segment { seq: 1_001 + seq, ack, data, ..Segment::default() };
        assert!(wire.send(&segment(PORT, to, &of)).await);
    };
    send(0, b"").await;
    // Overlaps that disagree: what came first counts where it was taken.
    send(6, b"ghi").await;
    send(3, b"defGH").await;
    send(0, b"a").await;
    send(0, b"XbcD").await;
    // Far outside the window.
    send(10_000_000, b"never").await;
    send(-5_000, b"never").await;
    let mut back = Vec::new();
    let read = async {
        while back.len() < 9 {
            back.extend(Tcp::of(&wire.next().await.unwrap()).data);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    let text = String::from_utf8(back).unwrap();
    assert_eq!(text.to_lowercase(), "abcdefghi");
}
