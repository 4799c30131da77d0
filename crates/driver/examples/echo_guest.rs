//! The smallest guest: answers every record on its standard input with the same record. The
//! conformance suite runs it in place of the guest daemon.
//!
//! Three records are orders instead: `eat` takes memory without end, `fill` writes to the disk until
//! it is full and says so, `exit` ends the guest.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

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
