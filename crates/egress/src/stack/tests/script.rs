//! Services that do what the port says.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::super::{Admission, GuestStream, RefusedPacket, Services, StackHandle, spawn};

/// Everything that is waited for comes by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Gives back what it gets.
pub(super) const ECHO: u16 = 7;
/// Sends zeros until it cannot.
pub(super) const SOURCE: u16 = 19;
/// Reads to the end and then says how much it was, as text.
pub(super) const COUNT: u16 = 20;
/// Says `bye`, ends its half, and forgets the rest.
pub(super) const BYE: u16 = 21;
/// Drops its stream at once.
pub(super) const DROP: u16 = 22;
/// Hands its stream to the test.
pub(super) const HAND: u16 = 23;
/// Panics.
pub(super) const PANIC: u16 = 24;
/// Is refused.
pub(super) const REFUSED: u16 = 25;
/// Is admitted only once [`Script::gate`] says so.
pub(super) const GATED: u16 = 26;

/// The services and what they saw.
pub(super) struct Script {
    /// What was refused, in order.
    pub(super) refused: watch::Sender<Vec<RefusedPacket>>,
    /// What `admit` was asked for.
    pub(super) admitted: Mutex<Vec<SocketAddrV4>>,
    /// Lets connections to [`GATED`] in, and answers to questions that begin with `g` out.
    pub(super) gate: watch::Sender<bool>,
    /// Questions that are being answered.
    pub(super) questions: watch::Sender<usize>,
    hand: mpsc::Sender<GuestStream>,
    handed: Mutex<Option<mpsc::Receiver<GuestStream>>>,
}

impl Default for Script {
    fn default() -> Self {
        let (hand, handed) = mpsc::channel(16);
        Self {
            refused: watch::Sender::default(),
            admitted: Mutex::default(),
            gate: watch::Sender::new(false),
            questions: watch::Sender::new(0),
            hand,
            handed: Mutex::new(Some(handed)),
        }
    }
}

impl Script {
    /// Waits for a refusal.
    pub(super) async fn saw(&self, wanted: RefusedPacket) {
        let mut refused = self.refused.subscribe();
        let seen = refused.wait_for(|seen| seen.contains(&wanted));
        let seen = tokio::time::timeout(PATIENCE, seen).await.is_ok();
        assert!(seen, "no {wanted:?} in {:?}", self.refused.borrow());
    }

    /// The next stream to [`HAND`].
    pub(super) async fn handed(&self) -> GuestStream {
        let mut handed = self.handed.lock().unwrap().take().expect("one at a time");
        let stream = tokio::time::timeout(PATIENCE, handed.recv()).await.expect("in time");
        *self.handed.lock().unwrap() = Some(handed);
        stream.expect("the sender is here")
    }

    /// How often `admit` was asked.
    pub(super) fn asked(&self) -> usize {
        self.admitted.lock().unwrap().len()
    }
}

impl Services for Script {
    fn dns(&self, query: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        self.questions.send_modify(|count| *count += 1);
        let mut gate = self.gate.subscribe();
        async move {
            if query.starts_with(b"g") {
                gate.wait_for(|open| *open).await.ok()?;
            }
            (query != b"silence").then(|| query.into_iter().rev().collect())
        }
        .boxed()
    }

    fn admit(&self, to: SocketAddrV4) -> BoxFuture<'static, Admission> {
        self.admitted.lock().unwrap().push(to);
        let hand = self.hand.clone();
        let mut gate = self.gate.subscribe();
        async move {
            match to.port() {
                REFUSED => return Admission::Refuse,
                GATED if gate.wait_for(|open| *open).await.is_err() => return Admission::Refuse,
                _ => {}
            }
            Admission::Accept(Box::new(move |stream| serve(to.port(), stream, hand).boxed()))
        }
        .boxed()
    }

    fn refused(&self, what: RefusedPacket) {
        self.refused.send_modify(|seen| seen.push(what));
    }
}

async fn serve(port: u16, mut stream: GuestStream, hand: mpsc::Sender<GuestStream>) {
    match port {
        SOURCE => {
            let zeros = vec![0; 65_536];
            while stream.write_all(&zeros).await.is_ok() {}
        }
        COUNT => {
            let mut sink = vec![0; 65_536];
            let mut sum = 0;
            while let Ok(count @ 1..) = stream.read(&mut sink).await {
                sum += count;
            }
            let _told = stream.write_all(sum.to_string().as_bytes()).await;
            let _ended = stream.shutdown().await;
        }
        BYE => {
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
        }
        DROP => {}
        HAND => hand.send(stream).await.unwrap(),
        PANIC => panic!("this is a test"),
        _ => {
            let (mut read, mut write) = tokio::io::split(stream);
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                let _ended = write.shutdown().await;
            }
        }
    }
}

/// A stack with its services, and the guest's end of its link.
pub(super) fn start() -> (StackHandle, Arc<Script>, OwnedFd) {
    // As the launcher does.
    start_with_room(1 << 20)
}

/// The same, with so much room in the link in each direction; the kernel doubles it.
pub(super) fn start_with_room(bytes: usize) -> (StackHandle, Arc<Script>, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (host, guest) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    for end in [&host, &guest] {
        rustix::net::sockopt::set_socket_send_buffer_size(end, bytes).unwrap();
    }
    let script = Arc::new(Script::default());
    let handle = spawn(host, script.clone()).unwrap();
    (handle, script, guest)
}
