//! Too much of everything.

use std::net::{Ipv4Addr, SocketAddrV4};

use courier_types::egress::Transport;
use rustix::net::SendFlags;
use smoltcp::wire::TcpControl;

use super::super::pace::{PACKETS, WINDOW};
use super::super::packet::PacketRefusal;
use super::super::table::{CONNECTIONS_MAX, OPENING_MAX};
use super::super::task::DNS_IN_FLIGHT;
use super::super::{LINK_MTU, RefusedPacket};
use super::guest::Wire;
use super::packets::{Segment, THERE, Tcp, question, segment, syn, udp};
use super::script::{BYE, ECHO, GATED, PATIENCE, start, start_with_room};

fn there(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(THERE, port)
}

#[tokio::test]
async fn more_connections_than_may_be_are_reset() {
    let (handle, script, fd) = start();
    let wire = Wire::new(fd);
    let to = there(ECHO);
    for number in 0..CONNECTIONS_MAX {
        let port = 10_000 + u16::try_from(number).unwrap();
        assert!(wire.send(&syn(port, to)).await);
        let answer = Tcp::of(&wire.next().await.unwrap());
        assert_eq!(answer.flags, "SA");
        let of = Segment { seq: 1_001, ack: Some(answer.seq + 1), ..Segment::default() };
        assert!(wire.send(&segment(port, to, &of)).await);
    }
    assert_eq!(handle.connections(), CONNECTIONS_MAX);
    assert!(wire.send(&syn(9_999, to)).await);
    assert_eq!(Tcp::of(&wire.next().await.unwrap()).flags, "RA");
    let (transport, refusal) = (Transport::Tcp, PacketRefusal::Connections);
    script.saw(RefusedPacket { transport, to: Some(to), refusal }).await;
    // One that ends makes room for another.
    let reset = Segment { control: TcpControl::Rst, seq: 1_001, ..Segment::default() };
    assert!(wire.send(&segment(10_000, to, &reset)).await);
    let gone = async {
        while handle.connections() == CONNECTIONS_MAX {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("there is room");
    assert!(wire.send(&syn(9_999, to)).await);
    assert_eq!(Tcp::of(&wire.next().await.unwrap()).flags, "SA");
}

#[tokio::test]
async fn more_connections_than_may_wait_are_not_heard_of() {
    let (handle, script, fd) = start();
    let wire = Wire::new(fd);
    for number in 0..=OPENING_MAX {
        assert!(wire.send(&syn(10_000 + u16::try_from(number).unwrap(), there(GATED))).await);
    }
    wire.quiet().await;
    let to = Some(there(GATED));
    let what = RefusedPacket { transport: Transport::Tcp, to, refusal: PacketRefusal::Opening };
    assert_eq!(*script.refused.borrow(), [what]);
    assert_eq!(handle.connections(), 0);
    script.gate.send_replace(true);
    for _ in 0..OPENING_MAX {
        assert_eq!(Tcp::of(&wire.next().await.unwrap()).flags, "SA");
    }
    assert_eq!(script.asked(), OPENING_MAX);
}

#[tokio::test]
async fn more_questions_than_may_be_are_not_asked() {
    let (_handle, script, fd) = start();
    let wire = Wire::new(fd);
    for _ in 0..=DNS_IN_FLIGHT {
        assert!(wire.send(&question(b"gated")).await);
    }
    let (transport, refusal) = (Transport::Dns, PacketRefusal::Questions);
    script.saw(RefusedPacket { transport, to: None, refusal }).await;
    assert_eq!(*script.questions.borrow(), DNS_IN_FLIGHT);
    script.gate.send_replace(true);
    for _ in 0..DNS_IN_FLIGHT {
        assert!(wire.next().await.unwrap().ends_with(b"detag"));
    }
    // And there is room again, also after questions without an answer.
    for _ in 0..2 * DNS_IN_FLIGHT {
        assert!(wire.send(&question(b"silence")).await);
        wire.quiet().await;
    }
}

#[tokio::test]
async fn a_guest_that_reads_nothing_loses_answers_and_no_bytes() {
    let (_handle, _script, fd) = start_with_room(2 * LINK_MTU);
    let wire = Wire::new(fd);
    let to = there(BYE);
    assert!(wire.send(&syn(40_000, to)).await);
    let accepted = Tcp::of(&wire.next().await.unwrap());
    // Answers fill the link, as nobody reads it.
    for _ in 0..4_000 {
        assert!(wire.send(&syn(40_001, SocketAddrV4::new(super::super::HOST, 1))).await);
    }
    let of = Segment { seq: 1_001, ack: Some(accepted.seq + 1), ..Segment::default() };
    assert!(wire.send(&segment(40_000, to, &of)).await);
    // What a connection has to say waits for room.
    let (mut resets, mut said) = (0, Vec::<u8>::new());
    let read = async {
        loop {
            let segment = Tcp::of(&wire.next().await.unwrap());
            said.extend(&segment.data);
            match segment.flags.as_str() {
                "RA" => resets += 1,
                flags if flags.contains('F') => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    assert_eq!(said, b"bye");
    assert!(resets < 4_000, "the link never was full");
}

#[tokio::test]
async fn a_flood_leaves_others_their_turn() {
    const FLOOD: usize = 1_000;
    let (_handle, script, fd) = start();
    // Nothing else runs on this thread before the first await: all of it waits in the link.
    let packet = udp(SocketAddrV4::new(Ipv4Addr::BROADCAST, 9), b"x");
    for _ in 0..FLOOD {
        rustix::net::send(&fd, &packet, SendFlags::NOSIGNAL).unwrap();
    }
    let mut refused = script.refused.subscribe();
    let mut turns = 0;
    let all = async {
        loop {
            let count = refused.wait_for(|seen| seen.len() > turns).await.unwrap().len();
            turns += 1;
            if count == FLOOD {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all is taken in the end");
    assert!(turns > 4, "this task had {turns} turns meanwhile");
}

#[tokio::test]
async fn packets_that_lead_nowhere_are_read_slowly_when_there_are_many() {
    let (_handle, _script, fd) = start();
    let wire = Wire::new(fd);
    let begun = std::time::Instant::now();
    for _ in 0..4 * PACKETS {
        assert!(wire.send(&udp(there(9), b"x")).await);
        // Each is answered by ICMP, so that none was dropped on the way.
        assert!(wire.next().await.is_some());
    }
    // Four windows' worth: three rests at least, of which the first may have begun before the test.
    assert!(begun.elapsed() >= 2 * WINDOW, "{:?}", begun.elapsed());
}
