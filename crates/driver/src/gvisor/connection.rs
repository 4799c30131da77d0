//! One connection to the launcher: a `SOCK_SEQPACKET` socket, one request at a time.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wire::{Answer, Request, VERSION};

/// Longest record, as in the launcher.
const MAX_RECORD: usize = 128 * 1024;
/// Most descriptors of one answer.
const MAX_FDS: usize = 3;
/// How long a call may take: the launcher itself gives up on a start after 60 s.
const CALL_DEADLINE: Duration = Duration::from_secs(90);
/// How long a launcher may leave a new connection waiting.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between tries while the launcher's backlog is full: nothing can be polled for that.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// A connection that was greeted.
#[derive(Debug)]
pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    /// Name and version of the technology, where the launcher can use it.
    pub(super) technology: Option<String>,
}

/// Who connects.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    /// Whose sandboxes these are.
    pub(super) owner: String,
    /// Whether they outlive the owner's connections.
    pub(super) linger: bool,
}

impl Connection {
    /// Connects and greets.
    pub(super) async fn open(path: &Path, greeting: &Greeting) -> io::Result<Self> {
        let connect = async {
            let mut connection = Self { socket: connect(path).await?, technology: None };
            let Greeting { owner, linger } = greeting;
            let hello = Request::Hello { version: VERSION, owner, linger: *linger };
            match connection.exchange(&hello, &[]).await?.0 {
                Answer::Hello { version: VERSION, technology } => {
                    connection.technology = technology;
                    Ok(connection)
                }
                other => Err(io::Error::other(format!("it refused the greeting: {other:?}"))),
            }
        };
        within(CONNECT_DEADLINE, connect).await
    }

    /// Sends one request and waits for its answer. A connection whose call failed or was dropped
    /// half-way must not be used again.
    pub(super) async fn call(
        &self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(Answer, Vec<OwnedFd>)> {
        within(CALL_DEADLINE, self.exchange(request, fds)).await
    }

    /// False once the launcher has closed it.
    pub(super) fn is_alive(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(
            rustix::net::recv(&self.socket, &mut [0_u8; 1], flags),
            Err(rustix::io::Errno::WOULDBLOCK)
        )
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(Answer, Vec<OwnedFd>)> {
        let bytes = serde_json::to_vec(request)?;
        self.socket.async_io(Interest::WRITABLE, |socket| send(socket, &bytes, fds)).await?;
        let (bytes, fds) = self.socket.async_io(Interest::READABLE, receive).await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((serde_json::from_slice(&bytes)?, fds))
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn connect(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return watch(socket),
            Err(rustix::io::Errno::AGAIN) => tokio::time::sleep(BACKLOG_PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
}

#[expect(unsafe_code, reason = "tokio cannot see that a descriptor stays the same")]
fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd owns an open descriptor, and nothing replaces or closes it while the
    // AsyncFd has it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0_u8; MAX_RECORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket.as_fd(), &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes.truncate(received.bytes);
    Ok((bytes, fds))
}
