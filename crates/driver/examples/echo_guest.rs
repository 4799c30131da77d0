//! The smallest guest: answers every record on its standard input with the same record. The
//! conformance suite runs it in place of the guest daemon.
//!
//! Some records are orders instead: `eat` takes memory without end, `fill` writes to the disk until
//! it is full and says so, `exit` ends the guest. `packet` sends one, `ask` sends one and answers
//! what comes back, `network` tells what of the network there is, and which doors are shut to root.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use courier_driver::conformance::DESTINATION;
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

/// Longest record.
const MAX_RECORD: usize = 64 * 1024;

fn main() -> std::io::Result<()> {
    let mut channel = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut record = vec![0_u8; MAX_RECORD];
    loop {
        let count = channel.read(&mut record)?;
        match record.get(..count).unwrap_or_default() {
            b"" | b"exit" => return Ok(()),
            b"eat" => eat(),
            b"fill" => {
                let written = fill();
                channel.write_all(written.to_string().as_bytes())?;
            }
            b"packet" => channel.write_all(send()?)?,
            b"ask" => channel.write_all(&ask()?)?,
            b"network" => channel.write_all(network().as_bytes())?,
            other => channel.write_all(other)?,
        }
    }
}

/// Takes memory, and touches it, until somebody stops it.
fn eat() -> ! {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(vec![1; 1 << 20]);
    }
}

/// Fills the disk; the bytes that fitted.
fn fill() -> u64 {
    let block = vec![7_u8; 1 << 20];
    let Ok(mut file) = File::create("/filled") else { return 0 };
    let mut written = 0;
    while let Ok(count) = file.write(&block) {
        written += count as u64;
    }
    written
}

/// Sends a packet that nobody answers.
fn send() -> std::io::Result<&'static [u8]> {
    UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", (DESTINATION, 9))?;
    Ok(b"sent")
}

/// Sends a packet and waits for its answer.
fn ask() -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.connect((DESTINATION, 9))?;
    socket.send(b"question")?;
    let mut answer = vec![0; 64];
    let count = socket.recv(&mut answer)?;
    answer.truncate(count);
    Ok(answer)
}

/// The interfaces, and how root fares with raw sockets and with IPv6.
fn network() -> String {
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let mut devices: Vec<&str> = devices
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim())
        .collect();
    // gVisor tells them in any order.
    devices.sort_unstable();
    let open = |family, kind, protocol| {
        outcome(socket(family, kind, protocol).map_err(std::io::Error::from))
    };
    let raw = |family, protocol| open(family, SocketType::RAW, protocol);
    let six = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.send_to(b"x", "[2001:db8::9]:9"));
    format!(
        "{devices:?} inet {} inet6 {} packet {} ping {} ipv6 {}",
        raw(AddressFamily::INET, Some(ipproto::ICMP)),
        raw(AddressFamily::INET6, Some(ipproto::ICMPV6)),
        raw(AddressFamily::PACKET, None),
        open(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP)),
        outcome(six),
    )
}

fn outcome<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_open) => "open".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}
