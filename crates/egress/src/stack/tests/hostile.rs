//! Bytes that nobody would send: whatever comes, the stack goes on and answers the next question.

use std::net::SocketAddrV4;

use proptest::collection::vec;
use proptest::prelude::*;
use smoltcp::wire::TcpControl;

use super::guest::Wire;
use super::packets::{Segment, THERE, Tcp, question, segment, syn, udp};
use super::script::{BYE, COUNT, DROP, ECHO, REFUSED, SOURCE, start};

/// One thing that a hostile guest does.
#[derive(Debug, Clone)]
enum Move {
    /// Any bytes.
    Bytes(Vec<u8>),
    /// A valid packet with some bytes changed.
    Changed { packet: Vec<u8>, changes: Vec<(usize, u8)> },
    /// A segment that fits a connection, with numbers near those that are right.
    Segment { port: u16, to: u16, control: TcpControl, seq: i32, ack: Option<i32>, data: usize },
}

fn ports() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![ECHO, COUNT, BYE, DROP, REFUSED, SOURCE])
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    let to = || ports().prop_map(|port| SocketAddrV4::new(THERE, port));
    prop_oneof![
        to().prop_map(|to| syn(40_000, to)),
        to().prop_map(|to| udp(to, b"datagram")),
        Just(question(b"question")),
    ]
}

fn near() -> impl Strategy<Value = i32> {
    prop_oneof![
        4 => -3_i32..10,
        2 => 65_000_i32..66_000,
        2 => 262_000_i32..263_000,
        1 => any::<i32>(),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    let control = prop::sample::select(vec![
        TcpControl::None,
        TcpControl::Psh,
        TcpControl::Fin,
        TcpControl::Rst,
        TcpControl::Syn,
    ]);
    let numbers = (near(), prop::option::weighted(0.9, near()), 0_usize..3_000);
    prop_oneof![
        1 => vec(any::<u8>(), 1..200).prop_map(Move::Bytes),
        2 => (valid(), vec((0_usize..60, any::<u8>()), 1..4))
            .prop_map(|(packet, changes)| Move::Changed { packet, changes }),
        6 => (40_000_u16..40_003, ports(), control, numbers).prop_map(
            |(port, to, control, (seq, ack, data))| Move::Segment { port, to, control, seq, ack, data }
        ),
    ]
}

/// Plays moves on a link; the peers' numbers are learnt from what comes back, so that some of the
/// segments fit.
async fn play(moves: Vec<Move>) {
    let (handle, _script, fd) = start();
    let wire = Wire::new(fd);
    let mut expected = std::collections::HashMap::new();
    for one in moves {
        let packet = match one {
            Move::Bytes(bytes) => bytes,
            Move::Changed { mut packet, changes } => {
                for (at, byte) in changes {
                    if let Some(place) = packet.get_mut(at) {
                        *place = byte;
                    }
                }
                packet
            }
            Move::Segment { port, to, control, seq, ack, data } => {
                let to = SocketAddrV4::new(THERE, to);
                let theirs: i32 = expected.get(&to.port()).copied().unwrap_or_default();
                let data = vec![b'x'; if control == TcpControl::Syn { 0 } else { data }];
                let of = Segment {
                    control,
                    seq: 1_001_i32.wrapping_add(seq),
                    ack: ack.map(|ack| theirs.wrapping_add(ack)),
                    mss: (control == TcpControl::Syn)
                        .then_some(u16::try_from(seq & 0xffff).unwrap()),
                    data: &data,
                };
                segment(port, to, &of)
            }
        };
        assert!(wire.send(&packet).await, "the stack goes on");
        // The answer to a question tells that everything before it was taken.
        assert!(wire.send(&question(b"fence")).await);
        loop {
            let packet = wire.next().await.expect("the stack goes on");
            if packet.ends_with(b"ecnef") {
                break;
            }
            if packet.get(9) == Some(&6) {
                let segment = Tcp::of(&packet);
                expected.insert(segment.from.port(), segment.seq.wrapping_add(1));
            }
        }
    }
    // And it still works for a guest that behaves.
    assert!(handle.connections() <= 60);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_the_stack_goes_on(moves in vec(moves(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(moves));
    }

    #[test]
    fn whatever_comes_is_parsed_without_a_panic(bytes in vec(any::<u8>(), 0..2_000)) {
        let _parsed = super::super::packet::parse(&bytes);
        for reply in [super::super::reply::Reply::Reset, super::super::reply::Reply::PortUnreachable] {
            let _reply = reply.to(&bytes);
        }
    }
}
