//! The file of a layer: one zstd frame with a checksum. It is hashed while it is written, and again
//! whenever it is read.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::{Digest, HostError, host};

/// zstd's own default: higher levels take several times as long for a few per cent.
const LEVEL: i32 = 3;
/// How much is decompressed, hashed and handed on at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A layer's file being written: takes the uncompressed tar.
pub(crate) struct Packed {
    encoder: zstd::Encoder<'static, NamedTempFile>,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
}

impl Packed {
    /// A new file in `temporary`.
    pub(crate) fn new(temporary: &Path) -> Result<Self, HostError> {
        let file = host::temporary(temporary)?;
        let path = file.path().to_owned();
        let encoder = zstd::Encoder::new(file, LEVEL).and_then(|mut encoder| {
            encoder.include_checksum(true)?;
            Ok(encoder)
        });
        let encoder = encoder.map_err(HostError::of("write", &path))?;
        Ok(Self { encoder, path, hash: Sha256::new(), bytes: 0 })
    }

    /// The file, the digest of what went in, and how much that was.
    pub(crate) fn finish(self) -> Result<(NamedTempFile, Digest, u64), HostError> {
        let file = self.encoder.finish().map_err(HostError::of("write", &self.path))?;
        Ok((file, self.hash.into(), self.bytes))
    }

    /// Where the file is while it is written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.encoder.write(bytes)?;
        self.hash.update(bytes.get(..length).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(length as u64);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Flushing the encoder would end a block of the frame early.
        Ok(())
    }
}

/// What a layer's file says, uncompressed; and its hash, as far as it was read.
pub(crate) struct Unpacked {
    decoder: zstd::Decoder<'static, BufReader<File>>,
    hash: Sha256,
}

impl Unpacked {
    /// The digest of everything that was read.
    pub(crate) fn digest(self) -> Digest {
        self.hash.into()
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.decoder.read(buffer)?;
        self.hash.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

/// Opens the file of a layer. What is read through the buffer is hashed in large pieces.
pub(crate) fn open(path: &Path) -> io::Result<BufReader<Unpacked>> {
    let decoder = zstd::Decoder::new(File::open(path)?)?;
    Ok(BufReader::with_capacity(CHUNK_BYTES, Unpacked { decoder, hash: Sha256::new() }))
}
