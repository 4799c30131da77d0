//! Reads an archive of unknown origin, entry by entry. The first thing that is wrong ends it.

mod error;
mod fields;
mod pax;
mod seen;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use crate::block::{self, BLOCK_BYTES, Block};
use crate::whiteout::{self, Name, WHITEOUT_PREFIX};
use crate::{Bounds, Devices, EntryPath, Header, Kind, PathError, Whiteouts};
pub use error::{Problem, ReadError};
use fields::{mode, mtime, once, owner, raw_path, shown, size};
use pax::Pax;
use seen::{Seen, Verdict};

/// Most bytes of one extended header: a path, a link, and a file's attributes as far as file systems
/// keep them.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// Longest target of a symbolic link in bytes: Linux's `PATH_MAX` without the NUL.
const LINK_MAX: usize = 4_095;

/// Most bytes behind the end: tars are filled up to a record, which nobody makes longer than this.
const PADDING_BYTES_MAX: u64 = 1 << 20;

/// What extended headers said about the entry that follows.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

/// Reads an archive.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    bounds: Bounds,
    seen: Seen,
    /// Entries so far, and bytes.
    entries: u64,
    bytes: u64,
    /// What is left of the entry's content, and the zeros behind it.
    content: u64,
    padding: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

/// One entry. What is not read of its content is passed over.
#[derive(Debug)]
pub struct Entry<'a, R> {
    /// What the archive says about it.
    pub header: Header,
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Entry<'_, R> {
    /// # Errors
    /// The archive's; [`io::ErrorKind::UnexpectedEof`] where it ends early.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.reader.content).unwrap_or(usize::MAX).min(buffer.len());
        let room = buffer.get_mut(..most).unwrap_or_default();
        if room.is_empty() {
            return Ok(0);
        }
        let length = self.reader.source.read(room)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.reader.content = self.reader.content.saturating_sub(length as u64);
        Ok(length)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the archive that comes out of `source`, which is not compressed.
    pub fn new(source: R, bounds: Bounds) -> Self {
        Self {
            source,
            bounds,
            seen: Seen::default(),
            entries: 0,
            bytes: 0,
            content: 0,
            padding: 0,
            state: State::Open,
        }
    }

    /// The next entry; none after the last, once the whole source was read. Parents need not come
    /// before what is in them, and may come after. No path comes twice.
    ///
    /// # Errors
    /// [`ReadError`]. What was given before was right as far as it went, but the archive is refused.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_, R>>, ReadError> {
        let mut name = None;
        match self.advance(&mut name) {
            Ok(Some(header)) => Ok(Some(Entry { header, reader: self })),
            Ok(None) => Ok(None),
            Err(problem) => {
                self.state = State::Failed;
                let entry = match name {
                    Some(name) => format!("{} (\"{}\")", self.entries, shown(&name)),
                    None => self.entries.saturating_add(1).to_string(),
                };
                Err(ReadError { entry, problem })
            }
        }
    }

    fn advance(&mut self, name: &mut Option<Vec<u8>>) -> Result<Option<Header>, Problem> {
        match self.state {
            State::Open => {}
            State::Ended => return Ok(None),
            State::Failed => return Err(Problem::Refused),
        }
        loop {
            self.pass_content()?;
            let Some((block, extensions)) = self.read_headers()? else {
                self.state = State::Ended;
                return Ok(None);
            };
            self.entries = self.entries.saturating_add(1);
            if self.entries > self.bounds.entries {
                return Err(Problem::Entries { most: self.bounds.entries });
            }
            let raw = raw_path(&block, &extensions)?;
            let raw = name.insert(raw);
            if let Some(header) = self.header(&block, extensions, raw)? {
                return Ok(Some(header));
            }
        }
    }

    /// The header of an entry that the caller gets; none where it is passed over.
    fn header(
        &mut self,
        block: &Block,
        extensions: Extensions,
        raw_path: &[u8],
    ) -> Result<Option<Header>, Problem> {
        let pax = extensions.pax.unwrap_or_default();
        let size = size(block, pax.size)?;
        self.begin_content(size)?;
        let path = EntryPath::from_archive(raw_path)?;
        let Some(kind) = self.kind(block, size, extensions.link.or(pax.linkpath))? else {
            return Ok(None);
        };
        if raw_path.ends_with(b"/") && kind != Kind::Directory {
            return Err(Problem::Path(PathError::Spelling));
        }
        let Some(path) = path else {
            // The root is there already and stays as it is.
            return if kind == Kind::Directory { Ok(None) } else { Err(Problem::Root) };
        };
        let header = Header {
            path,
            kind,
            mode: mode(block)?,
            uid: owner(block, block::UID, pax.uid, "uid")?,
            gid: owner(block, block::GID, pax.gid, "gid")?,
            mtime: mtime(block, pax.mtime)?,
            xattrs: pax.xattrs,
        };
        let is_taken = match whiteout::of(&header) {
            Name::Plain => true,
            Name::Whiteout(_) => self.bounds.whiteouts == Whiteouts::Take,
            Name::Malformed => false,
        };
        if !is_taken {
            return Err(Problem::Whiteout);
        }
        match self.seen.take(&header, self.bounds.path_bytes)? {
            Verdict::New => Ok(Some(header)),
            Verdict::Again => Ok(None),
        }
    }

    /// What the entry is; none for a device that is passed over.
    fn kind(
        &self,
        block: &Block,
        size: u64,
        long_link: Option<Vec<u8>>,
    ) -> Result<Option<Kind>, Problem> {
        let link = long_link.unwrap_or_else(|| block.text(block::LINK).to_vec());
        let kind = match block.kind() {
            b'0' | 0 => Kind::File { size },
            b'1' => {
                let target = EntryPath::from_archive(&link)?.ok_or(Problem::Root)?;
                // What says that something is gone is no file, and must not become a link.
                if target.name().starts_with(WHITEOUT_PREFIX) {
                    return Err(Problem::LinkTarget { target });
                }
                Kind::Hardlink { target }
            }
            b'2' if link.is_empty() || link.len() > LINK_MAX || link.contains(&0) => {
                return Err(Problem::Link);
            }
            b'2' => Kind::Symlink { target: link },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'3' | b'4' => match self.bounds.devices {
                Devices::Skip if size == 0 => return Ok(None),
                Devices::Skip => return Err(Problem::Content),
                Devices::Refuse => return Err(Problem::Device),
            },
            b'S' => return Err(Problem::Sparse),
            other => return Err(Problem::Kind(other)),
        };
        match kind {
            Kind::File { .. } => Ok(Some(kind)),
            Kind::Directory | Kind::Symlink { .. } | Kind::Hardlink { .. } | Kind::Fifo => {
                if size == 0 { Ok(Some(kind)) } else { Err(Problem::Content) }
            }
        }
    }

    /// The next entry's header with the extended ones before it; none at the archive's end.
    fn read_headers(&mut self) -> Result<Option<(Block, Extensions)>, Problem> {
        let mut extensions = Extensions::default();
        let mut is_extended = false;
        loop {
            let block = self.read_block()?;
            if block.is_zero() {
                if is_extended {
                    return Err(Problem::Truncated);
                }
                return self.read_end().map(|()| None);
            }
            if !block.is_intact() {
                return Err(Problem::Checksum);
            }
            if block.format().is_none() {
                return Err(Problem::Format);
            }
            match block.kind() {
                b'x' => {
                    let bytes = self.read_extension(&block)?;
                    once(&mut extensions.pax, Pax::parse(&bytes)?)?;
                }
                b'g' => pax::check_global(&self.read_extension(&block)?)?,
                b'L' => once(&mut extensions.path, self.read_long(&block)?)?,
                b'K' => once(&mut extensions.link, self.read_long(&block)?)?,
                _entry => {
                    extensions.check()?;
                    return Ok(Some((block, extensions)));
                }
            }
            is_extended = true;
        }
    }

    /// The content of an extended header.
    fn read_extension(&mut self, block: &Block) -> Result<Vec<u8>, Problem> {
        let size = block.unsigned(block::SIZE).ok_or(Problem::Number("size"))?;
        if size > EXTENSION_BYTES_MAX {
            return Err(Problem::Pax);
        }
        self.begin_content(size)?;
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(size).read_to_end(&mut bytes);
        let length = read.map_err(Problem::Read)? as u64;
        self.content = self.content.saturating_sub(length);
        // What is missing, passing over it tells.
        self.pass_content()?;
        Ok(bytes)
    }

    /// A long name as GNU tar has it, with a NUL behind it.
    fn read_long(&mut self, block: &Block) -> Result<Vec<u8>, Problem> {
        let mut bytes = self.read_extension(block)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// Notes how much content follows, where that much may come.
    fn begin_content(&mut self, size: u64) -> Result<(), Problem> {
        let block_bytes = BLOCK_BYTES as u64;
        let padded = size.checked_next_multiple_of(block_bytes);
        let padded = padded.ok_or(Problem::Number("size"))?;
        self.count(padded)?;
        (self.content, self.padding) = (size, padded - size);
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> Result<(), Problem> {
        self.bytes = self.bytes.saturating_add(bytes);
        let most = self.bounds.bytes;
        if self.bytes > most { Err(Problem::Bytes { most }) } else { Ok(()) }
    }

    /// Reads over what is left of an entry.
    fn pass_content(&mut self) -> Result<(), Problem> {
        let left = self.content.saturating_add(self.padding);
        (self.content, self.padding) = (0, 0);
        let passed = io::copy(&mut self.source.by_ref().take(left), &mut io::sink());
        if passed.map_err(Problem::Read)? < left { Err(Problem::Truncated) } else { Ok(()) }
    }

    fn read_block(&mut self) -> Result<Block, Problem> {
        self.count(BLOCK_BYTES as u64)?;
        let mut block = Block::zero();
        match self.source.read_exact(&mut block.0) {
            Ok(()) => Ok(block),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Problem::Truncated),
            Err(error) => Err(Problem::Read(error)),
        }
    }

    /// Reads the second zero block, and the zeros behind it to the end of the source.
    fn read_end(&mut self) -> Result<(), Problem> {
        if !self.read_block()?.is_zero() {
            return Err(Problem::Trailing);
        }
        let mut buffer = [0; BLOCK_BYTES];
        let mut passed = 0_u64;
        loop {
            let length = match self.source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Problem::Read(error)),
            };
            passed = passed.saturating_add(length as u64);
            let is_zero = buffer.iter().take(length).all(|byte| *byte == 0);
            if !is_zero || passed > PADDING_BYTES_MAX {
                return Err(Problem::Trailing);
            }
        }
    }
}

impl Extensions {
    /// Refuses what GNU and pax headers both say.
    fn check(&self) -> Result<(), Problem> {
        let Some(pax) = &self.pax else { return Ok(()) };
        let twice = (self.path.is_some() && pax.path.is_some())
            || (self.link.is_some() && pax.linkpath.is_some());
        if twice { Err(Problem::Twice) } else { Ok(()) }
    }
}
