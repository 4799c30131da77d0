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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::record;

    fn pair() -> (Sentry, UnixStream) {
        let (socket, peer) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        (Sentry { socket: socket.into(), answer: Vec::new() }, peer)
    }

    #[test]
    fn a_call_has_method_argument_and_descriptor() {
        let (sentry, peer) = pair();
        let (_read, write) = io::pipe().unwrap();
        sentry.send("Network.X", &json!({"Name": "lo"}), &[write.as_fd()]).unwrap();
        let (call, fds) = record::receive::<Value>(&peer).unwrap().unwrap();
        assert_eq!(call, json!({"method": "Network.X", "arg": {"Name": "lo"}}));
        assert_eq!(fds.len(), 1);
    }

    #[test]
    fn an_answer_may_come_in_pieces_and_a_failure_is_told() {
        let (mut sentry, mut peer) = pair();
        assert_eq!(sentry.receive().unwrap(), None);
        for piece in [r#"{"success":tr"#, r#"ue,"err":"","result":{"#] {
            peer.write_all(piece.as_bytes()).unwrap();
            assert_eq!(sentry.receive().unwrap(), None);
        }
        peer.write_all(b"}}").unwrap();
        assert_eq!(sentry.receive().unwrap(), Some(Ok(())));
        peer.write_all(br#"{"success":false,"err":"no such file","result":null}"#).unwrap();
        assert_eq!(sentry.receive().unwrap(), Some(Err("no such file".to_owned())));
    }

    #[test]
    fn a_closed_a_senseless_and_an_endless_answer_are_errors() {
        let (mut sentry, peer) = pair();
        drop(peer);
        assert_eq!(sentry.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        for rubbish in ["[]", "{}", r#"{"success":1}"#, r#"{"success":true}{"success":true}"#] {
            let (mut sentry, mut peer) = pair();
            peer.write_all(rubbish.as_bytes()).unwrap();
            assert!(sentry.receive().is_err(), "{rubbish}");
        }
        let (mut sentry, mut peer) = pair();
        peer.write_all(br#"{"success":true,"err":""#).unwrap();
        let refused = (0..=MAX_ANSWER / 1_024).find_map(|_| {
            peer.write_all(&[b'a'; 1_024]).unwrap();
            sentry.receive().err()
        });
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::InvalidData));
    }
}
