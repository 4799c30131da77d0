//! A guest: smoltcp on the other end of the link, and the link itself for packets made by hand.

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::{GUEST, HOST, LINK_MTU};
use super::script::PATIENCE;

/// The guest's end of a link.
pub(super) struct Wire(pub(super) AsyncFd<OwnedFd>);

impl Wire {
    pub(super) fn new(fd: OwnedFd) -> Self {
        #[expect(deprecated, reason = "its successor is unsafe code")]
        Self(AsyncFd::new(fd).unwrap())
    }

    /// The next packet if there is one; `Err` at the end.
    fn receive(&self) -> Result<Option<Vec<u8>>, ()> {
        let mut packet = vec![0; LINK_MTU + 1];
        match recv(self.0.as_fd(), &mut packet[..], RecvFlags::empty()) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => Err(()),
            Ok((_, count)) => {
                packet.truncate(count);
                Ok(Some(packet))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => panic!("{errno}"),
        }
    }

    /// Sends a packet, waiting for room; false when the link has ended.
    pub(super) async fn send(&self, packet: &[u8]) -> bool {
        let sent =
            self.0.async_io(Interest::WRITABLE, |fd| Ok(send(fd, packet, SendFlags::NOSIGNAL)?));
        tokio::time::timeout(PATIENCE, sent).await.expect("the stack reads").is_ok()
    }

    /// The next packet; `None` at the end of the link.
    pub(super) async fn next(&self) -> Option<Vec<u8>> {
        let next = async {
            loop {
                let mut ready = self.0.readable().await.unwrap();
                match self.receive() {
                    Ok(Some(packet)) => return Some(packet),
                    Ok(None) => ready.clear_ready(),
                    Err(()) => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a packet comes")
    }

    /// Sees to it that everything sent so far was taken, and that nothing came for it: the next
    /// packet is the answer to a question.
    pub(super) async fn quiet(&self) {
        assert!(self.send(&super::packets::question(b"fence")).await);
        let packet = self.next().await.expect("the link is there");
        assert_eq!(packet[28..], *b"ecnef", "{packet:02x?}");
    }
}

impl Device for Wire {
    type RxToken<'a> = Packet;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: StackInstant) -> Option<(Packet, Room<'_>)> {
        let packet = Wire::receive(self).ok()??;
        Some((Packet(packet), Room(self)))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Room<'_>> {
        Some(Room(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = LINK_MTU;
        capabilities
    }
}

pub(super) struct Packet(Vec<u8>);

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

pub(super) struct Room<'a>(&'a Wire);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        // Where there is no room the packet is lost, as gVisor's are.
        let _sent = send(self.0.0.as_fd(), &packet, SendFlags::NOSIGNAL);
        result
    }
}

/// A guest's socket.
pub(super) type Socket = tcp::Socket<'static>;

/// A guest.
pub(super) struct Guest {
    pub(super) wire: Wire,
    interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    begun: Instant,
    port: u16,
    /// The size of each of a socket's buffers, in bytes.
    pub(super) buffer: usize,
}

impl Guest {
    pub(super) fn new(fd: OwnedFd) -> Self {
        let mut wire = Wire::new(fd);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut wire, StackInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(GUEST), 29)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(HOST).unwrap();
        let sockets = SocketSet::new(Vec::new());
        Self { wire, interface, sockets, begun: Instant::now(), port: 40_000, buffer: 1 << 16 }
    }

    /// Begins to connect.
    pub(super) fn dial(&mut self, to: SocketAddrV4) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; self.buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        self.port += 1;
        socket.connect(self.interface.context(), IpEndpoint::from(to), self.port).unwrap();
        self.sockets.add(socket)
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut Socket {
        self.sockets.get_mut(handle)
    }

    fn now(&self) -> StackInstant {
        StackInstant::ZERO + self.begun.elapsed().into()
    }

    /// Takes and sends what can be taken and sent.
    pub(super) fn poll(&mut self) {
        let now = self.now();
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// Runs until a condition holds.
    #[track_caller]
    pub(super) fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut SocketSet<'static>) -> bool,
    ) -> impl Future<Output = ()> {
        let what = what.to_owned();
        let place = std::panic::Location::caller();
        async move {
            let run = async {
                loop {
                    self.poll();
                    if holds(&mut self.sockets) {
                        // What the condition did is sent.
                        self.poll();
                        return;
                    }
                    let now = self.now();
                    let delay = self.interface.poll_delay(now, &self.sockets);
                    let delay = delay.map_or(PATIENCE, Into::into);
                    if let Ok(ready) = tokio::time::timeout(delay, self.wire.0.readable()).await {
                        let mut ready = ready.unwrap();
                        let peek = RecvFlags::PEEK;
                        if recv(self.wire.0.as_fd(), &mut [0_u8; 1][..], peek) == Err(Errno::AGAIN)
                        {
                            ready.clear_ready();
                        }
                    }
                }
            };
            let ended = tokio::time::timeout(PATIENCE, run).await;
            assert!(ended.is_ok(), "{what} in time, from {place}");
        }
    }

    /// Connects.
    pub(super) async fn connect(&mut self, to: SocketAddrV4) -> SocketHandle {
        let handle = self.dial(to);
        self.until("connected", |sockets| {
            let socket = sockets.get::<Socket>(handle);
            assert!(socket.is_open(), "refused");
            socket.may_send()
        })
        .await;
        handle
    }

    /// Waits until a connection is gone.
    pub(super) async fn closed(&mut self, handle: SocketHandle) {
        self.until("closed", |sockets| !sockets.get::<Socket>(handle).is_open()).await;
    }

    /// Sends everything and reads until as much came back, or the end.
    pub(super) async fn exchange(&mut self, handle: SocketHandle, bytes: &[u8]) -> Vec<u8> {
        let mut rest = bytes;
        let mut back = Vec::new();
        self.until("exchanged", |sockets| {
            let socket = sockets.get_mut::<Socket>(handle);
            rest = &rest[socket.send_slice(rest).unwrap_or(rest.len())..];
            take(socket, &mut back);
            back.len() >= bytes.len() || !socket.may_recv()
        })
        .await;
        back
    }

    /// Reads to the end.
    pub(super) async fn read_to_end(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut back = Vec::new();
        self.until("the end", |sockets| {
            let socket = sockets.get_mut::<Socket>(handle);
            take(socket, &mut back);
            !socket.may_recv()
        })
        .await;
        back
    }
}

/// Moves what came into a vector.
pub(super) fn take(socket: &mut Socket, into: &mut Vec<u8>) {
    let mut more = |data: &mut [u8]| {
        into.extend_from_slice(data);
        (data.len(), data.len())
    };
    while socket.recv(&mut more).is_ok_and(|count| count > 0) {}
}
