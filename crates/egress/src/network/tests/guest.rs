//! A guest with a TCP/IP stack of its own, whose connections are streams.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State as TcpState};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::stack::{GUEST, HOST, LINK_MTU};

/// Longest wait for anything in a test.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

const BUFFER: usize = 64 * 1024;
const DNS_PORT: u16 = 53;

/// The guest's end of the link, and the datagrams that came over it.
struct Wire {
    fd: Arc<AsyncFd<OwnedFd>>,
    datagrams: VecDeque<Vec<u8>>,
    ended: bool,
}

struct Packet(Vec<u8>);

struct Room<'a>(&'a AsyncFd<OwnedFd>);

impl Device for Wire {
    type RxToken<'a> = Packet;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: StackInstant) -> Option<(Packet, Room<'_>)> {
        loop {
            let mut packet = vec![0; LINK_MTU];
            match recv(self.fd.as_fd(), &mut packet[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => {
                    self.ended = true;
                    return None;
                }
                Ok((_, len)) => packet.truncate(len),
                Err(_) => return None,
            }
            match datagram(&packet) {
                Some(payload) => self.datagrams.push_back(payload),
                None => return Some((Packet(packet), Room(&self.fd))),
            }
        }
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Room<'_>> {
        Some(Room(&self.fd))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = LINK_MTU;
        capabilities
    }
}

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        // What finds no room is lost, and sent again.
        let _sent = send(self.0.as_fd(), &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        result
    }
}

fn datagram(packet: &[u8]) -> Option<Vec<u8>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let is_udp = ip.next_header() == IpProtocol::Udp;
    let udp = UdpPacket::new_checked(ip.payload()).ok().filter(|_| is_udp)?;
    Some(udp.payload().to_vec())
}

fn query_packet(payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: 5_353, dst_port: DNS_PORT };
    let ip = Ipv4Repr {
        src_addr: GUEST,
        dst_addr: HOST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + ip.payload_len];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    ip.emit(&mut packet, &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &IpAddress::Ipv4(GUEST),
        &IpAddress::Ipv4(HOST),
        payload.len(),
        |room| room.copy_from_slice(payload),
        &checksums,
    );
    bytes
}

struct State {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    port: u16,
    begun: Instant,
}

impl State {
    /// Takes and sends what can be, and says when to come back at the latest.
    fn poll(&mut self) -> Duration {
        let now = StackInstant::ZERO + self.begun.elapsed().into();
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        let delay = self.interface.poll_delay(now, &self.sockets);
        delay.map_or(Duration::from_secs(1), Into::into)
    }
}

struct Shared {
    state: Mutex<State>,
    poke: Notify,
    heard: Notify,
}

/// The guest.
pub(super) struct Guest {
    shared: Arc<Shared>,
    _driver: AbortOnDropHandle<()>,
}

