//! What a stream is compressed with, by its first bytes, and the stream without it.
//!
//! How much comes out is not bounded here: [`crate::Reader`] counts.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// The first bytes of gzip (RFC 1952, 2.3.1) with its one method of compression.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// The first bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Most memory that a zstd stream may ask for, as a power of two: what RFC 8878 (3.1.1.1.2) wants
/// every reader to have.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why a stream could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// Its first bytes could not be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It is compressed in a way that is not read here.
    #[error("the archive is compressed with {0}, which is not taken; use gzip or none")]
    Unsupported(&'static str),
}

/// A stream whose first bytes were looked at.
type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// A stream without its compression.
pub struct Decompressed<R: Read>(Inner<R>);

#[expect(clippy::large_enum_variant, reason = "there is one for each archive")]
enum Inner<R: Read> {
    Plain(Whole<R>),
    Gzip(MultiGzDecoder<BufReader<Whole<R>>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Decoder<'static, BufReader<Whole<R>>>),
}

impl<R: Read> fmt::Debug for Decompressed<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Inner::Plain(_) => "plain",
            Inner::Gzip(_) => "gzip",
            #[cfg(feature = "zstd")]
            Inner::Zstd(_) => "zstd",
        };
        f.debug_tuple("Decompressed").field(&name).finish()
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(plain) => plain.read(buffer),
            Inner::Gzip(gzip) => gzip.read(buffer),
            #[cfg(feature = "zstd")]
            Inner::Zstd(zstd) => zstd.read(buffer),
        }
    }
}

/// Takes the compression off a stream: gzip (of several members too), zstd (with the feature of that
/// name), or none.
///
/// # Errors
/// [`DecompressError`]. That a stream is broken further on, reading it tells.
pub fn decompress<R: Read>(mut stream: R) -> Result<Decompressed<R>, DecompressError> {
    let mut first = Vec::with_capacity(ZSTD.len());
    stream
        .by_ref()
        .take(ZSTD.len() as u64)
        .read_to_end(&mut first)
        .map_err(DecompressError::Read)?;
    let (is_gzip, is_zstd) = (first.starts_with(&GZIP), first.starts_with(&ZSTD));
    let whole = Cursor::new(first).chain(stream);
    if is_gzip {
        return Ok(Decompressed(Inner::Gzip(MultiGzDecoder::new(BufReader::new(whole)))));
    }
    if is_zstd {
        return zstd_stream(whole);
    }
    Ok(Decompressed(Inner::Plain(whole)))
}

#[cfg(feature = "zstd")]
fn zstd_stream<R: Read>(whole: Whole<R>) -> Result<Decompressed<R>, DecompressError> {
    let decoder = zstd::Decoder::new(whole).and_then(|mut decoder| {
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(decoder)
    });
    Ok(Decompressed(Inner::Zstd(decoder.map_err(DecompressError::Read)?)))
}

#[cfg(not(feature = "zstd"))]
fn zstd_stream<R: Read>(_whole: Whole<R>) -> Result<Decompressed<R>, DecompressError> {
    Err(DecompressError::Unsupported("zstd"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes).unwrap().read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn the_compression_is_told_by_the_first_bytes() {
        let members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read(&members).unwrap(), b"one two");
        for plain in [&b""[..], b"a", b"\x1f\x8b", b"plain text"] {
            assert_eq!(read(plain).unwrap(), plain);
        }
    }

    #[test]
    fn a_broken_stream_is_an_error_and_no_shorter_archive() {
        let whole = gzip(&[7; 10_000]);
        assert!(read(&whole[..whole.len() - 1]).is_err());
        assert!(read(&[&whole[..], b"garbage"].concat()).is_err());
        let mut broken = whole;
        let last = broken.len() - 5;
        broken[last] ^= 1;
        assert!(read(&broken).is_err());
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_is_read_and_its_memory_bounded() {
        let small = zstd::encode_all(&[7; 10_000][..], 3).unwrap();
        assert_eq!(read(&small).unwrap(), [7; 10_000]);
        assert!(read(&small[..small.len() - 1]).is_err());
        let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        wide.write_all(&[7; 10_000]).unwrap();
        assert!(read(&wide.finish().unwrap()).is_err());
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn zstd_is_refused_by_its_name() {
        let refused = decompress(&ZSTD[..]).unwrap_err();
        assert!(matches!(refused, DecompressError::Unsupported("zstd")));
    }
}
