//! What archives begin with: Docker's ADD would unpack them.

use std::io::{self, Read};

/// How much of a file is looked at: a tar says what it is in its first block.
const HEAD_BYTES: u64 = 512;
/// Offset and text of a tar's magic.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// What gzip, bzip2, xz and zstd begin with.
const COMPRESSED: [&[u8]; 4] =
    [&[0x1f, 0x8b], b"BZh", &[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], &[0x28, 0xb5, 0x2f, 0xfd]];

/// True of a tar, and of what is compressed.
pub(super) fn is_archive(file: impl Read) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head)?;
    let (offset, magic) = TAR;
    let is_tar = head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    Ok(is_tar || COMPRESSED.iter().any(|magic| head.starts_with(magic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_what_they_begin_with() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for archive in [tar.as_slice(), b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"] {
            assert!(is_archive(archive).unwrap());
        }
        for other in [&b""[..], b"#!/bin/sh", &[0; 512]] {
            assert!(!is_archive(other).unwrap());
        }
    }
}
