//! Writes archives in one form: the same entries give the same bytes, whoever writes them and when.
//!
//! Every entry is a POSIX `ustar` header; before it stands a pax one with exactly what does not fit.
//! Names of users and groups are not written, only their numbers.

use std::io::{self, Read, Write};

use crate::block::{self, BLOCK_BYTES, Block};
use crate::{EntryPath, Header, Kind, MODE_BITS};

/// The name of every pax header; nobody ever sees it.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// Bytes copied at once.
const COPY_BYTES: usize = 64 * 1_024;

/// Why an entry was not written. What has been written so far is no archive then.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The archive could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The content of a file could not be read.
    #[error("cannot read the content of {path}")]
    Content {
        /// Which.
        path: EntryPath,
        /// Why.
        source: io::Error,
    },
    /// A file has less content than its header says.
    #[error("{path} became shorter while it was read: {missing} bytes are missing")]
    Short {
        /// Which.
        path: EntryPath,
        /// How much is missing.
        missing: u64,
    },
}

/// Writes an archive. The order of the entries is the caller's.
#[derive(Debug)]
pub struct Writer<W: Write> {
    sink: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// An archive that goes to `sink`, in pieces as they come.
    pub fn new(sink: W) -> Self {
        Self { sink, buffer: vec![0; COPY_BYTES] }
    }

    /// Writes an entry, and of `content` as many bytes as its header says.
    ///
    /// # Errors
    /// [`WriteError`]; the archive is unusable then.
    pub fn append(&mut self, header: &Header, content: impl Read) -> Result<(), WriteError> {
        let (main, pax) = blocks(header);
        if !pax.is_empty() {
            let mut extension = Block::zero();
            extension.put(block::NAME, PAX_NAME);
            let length = pax.len() as u64;
            // Attributes are bounded by the kernel at far less than the 8 GiB that fit.
            let _fits = put_numbers(&mut extension, [0o644, 0, 0, length, 0]);
            extension.seal(b'x');
            self.write(&extension.0)?;
            self.write(&pax)?;
            self.pad(length)?;
        }
        self.write(&main.0)?;
        self.copy(&header.path, header.size(), content)?;
        self.pad(header.size())
    }

    /// Writes the end.
    ///
    /// # Errors
    /// [`WriteError::Write`].
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.write(&[0; 2 * BLOCK_BYTES])?;
        self.sink.flush().map_err(WriteError::Write)?;
        Ok(self.sink)
    }

    fn copy(
        &mut self,
        path: &EntryPath,
        size: u64,
        mut content: impl Read,
    ) -> Result<(), WriteError> {
        let mut missing = size;
        while missing > 0 {
            let most = usize::try_from(missing).unwrap_or(usize::MAX).min(self.buffer.len());
            let room = self.buffer.get_mut(..most).unwrap_or_default();
            let length = match content.read(room) {
                Ok(0) => return Err(WriteError::Short { path: path.clone(), missing }),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WriteError::Content { path: path.clone(), source }),
            };
            let piece = self.buffer.get(..length).unwrap_or_default();
            self.sink.write_all(piece).map_err(WriteError::Write)?;
            missing = missing.saturating_sub(length as u64);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.sink.write_all(bytes).map_err(WriteError::Write)
    }

    /// Fills the last block of `length` bytes.
    fn pad(&mut self, length: u64) -> Result<(), WriteError> {
        let zeros = [0; BLOCK_BYTES];
        let over = usize::try_from(length % BLOCK_BYTES as u64).unwrap_or_default();
        let missing = if over == 0 { 0 } else { BLOCK_BYTES - over };
        self.write(zeros.get(..missing).unwrap_or_default())
    }
}

