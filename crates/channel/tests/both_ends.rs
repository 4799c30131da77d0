//! Both ends of a channel, over a real socketpair.

use std::os::fd::OwnedFd;
use std::time::Duration;

use courier_channel::{ChannelError, PAYLOAD_MAX, guest, host};
use proptest::prelude::*;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// No test here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socketpair")
}

fn ends() -> (host::Channel, guest::Channel) {
    let (host, guest) = pair();
    (host::Channel::new(host).expect("a channel"), guest::Channel::new(guest).expect("a channel"))
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

#[tokio::test]
async fn bytes_arrive_whole_both_ways_and_a_shutdown_is_an_end() {
    let (mut host, mut guest) = ends();
    let mut ours = host.open(7).await.unwrap();
    let mut theirs = soon(guest.accept()).await.unwrap();
    assert_eq!(theirs.epoch(), 7);
    let sent: Vec<u8> = (0..3 * PAYLOAD_MAX + 5).map(|i| (i % 251) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        ours.write_all(&sent).await.unwrap();
        ours.shutdown().await.unwrap();
    });
    let mut seen = Vec::new();
    soon(theirs.read_to_end(&mut seen)).await.unwrap();
    assert!(seen == expected, "{} bytes of {}", seen.len(), expected.len());
    writer.await.unwrap();
    assert!(theirs.write_all(b"late").await.is_err(), "the epoch is over both ways");
}

#[tokio::test]
async fn a_new_epoch_ends_the_former_on_both_sides() {
    let (mut host, mut guest) = ends();
    let mut first = host.open(1).await.unwrap();
    let mut theirs = soon(guest.accept()).await.unwrap();
    let served = tokio::spawn(async move {
        let mut seen = Vec::new();
        soon(theirs.read_to_end(&mut seen)).await.unwrap();
        seen
    });
    let waiting = tokio::spawn(async move {
        let read = soon(first.read(&mut [0; 8])).await.unwrap();
        (read, first.write(b"x").await.unwrap_err().kind())
    });
    tokio::task::yield_now().await;
    let mut second = host.open(2).await.unwrap();
    let mut theirs = soon(guest.accept()).await.unwrap();
    assert_eq!(soon(served).await.unwrap(), b"");
    assert_eq!(soon(waiting).await.unwrap(), (0, std::io::ErrorKind::BrokenPipe));
    theirs.write_all(b"hello").await.unwrap();
    let mut seen = [0; 5];
    soon(second.read_exact(&mut seen)).await.unwrap();
    assert_eq!(&seen, b"hello");
}

#[tokio::test]
async fn a_host_that_vanished_mid_epoch_is_succeeded_by_a_new_one() {
    let (host, guest) = pair();
    let kept = host.try_clone().unwrap();
    let mut guest = guest::Channel::new(guest).unwrap();
    let mut old = host::Channel::new(host).unwrap();
    let stream = old.open(11).await.unwrap();
    let mut theirs = soon(guest.accept()).await.unwrap();
    // The old host reads nothing, so the guest gets stuck in its writing; then the host is gone
    // without a word (as after SIGKILL: nothing is dropped).
    let flood = tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(&mut theirs);
        let (flood, mut seen) = (vec![7; 8 << 20], Vec::new());
        tokio::join!(write.write_all(&flood), read.read_to_end(&mut seen)).0
    });
    tokio::task::yield_now().await;
    std::mem::forget(stream);
    let mut new = host::Channel::new(kept).unwrap();
    let (ours, theirs) = soon(async { tokio::join!(new.open(12), guest.accept()) }).await;
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    assert!(soon(flood).await.unwrap().is_err(), "the former stream is over");
    let mut seen = [0; 5];
    let (written, read) =
        soon(async { tokio::join!(theirs.write_all(b"fresh"), ours.read_exact(&mut seen)) }).await;
    written.and(read).unwrap();
    assert_eq!(&seen, b"fresh", "nothing of the former epoch is seen");
}

#[tokio::test]
async fn a_dropped_stream_is_an_end_even_when_there_was_no_room_to_say_so() {
    let (mut host, mut guest) = ends();
    let mut ours = host.open(1).await.unwrap();
    let mut theirs = soon(guest.accept()).await.unwrap();
    let full = async { theirs.write_all(&vec![1; 64 << 20]).await };
    assert!(tokio::time::timeout(Duration::from_millis(50), full).await.is_err());
    drop(theirs);
    let again = tokio::spawn(async move { guest.accept().await.map(|stream| stream.epoch()) });
    soon(ours.read_to_end(&mut Vec::new())).await.unwrap();
    let _ours = host.open(2).await.unwrap();
    assert_eq!(soon(again).await.unwrap(), Ok(2));
}