impl Guest {
    pub(super) fn new(link: OwnedFd) -> Self {
        rustix::io::ioctl_fionbio(&link, true).unwrap();
        #[expect(deprecated, reason = "its successor is unsafe code")]
        let fd = Arc::new(AsyncFd::new(link).unwrap());
        let mut wire = Wire { fd: Arc::clone(&fd), datagrams: VecDeque::new(), ended: false };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut wire, StackInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(GUEST), 29)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(HOST).unwrap();
        let sockets = SocketSet::new(Vec::new());
        let state = State { wire, interface, sockets, port: 40_000, begun: Instant::now() };
        let (poke, heard) = (Notify::new(), Notify::new());
        let shared = Arc::new(Shared { state: Mutex::new(state), poke, heard });
        let driver = tokio::spawn(drive(Arc::clone(&shared), fd));
        Self { shared, _driver: AbortOnDropHandle::new(driver) }
    }

    /// Opens a connection; `None` when it is refused.
    pub(super) async fn connect(&self, to: SocketAddrV4) -> Option<Stream> {
        let handle = {
            let mut state = self.shared.state.lock().unwrap();
            let buffer = || SocketBuffer::new(vec![0; BUFFER]);
            let mut socket = Socket::new(buffer(), buffer());
            socket.set_nagle_enabled(false);
            socket.set_ack_delay(None);
            state.port += 1;
            let port = state.port;
            socket.connect(state.interface.context(), IpEndpoint::from(to), port).unwrap();
            state.sockets.add(socket)
        };
        self.shared.poke.notify_one();
        let stream = Stream { shared: Arc::clone(&self.shared), handle };
        let connected = std::future::poll_fn(|context| {
            stream.with(|socket| match socket.state() {
                TcpState::Closed => Poll::Ready(false),
                TcpState::SynSent | TcpState::SynReceived => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                _ => Poll::Ready(true),
            })
        });
        let connected = tokio::time::timeout(PATIENCE, connected).await.expect("an answer");
        connected.then_some(stream)
    }

    /// The addresses of a name; an error where there are none.
    pub(super) async fn resolve(&self, name: &str) -> Result<Vec<Ipv4Addr>, ResponseCode> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        let name = Name::from_ascii(format!("{name}.")).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        let packet = query_packet(&message.to_vec().unwrap());
        {
            let state = self.shared.state.lock().unwrap();
            send(state.wire.fd.as_fd(), &packet, SendFlags::NOSIGNAL).unwrap();
        }
        let answer = loop {
            let heard = self.shared.heard.notified();
            if let Some(answer) = self.shared.state.lock().unwrap().wire.datagrams.pop_front() {
                break Message::from_vec(&answer).unwrap();
            }
            tokio::time::timeout(PATIENCE, heard).await.expect("an answer");
        };
        if answer.metadata.response_code != ResponseCode::NoError {
            return Err(answer.metadata.response_code);
        }
        let address = |data: &RData| match data {
            RData::A(address) => Some(address.0),
            _ => None,
        };
        Ok(answer.answers.iter().filter_map(|record| address(&record.data)).collect())
    }

    /// Resolves a name and connects to its first address.
    pub(super) async fn connect_to(&self, name: &str, port: u16) -> Option<Stream> {
        let address = self.resolve(name).await.unwrap()[0];
        self.connect(SocketAddrV4::new(address, port)).await
    }

    /// Waits until the link has ended.
    pub(super) async fn link_ended(&self) {
        let ended = async {
            loop {
                let heard = self.shared.heard.notified();
                if self.shared.state.lock().unwrap().wire.ended {
                    return;
                }
                heard.await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the link ends");
    }
}

async fn drive(shared: Arc<Shared>, fd: Arc<AsyncFd<OwnedFd>>) {
    loop {
        let (delay, ended) = {
            let mut state = shared.state.lock().unwrap();
            (state.poll(), state.wire.ended)
        };
        shared.heard.notify_waiters();
        if ended {
            return;
        }
        tokio::select! {
            () = shared.poke.notified() => {}
            () = tokio::time::sleep(delay) => {}
            ready = fd.readable() => {
                let mut ready = ready.unwrap();
                let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                if recv(fd.as_fd(), &mut [0_u8; 1][..], peek) == Err(Errno::AGAIN) {
                    ready.clear_ready();
                }
            }
        }
    }
}

/// A connection of the guest. Dropping it resets the connection.
pub(super) struct Stream {
    shared: Arc<Shared>,
    handle: SocketHandle,
}

impl Stream {
    fn with<R>(&self, run: impl FnOnce(&mut Socket<'static>) -> R) -> R {
        let mut state = self.shared.state.lock().unwrap();
        let result = run(state.sockets.get_mut(self.handle));
        drop(state);
        self.shared.poke.notify_one();
        result
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.with(Socket::abort);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|socket| match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Ok(len) => {
                buffer.advance(len);
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|socket| match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(len) => Poll::Ready(Ok(len)),
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(Socket::close);
        Poll::Ready(Ok(()))
    }
}
