//! The Sentry's control socket: `{"method", "arg"}` in, `{"success", "err", "result"}` out, JSON on a
//! stream, descriptors with the first byte (gVisor's `pkg/urpc`).
//!
//! It is used before the guest runs and closed then. What answers is bounded all the same: by the
//! time a guest starts, its image has been read.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest answer in bytes: an error's text, or nothing.
const MAX_ANSWER: usize = 16 * 1024;

/// A connection to a Sentry.
#[derive(Debug)]
pub(crate) struct Sentry {
    socket: OwnedFd,
    /// What has come of the answer so far.
    answer: Vec<u8>,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    #[serde(default)]
    err: String,
}

impl Sentry {
    /// Connects to a Sentry that listens.
    pub(crate) fn connect(path: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket, answer: Vec::new() })
    }

    /// Sends a call. One at a time: its answer comes before the next.
    pub(crate) fn send(
        &self,
        method: &str,
        argument: &Value,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let call = json!({"method": method, "arg": argument}).to_string();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let iov = [IoSlice::new(call.as_bytes())];
        let send = || sendmsg(&self.socket, &iov, &mut control, SendFlags::NOSIGNAL);
        // A call is far shorter than the socket's buffer, which is empty.
        match rustix::io::retry_on_intr(send)? {
            sent if sent == call.len() => Ok(()),
            _part => Err(ErrorKind::WriteZero.into()),
        }
    }

    /// Takes what has come of the answer; `None` while it is not all there.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Result<(), String>>> {
        let mut chunk = [0_u8; MAX_ANSWER];
        match rustix::io::read(&self.socket, &mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.answer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if self.answer.len() > MAX_ANSWER {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer is too long"));
        }
        match serde_json::from_slice::<Answer>(&self.answer) {
            Err(error) if error.is_eof() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(Answer { success, err }) => {
                self.answer.clear();
                Ok(Some(if success { Ok(()) } else { Err(err) }))
            }
        }
    }
}

impl AsFd for Sentry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