#[tokio::test]
async fn garbage_from_the_guest_ends_the_channel_with_its_reason() {
    for (record, expected) in [
        (vec![1, 7, 0, 0, 0], ChannelError::Kind { kind: 1 }),
        (vec![9, 7, 0, 0, 0, 1], ChannelError::Kind { kind: 9 }),
        (vec![2, 7], ChannelError::Short { bytes: 2 }),
        (vec![2, 7, 0, 0, 0], ChannelError::Payload { kind: 2, bytes: 0 }),
        (vec![3, 7, 0, 0, 0, 1], ChannelError::Payload { kind: 3, bytes: 1 }),
        (vec![2; PAYLOAD_MAX * 2], ChannelError::Oversized),
    ] {
        let (host, guest) = pair();
        let mut host = host::Channel::new(host).unwrap();
        let mut stream = host.open(7).await.unwrap();
        send(&guest, &record, SendFlags::empty()).unwrap();
        let error = soon(stream.read(&mut [0; 100_000])).await.unwrap_err();
        assert_eq!(error.downcast::<ChannelError>().unwrap(), expected);
        assert_eq!(host.failure(), Some(expected));
        assert!(host.open(8).await.is_err());
    }
}

#[tokio::test]
async fn an_endless_flood_of_stale_records_ends_the_channel() {
    let (host, guest) = pair();
    let mut host = host::Channel::new(host).unwrap();
    let mut stream = host.open(7).await.unwrap();
    let flood =
        std::thread::spawn(
            move || {
                while send(&guest, &[2, 6, 0, 0, 0, 1], SendFlags::NOSIGNAL).is_ok() {}
            },
        );
    let error = soon(stream.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.downcast::<ChannelError>().unwrap(), ChannelError::Stale);
    drop((stream, host));
    flood.join().unwrap();
}

#[tokio::test]
async fn a_closed_socket_is_told_to_everybody() {
    let (mut host, mut guest) = ends();
    let stream = host.open(1).await.unwrap();
    let mut theirs = soon(guest.accept()).await.unwrap();
    drop((stream, host));
    soon(theirs.read_to_end(&mut Vec::new())).await.unwrap();
    drop(theirs);
    assert_eq!(soon(guest.accept()).await.unwrap_err(), ChannelError::Closed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_epochs_and_writes_delivers_each_byte_of_the_last_epoch_once(
        epochs in prop::collection::vec(prop::collection::vec(1_usize..200_000, 0..6), 1..4),
        read_size in 1_usize..100_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut host, mut guest) = ends();
            let last = epochs.len() as u32;
            let echo = tokio::spawn(async move {
                loop {
                    let mut stream = guest.accept().await.unwrap();
                    let done = stream.epoch() == last;
                    let server = tokio::spawn(async move {
                        let (mut read, mut write) = tokio::io::split(&mut stream);
                        let _ends_with_its_epoch = tokio::io::copy(&mut read, &mut write).await;
                        let _ends_with_its_epoch = stream.shutdown().await;
                    });
                    if done { server.await.unwrap(); return; }
                }
            });
            for (epoch, writes) in (1..).zip(&epochs) {
                let mut stream = host.open(epoch).await.unwrap();
                let total: usize = writes.iter().sum();
                let bytes: Vec<u8> = (0..total).map(|i| (i as u32 * epoch) as u8).collect();
                let (mut read, mut write) = tokio::io::split(&mut stream);
                let send = async {
                    let mut rest = bytes.as_slice();
                    for size in writes {
                        let (now, later) = rest.split_at(*size);
                        write.write_all(now).await.unwrap();
                        rest = later;
                    }
                };
                let receive = async {
                    let mut seen = Vec::new();
                    let mut buffer = vec![0; read_size];
                    while seen.len() < total {
                        let count = read.read(&mut buffer).await.unwrap();
                        assert_ne!(count, 0);
                        seen.extend_from_slice(&buffer[..count]);
                    }
                    seen
                };
                if epoch == last {
                    let ((), seen) = soon(async { tokio::join!(send, receive) }).await;
                    assert!(seen == bytes);
                    stream.shutdown().await.unwrap();
                } else {
                    // Left in the middle: whatever is on the way belongs to nobody any more.
                    let _cut = tokio::time::timeout(Duration::from_millis(1), send).await;
                }
            }
            soon(echo).await.unwrap();
        });
    }
}
