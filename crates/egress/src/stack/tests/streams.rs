//! Connections as programs see them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::{HOST, LINK_MTU, StackHandle};
use super::guest::{Guest, Socket, Wire, take};
use super::packets::{Tcp, syn};
use super::script::{BYE, COUNT, DROP, ECHO, GATED, HAND, PANIC, PATIENCE, REFUSED, SOURCE, start};

/// Somewhere outside; from the addresses for documentation (RFC 5737).
fn there(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), port)
}

/// Bytes that are not all the same.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// Waits until the stack has so many connections.
async fn connections(handle: &StackHandle, count: usize) {
    let wait = async {
        while handle.connections() != count {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "{} connections, not {count}", handle.connections());
}

#[tokio::test]
async fn bytes_come_back_whole_and_in_order_in_any_amount() {
    let (handle, _script, fd) = start();
    let mut guest = Guest::new(fd);
    for count in [1, 1_000, LINK_MTU, 3_000_000] {
        let socket = guest.connect(there(ECHO)).await;
        let sent = bytes(count);
        assert!(guest.exchange(socket, &sent).await == sent, "{count} bytes");
        guest.socket(socket).close();
        assert_eq!(guest.read_to_end(socket).await, b"");
    }
    connections(&handle, 0).await;
}

#[tokio::test]
async fn every_destination_is_asked_for_and_is_a_connection_of_its_own() {
    let (handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    let mut asked = Vec::new();
    for address in [[8, 8, 8, 8], [198, 18, 0, 3], [10, 0, 0, 1], [169, 254, 169, 254]] {
        let to = SocketAddrV4::new(address.into(), ECHO);
        let socket = guest.connect(to).await;
        assert_eq!(guest.exchange(socket, &address).await, address);
        asked.push(to);
    }
    assert_eq!(*script.admitted.lock().unwrap(), asked);
    assert_eq!(handle.connections(), asked.len());
}

#[tokio::test]
async fn each_half_ends_by_itself() {
    let (handle, _script, fd) = start();
    let mut guest = Guest::new(fd);
    // The guest's half first: what the other says afterwards arrives.
    let socket = guest.connect(there(COUNT)).await;
    let mut rest = &bytes(200_000)[..];
    guest
        .until("sent", |sockets| {
            let socket = sockets.get_mut::<Socket>(socket);
            rest = &rest[socket.send_slice(rest).unwrap()..];
            rest.is_empty()
        })
        .await;
    guest.socket(socket).close();
    assert_eq!(guest.read_to_end(socket).await, b"200000");
    // The other's half first, and nobody reads there any more: the guest may still finish.
    let socket = guest.connect(there(BYE)).await;
    assert_eq!(guest.read_to_end(socket).await, b"bye");
    assert_eq!(guest.socket(socket).state(), State::CloseWait);
    let mut rest = &bytes(1_000_000)[..];
    guest
        .until("sent to nobody", |sockets| {
            let socket = sockets.get_mut::<Socket>(socket);
            rest = &rest[socket.send_slice(rest).unwrap()..];
            rest.is_empty() && socket.send_queue() == 0
        })
        .await;
    guest.socket(socket).close();
    guest.closed(socket).await;
    connections(&handle, 0).await;
}

#[tokio::test]
async fn dropping_a_stream_resets_the_guest_and_a_panic_ends_one_connection_only() {
    let (handle, _script, fd) = start();
    let mut guest = Guest::new(fd);
    let neighbour = guest.connect(there(ECHO)).await;
    for port in [DROP, PANIC] {
        let socket = guest.connect(there(port)).await;
        guest.closed(socket).await;
    }
    assert_eq!(guest.exchange(neighbour, b"still here").await, b"still here");
    connections(&handle, 1).await;
}

#[tokio::test]
async fn a_reset_by_the_guest_reaches_reader_and_writer() {
    let (handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    let socket = guest.connect(there(HAND)).await;
    let mut stream = script.handed().await;
    let reading = tokio::spawn(async move {
        let error = stream.read_u8().await.unwrap_err();
        (error.kind(), stream.write_u8(1).await.unwrap_err().kind())
    });
    guest.socket(socket).abort();
    guest.poll();
    let kind = std::io::ErrorKind::ConnectionReset;
    assert_eq!(reading.await.unwrap(), (kind, kind));
    connections(&handle, 0).await;
}

#[tokio::test]
async fn writing_after_the_end_of_our_half_is_an_error_and_reading_goes_on() {
    let (_handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    let socket = guest.connect(there(HAND)).await;
    let mut stream = script.handed().await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.write_u8(1).await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(guest.read_to_end(socket).await, b"");
    guest.socket(socket).send_slice(b"x").unwrap();
    guest.poll();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_refused_connection_is_reset_at_once_and_asked_for_once() {
    let (handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    let socket = guest.dial(there(REFUSED));
    guest.closed(socket).await;
    assert_eq!((script.asked(), handle.connections()), (1, 0));
    // The gateway is refused without being asked for.
    let socket = guest.dial(SocketAddrV4::new(HOST, 53));
    guest.closed(socket).await;
    assert_eq!(script.asked(), 1);
}

#[tokio::test]
async fn the_guest_hears_nothing_before_it_is_admitted_and_repeats_ask_nobody() {
    let (handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    let socket = guest.dial(there(GATED));
    // Its SYN is repeated after a second.
    let begun = std::time::Instant::now();
    let mut polls = 0;
    guest
        .until("repeated", |_| {
            polls += 1;
            begun.elapsed() > Duration::from_millis(1_100)
        })
        .await;
    assert!(polls > 1, "the guest woke to repeat its SYN");
    assert_eq!(guest.socket(socket).state(), State::SynSent);
    assert_eq!((script.asked(), handle.connections()), (1, 0));
    script.gate.send_replace(true);
    guest.until("connected", |sockets| sockets.get::<Socket>(socket).may_send()).await;
    assert_eq!(guest.exchange(socket, b"hello").await, b"hello");
    assert_eq!(script.asked(), 1);
}

#[tokio::test]
async fn a_reader_that_is_slow_stops_the_writer_on_either_side() {
    let (_handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    // The guest writes, nobody reads: it comes to a halt, and nothing is lost.
    let socket = guest.connect(there(HAND)).await;
    let mut stream = script.handed().await;
    let sent = bytes(2_000_000);
    let mut count = 0;
    let begun = std::time::Instant::now();
    guest
        .until("stopped", |sockets| {
            let socket = sockets.get_mut::<Socket>(socket);
            count += socket.send_slice(&sent[count..]).unwrap();
            begun.elapsed() > Duration::from_millis(300)
        })
        .await;
    assert!(count < 5 * LINK_MTU + guest.buffer, "{count} bytes were taken and not read");
    let expected = sent.clone();
    let reading = tokio::spawn(async move {
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert!(got == expected);
        stream
    });
    guest
        .until("read", |sockets| {
            let socket = sockets.get_mut::<Socket>(socket);
            count += socket.send_slice(&sent[count..]).unwrap();
            count == sent.len() && socket.send_queue() == 0
        })
        .await;
    let mut stream = reading.await.unwrap();
    // The other way round.
    let writing = tokio::spawn(async move {
        for chunk in sent.chunks(8_192) {
            stream.write_all(chunk).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        sent
    });
    let begun = std::time::Instant::now();
    guest.until("stopped", |_| begun.elapsed() > Duration::from_millis(300)).await;
    assert!(!writing.is_finished(), "a guest that does not read stops who writes to it");
    let got = guest.read_to_end(socket).await;
    assert!(got == writing.await.unwrap());
}

#[tokio::test]
async fn five_hundred_connections_work_at_once() {
    let (handle, _script, fd) = start();
    let mut guest = Guest::new(fd);
    guest.buffer = 4_096;
    let sockets: Vec<_> = (0..500).map(|_| guest.dial(there(ECHO))).collect();
    guest
        .until("all are connected", |set| {
            sockets.iter().all(|handle| set.get::<Socket>(*handle).may_send())
        })
        .await;
    connections(&handle, 500).await;
    let mut back = vec![Vec::new(); sockets.len()];
    for (index, socket) in sockets.iter().enumerate() {
        guest.socket(*socket).send_slice(format!("number {index}").as_bytes()).unwrap();
    }
    guest
        .until("all have answers", |set| {
            let mut all = true;
            for (index, handle) in sockets.iter().enumerate() {
                take(set.get_mut(*handle), &mut back[index]);
                all &= back[index] == format!("number {index}").as_bytes();
            }
            all
        })
        .await;
    for socket in &sockets {
        guest.socket(*socket).close();
    }
    guest
        .until("all are closed", |set| {
            sockets.iter().all(|handle| !set.get::<Socket>(*handle).may_recv())
        })
        .await;
    connections(&handle, 0).await;
}

#[tokio::test]
async fn without_its_handle_the_link_closes_and_connections_fail() {
    let (handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    let socket = guest.connect(there(HAND)).await;
    let mut stream = script.handed().await;
    drop(handle);
    // The guest hears of it as far as it can, and then there is no link.
    guest.closed(socket).await;
    assert_eq!(guest.wire.next().await, None);
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(stream.write_u8(1).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_end_of_the_link_ends_the_stack() {
    let (handle, script, fd) = start();
    let mut guest = Guest::new(fd);
    guest.connect(there(HAND)).await;
    let mut stream = script.handed().await;
    drop(guest);
    tokio::time::timeout(PATIENCE, handle.closed()).await.expect("ended");
    assert_eq!(handle.connections(), 0);
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_source_without_end_is_stopped_by_a_guest_that_goes() {
    let (handle, _script, fd) = start();
    let mut guest = Guest::new(fd);
    let socket = guest.connect(there(SOURCE)).await;
    let mut got = Vec::new();
    guest
        .until("a megabyte", |sockets| {
            take(sockets.get_mut(socket), &mut got);
            got.len() > 1_000_000
        })
        .await;
    guest.socket(socket).abort();
    guest.poll();
    connections(&handle, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_acknowledges_its_connection_is_forgotten() {
    let (handle, _script, fd) = start();
    let wire = Wire::new(fd);
    assert!(wire.send(&syn(40_000, there(ECHO))).await);
    let answer = Tcp::of(&wire.next().await.unwrap());
    assert_eq!(answer.flags, "SA");
    connections(&handle, 1).await;
    // Time goes by on its own here: the answer is repeated, and in the end taken back.
    loop {
        let answer = Tcp::of(&wire.next().await.unwrap());
        if answer.flags.contains('R') {
            break;
        }
        assert_eq!(answer.flags, "SA");
    }
    connections(&handle, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_ends_its_half_is_forgotten() {
    let (handle, _script, fd) = start();
    let mut guest = Guest::new(fd);
    let socket = guest.connect(there(BYE)).await;
    assert_eq!(guest.read_to_end(socket).await, b"bye");
    // In the guest's clock no time goes by: it neither acknowledges nor closes, and all that comes is
    // repeated until the stack's patience ends.
    loop {
        let packet = Tcp::of(&guest.wire.next().await.unwrap());
        if packet.flags.contains('R') {
            break;
        }
        assert_eq!((&packet.flags[..], &packet.data[..]), ("FA", &b"bye"[..]));
    }
    connections(&handle, 0).await;
}
