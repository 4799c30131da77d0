//! A first look at an uploaded archive, so that a malformed one is refused where it came in. The
//! sandbox that unpacks it looks again: what is checked here is no reason to trust it there.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;

use courier_archive::{Bounds, DecompressError, ReadError, Reader, decompress};

use crate::http::chain;

/// The first bytes of zstd (RFC 8878), which is not read inside.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShapeError {
    #[error("it is empty: a tar archive ends with two blocks of zeros")]
    Empty,
    #[error("it is compressed with zstd: use gzip or no compression")]
    Zstd,
    #[error("{}", chain(.0))]
    Compression(DecompressError),
    #[error("{}", chain(.0))]
    Read(ReadError),
    #[error("it could not be read back")]
    Disk(#[source] io::Error),
}

/// Reads an archive to its end.
pub(super) fn check(path: &Path) -> Result<(), ShapeError> {
    let mut file = File::open(path).map_err(ShapeError::Disk)?;
    let mut first = Vec::with_capacity(ZSTD.len());
    let wanted = u64::try_from(ZSTD.len()).unwrap_or_default();
    file.by_ref().take(wanted).read_to_end(&mut first).map_err(ShapeError::Disk)?;
    if first.is_empty() {
        return Err(ShapeError::Empty);
    }
    if first == ZSTD {
        return Err(ShapeError::Zstd);
    }
    file.rewind().map_err(ShapeError::Disk)?;
    let plain = decompress(file).map_err(ShapeError::Compression)?;
    let mut archive = Reader::new(plain, Bounds::CONTEXT);
    while archive.next_entry().map_err(ShapeError::Read)?.is_some() {}
    Ok(())
}
