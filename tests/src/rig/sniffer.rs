//! Sees every packet that leaves the node, whatever decoy it is for, or none.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};

use super::packet::{Carried, Packet};
use super::wiring::{NET_V4, Wiring};
use crate::wait;

/// Room for packets that arrive while the sniffer's thread waits for a core.
const BUFFER: usize = 64 << 20;
/// Largest frame: an aggregate of TCP segments as the kernel passes it over a veth pair.
const LARGEST: usize = 256 << 10;
/// Bytes kept of each packet; more than any probe puts before its canary.
const KEPT: usize = 4096;
/// Packets kept; a suite makes some ten thousands.
const MOST: usize = 1_000_000;
/// How soon the thread sees that it shall end.
const LOOK: Duration = Duration::from_millis(100);
/// A marker comes back within milliseconds, or the sniffer is dead.
const MARKER: Duration = Duration::from_secs(10);
/// Port of the markers; nothing else uses it.
const MARKER_PORT: u16 = 64_999;

/// A place in the record of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(usize);

/// The running sniffer; it ends when dropped.
#[derive(Debug)]
pub struct Sniffer {
    seen: Arc<Mutex<Vec<Packet>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Starts it at the internet's end of the cable.
    #[track_caller]
    #[must_use]
    pub fn start(wiring: &Wiring) -> Self {
        let socket = wiring.net.run(open);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let thread = {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            std::thread::spawn(move || listen(&socket, &seen, &over))
        };
        Self { seen, over, thread: Some(thread) }
    }

    fn packets(&self) -> MutexGuard<'_, Vec<Packet>> {
        self.seen.lock().expect("nothing panics with the record's lock")
    }

    /// The end of the record, after everything that has left the node so far. `socket` is one that
    /// sends from the node.
    #[track_caller]
    #[must_use]
    pub fn place(&self, socket: &UdpSocket) -> Place {
        let nonce = format!("marker {:?}", std::time::Instant::now()).into_bytes();
        let place = self.packets().len();
        let to = SocketAddr::from((NET_V4, MARKER_PORT));
        wait::until("the sniffer sees a marker", MARKER, || {
            // Refused is what NET's kernel says about the marker before.
            drop(socket.send_to(&nonce, to));
            let packets = self.packets();
            let found =
                packets.iter().skip(place).position(|packet| packet.bytes.ends_with(&nonce));
            found.map(|found| Place(place + found + 1)).ok_or_else(|| "not yet".to_owned())
        })
    }

    /// What left the node after `place`, without markers and the kernel's own upkeep.
    #[track_caller]
    #[must_use]
    pub fn since(&self, place: Place) -> Vec<Packet> {
        let packets = self.packets();
        assert!(packets.len() < MOST, "the sniffer's record is full");
        let counts = |packet: &&Packet| !is_marker(packet) && !packet.is_upkeep();
        packets.iter().skip(place.0).filter(counts).cloned().collect()
    }
}

fn is_marker(packet: &Packet) -> bool {
    packet.carried == Carried::Udp && packet.port == MARKER_PORT
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A socket that gets every frame of the namespace that the calling thread is in.
fn open() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(eth::ALL));
    let socket = socket.expect("root may listen to packets");
    set_socket_recv_buffer_size_force(&socket, BUFFER).expect("root may have large buffers");
    set_socket_timeout(&socket, Timeout::Recv, Some(LOOK)).expect("a socket takes a timeout");
    socket
}

fn listen(socket: &OwnedFd, seen: &Mutex<Vec<Packet>>, over: &AtomicBool) {
    let mut frame = vec![0; LARGEST];
    while !over.load(Ordering::Relaxed) {
        // A timeout, to look whether it is over.
        let Ok((count, _whole)) = recv(socket, &mut frame[..], RecvFlags::empty()) else {
            continue;
        };
        let Some(mut packet) = frame.get(..count).and_then(Packet::from_frame) else { continue };
        packet.bytes.truncate(KEPT);
        packet.bytes.shrink_to_fit();
        let mut seen = seen.lock().expect("nothing panics with the record's lock");
        if seen.len() < MOST {
            seen.push(packet);
        }
    }
}