/// The header, and the records of what does not fit in it.
fn blocks(header: &Header) -> (Block, Vec<u8>) {
    let mut block = Block::zero();
    let mut pax = Pax::default();
    let (kind, link) = match &header.kind {
        Kind::File { .. } => (b'0', None),
        Kind::Hardlink { target } => (b'1', Some(target.as_bytes())),
        Kind::Symlink { target } => (b'2', Some(target.as_slice())),
        Kind::Directory => (b'5', None),
        Kind::Fifo => (b'6', None),
    };
    put_text(&mut block, &mut pax, (block::NAME, "path"), header.path.as_bytes());
    if let Some(link) = link {
        put_text(&mut block, &mut pax, (block::LINK, "linkpath"), link);
    }
    let (seconds, nanos) = header.mtime;
    let whole_seconds = u64::try_from(seconds).ok().filter(|_| nanos == 0);
    let numbers = [
        u64::from(header.mode & MODE_BITS),
        u64::from(header.uid),
        u64::from(header.gid),
        header.size(),
        whole_seconds.unwrap_or(0),
    ];
    let [_, uid_fits, gid_fits, size_fits, mtime_fits] = put_numbers(&mut block, numbers);
    for (fits, key, number) in [
        (uid_fits, "uid", u64::from(header.uid)),
        (gid_fits, "gid", u64::from(header.gid)),
        (size_fits, "size", header.size()),
    ] {
        if !fits {
            pax.add(key.as_bytes(), number.to_string().as_bytes());
        }
    }
    if whole_seconds.is_none() || !mtime_fits {
        pax.add(b"mtime", time(seconds, nanos).as_bytes());
    }
    for (name, value) in &header.xattrs {
        pax.add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    block.seal(kind);
    (block, pax.records)
}

/// Writes mode, uid, gid, size and mtime; says which fitted, and leaves 0 for the others.
fn put_numbers(block: &mut Block, numbers: [u64; 5]) -> [bool; 5] {
    let fields = [block::MODE, block::UID, block::GID, block::SIZE, block::MTIME];
    let mut fits = [true; 5];
    for ((field, number), fits) in fields.into_iter().zip(numbers).zip(&mut fits) {
        *fits = block.put_octal(field, number);
        if !*fits {
            block.put_octal(field, 0);
        }
    }
    fits
}

/// Writes a path into its field, or all of it into the extension.
fn put_text(block: &mut Block, pax: &mut Pax, (field, key): (block::Field, &str), text: &[u8]) {
    if text.len() <= field.length() {
        block.put(field, text);
    } else {
        pax.add(key.as_bytes(), text);
    }
}

/// Seconds since the Unix epoch as pax has them: a decimal number, its fraction as short as it goes.
fn time(seconds: i64, nanos: u32) -> String {
    if nanos == 0 {
        return seconds.to_string();
    }
    let (sign, whole, nanos) = if seconds < 0 {
        ("-", seconds.saturating_add(1).unsigned_abs(), 1_000_000_000 - nanos)
    } else {
        ("", seconds.unsigned_abs(), nanos)
    };
    format!("{sign}{whole}.{nanos:09}").trim_end_matches('0').to_owned()
}

/// Records of a pax header: `LENGTH KEY=VALUE\n`, where the length counts itself too.
#[derive(Debug, Default)]
struct Pax {
    records: Vec<u8>,
}

impl Pax {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // A space, an equals sign and the line's end.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + digits(length) != length {
            length = rest + digits(length);
        }
        self.records.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.records.extend_from_slice(part);
        }
    }
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal_numbers_on_both_sides_of_the_epoch() {
        for ((seconds, nanos), text) in [
            ((0, 0), "0"),
            ((-1, 0), "-1"),
            ((1, 500_000_000), "1.5"),
            ((-1, 500_000_000), "-0.5"),
            ((-2, 1), "-1.999999999"),
            ((7, 1), "7.000000001"),
        ] {
            assert_eq!(time(seconds, nanos), text);
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in [0, 1, 3, 4, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993] {
            let mut pax = Pax::default();
            pax.add(b"k", &vec![b'v'; length]);
            let told: usize = std::str::from_utf8(&pax.records)
                .unwrap()
                .split_once(' ')
                .and_then(|(told, _)| told.parse().ok())
                .unwrap();
            assert_eq!(told, pax.records.len());
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let path = EntryPath::new("f").unwrap();
        let header = Header::new(path, Kind::File { size: 5 });
        let mut writer = Writer::new(Vec::new());
        let short = writer.append(&header, &b"1234"[..]).unwrap_err();
        assert!(matches!(short, WriteError::Short { missing: 1, .. }));
        let mut writer = Writer::new(Vec::new());
        writer.append(&header, &b"1234567"[..]).unwrap();
        assert_eq!(writer.finish().unwrap().len(), 4 * BLOCK_BYTES);
    }
}
