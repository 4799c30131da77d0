//! The smallest guest: answers every record on its standard input with the same record. The
//! conformance suite runs it in place of the guest daemon.
//!
//! Some records are orders instead: `eat` takes memory without end, `fill` writes to the disk until
//! it is full and says so, `exit` ends the guest. `packet` sends one, `ask` sends one and answers
//! what comes back, `file` does something with a file and tells what came of it, `network` tells what of the network there is, and which doors are shut to root.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
                channel.write_all(fill_file("/filled").as_bytes())?;
            }
            [b'f', b'i', b'l', b'e', b' ', order @ ..] => {
                let answer = file(&String::from_utf8_lossy(order));
                channel.write_all(answer.unwrap_or_else(|error| format!("{error}")).as_bytes())?;
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
fn fill_file(path: &str) -> String {
    let block = vec![7_u8; 1 << 20];
    let Ok(mut file) = File::create(path) else { return "0".to_owned() };
    let mut written = 0;
    while let Ok(count) = file.write(&block) {
        written += count as u64;
    }
    written.to_string()
}

/// `put PATH TEXT`, `get PATH`, `new PATH`, `fill PATH`, `stat PATH`, `chown PATH UID`, `chmod PATH`,
/// `move FROM TO`, `link PATH TO`, `device PATH`, `remove PATH`, `list PATH`, `lock PATH` (kept until the guest ends).
fn file(order: &str) -> std::io::Result<String> {
    let mut words = order.splitn(3, ' ');
    let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let word = words.next().unwrap_or_default();
    match verb {
        "put" => {
            let mut file = File::create(path)?;
            file.write_all(word.as_bytes())?;
            file.sync_all()?;
        }
        "get" => return std::fs::read_to_string(path),
        "new" => drop(File::create_new(path)?),
        "fill" => return Ok(fill_file(path)),
        "stat" => {
            let meta = std::fs::metadata(path)?;
            return Ok(format!("{}:{} {:o} {}", meta.uid(), meta.gid(), meta.mode(), meta.len()));
        }
        "chown" => std::os::unix::fs::chown(path, word.parse().ok(), word.parse().ok())?,
        "chmod" => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o4755))?,
        "move" => std::fs::rename(path, word)?,
        "link" => std::os::unix::fs::symlink(word, path)?,
        "device" => {
            let null = rustix::fs::makedev(1, 3);
            let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, null)?;
        }
        "remove" => std::fs::remove_file(path)?,
        "list" | "lock" => return list_or_lock(verb, path),
        _ => return Err(std::io::ErrorKind::InvalidInput.into()),
    }
    Ok("done".to_owned())
}

fn list_or_lock(verb: &str, path: &str) -> std::io::Result<String> {
    match verb {
        "list" => {
            let names = std::fs::read_dir(path)?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            return Ok(format!("there: {}", names.join(" ")));
        }
        "lock" => {
            let file = File::options().write(true).open(path)?;
            file.try_lock()?;
            // It lasts as long as the guest.
            std::mem::forget(file);
        }
        _ => return Err(std::io::ErrorKind::InvalidInput.into()),
    }
    Ok("done".to_owned())
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
