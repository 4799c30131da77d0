//! Records of a `SOCK_SEQPACKET` socket: one JSON object each, with descriptors.
//!
//! A record that is longer than [`MAX_RECORD`] or carries more than [`MAX_FDS`] descriptors is an
//! error, never a cut-off value.

use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest record in bytes: a page of a list of ids, or a log tail of 16 KiB whose every byte JSON
/// had to escape, fits.
pub(crate) const MAX_RECORD: usize = 128 * 1024;
/// Most descriptors that one record carries.
pub(crate) const MAX_FDS: usize = 4;

/// Sends one record.
pub(crate) fn send<T: Serialize>(
    socket: impl AsFd,
    value: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    if bytes.len() > MAX_RECORD || fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "record too large to send"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let iov = [IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| sendmsg(&socket, &iov, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one record; `None` when the peer closed.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0_u8; MAX_RECORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut iov = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "record too large"));
    }
    let record = bytes.get(..received.bytes).unwrap_or_default();
    if record.is_empty() {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(record)?, fds)))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_record_arrives_with_its_descriptors() {
        let (a, b) = pair();
        let (mut read, write) = std::io::pipe().unwrap();
        send(&a, &"hello", &[write.as_fd()]).unwrap();
        drop(write);
        let (text, fds): (String, _) = receive(&b).unwrap().unwrap();
        assert_eq!(text, "hello");
        let mut sent = std::fs::File::from(fds.into_iter().next().unwrap());
        std::io::Write::write_all(&mut sent, b"x").unwrap();
        drop(sent);
        let mut seen = String::new();
        read.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "x");
    }

    #[test]
    fn a_closed_peer_is_none_and_rubbish_is_an_error() {
        let (a, b) = pair();
        rustix::io::write(&a, b"{").unwrap();
        assert!(receive::<String>(&b).is_err());
        drop(a);
        assert!(receive::<String>(&b).unwrap().is_none());
    }

    #[test]
    fn a_record_beyond_the_bound_is_refused_on_both_sides() {
        let (a, b) = pair();
        assert!(send(&a, &"x".repeat(MAX_RECORD), &[]).is_err());
        rustix::io::write(&a, &vec![b' '; MAX_RECORD + 1]).unwrap();
        assert!(receive::<String>(&b).is_err());
    }
}
