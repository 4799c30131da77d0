//! A name server for tests: every name is 127.0.0.1. Unmodified SDKs then find the sandboxes of
//! domain mode, whose names nobody can know beforehand.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

/// Where it listens unless somebody says: a loopback address of its own, so that it needs no other port than DNS's.
const ADDRESS: &str = "127.77.77.77";
const PORT: u16 = 53;

/// Largest question that a resolver sends over UDP.
const LARGEST: usize = 4096;
/// A DNS header's length.
const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];

/// The running name server; it ends with the process.
#[derive(Debug)]
pub struct Dns(&'static str);

impl Dns {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(ADDRESS)
    }

    /// Starts it at another loopback address, for what runs beside tests.
    #[must_use]
    pub fn start_at(address: &'static str) -> Self {
        let socket = UdpSocket::bind((address, PORT))
            .unwrap_or_else(|error| panic!("{address}:{PORT} cannot be bound: {error}"));
        std::thread::spawn(move || {
            let mut buffer = [0; LARGEST];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                if let Some(answer) = buffer.get(..count).and_then(answer) {
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Self(address)
    }

    /// A command that sees this name server as the machine's, in a mount namespace of its own.
    #[must_use]
    pub fn command(&self, folder: &Path, program: &Path) -> Command {
        let configuration = folder.join("resolv.conf");
        std::fs::write(&configuration, format!("nameserver {}\n", self.0))
            .expect("scratch is ours");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"");
        command.arg("sh").arg(configuration).arg(program);
        command
    }
}

/// The answer to a question; `None` for what is no question.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let id = question.get(..2)?;
    let mut at = HEADER;
    while let length @ 1.. = *question.get(at)? {
        at += usize::from(length) + 1;
    }
    let asked = question.get(HEADER..at + 5)?;
    let is_a = question.get(at + 1..at + 3)? == TYPE_A;
    // Answer, recursion available; one question; one answer for A and none for the rest.
    let mut bytes = [id, &[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0], asked].concat();
    if is_a {
        // The question's name, type A, class IN, 60 s, 4 bytes.
        bytes.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_the_loopback_address_and_no_other_record() {
        let mut question =
            vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 1, b'b', 0, 0, 1, 0, 1];
        assert!(answer(&question).unwrap().ends_with(&[127, 0, 0, 1]));
        question[18] = 28;
        assert_eq!(answer(&question).unwrap()[7], 0);
        assert_eq!(answer(&question[..15]), None);
    }
}
