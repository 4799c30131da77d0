//! The context of a build: files of a folder, packed into one archive for each COPY.
//!
//! The same files give the same bytes, wherever and whenever they are packed: entries come in one
//! order, of root's, with one time. The hash of that is what uploads and cached steps are known by.

mod error;
mod folder;
mod gather;
mod magic;
pub(crate) mod pattern;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use courier_archive::{Bounds, EntryPath, Header, Kind, Writer};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

pub(crate) use error::ContextError;

use self::folder::Spot;
use self::gather::{Gathered, Item, gather};
use self::pattern::{Ignore, MAX_IGNORE_BYTES};
use super::dockerfile::{Copy, Fault};
use super::recipe::hex;

/// The time of every file: 1 January 2000. Before 1980 some archivers fail on it.
const TIME: i64 = 946_684_800;
/// Permission bits of here-documents, as Docker has them.
const TEXT_MODE: u32 = 0o644;
/// The file that says what is left out.
const IGNORE_FILE: &str = ".dockerignore";

/// A folder that COPY takes files from.
#[derive(Debug)]
pub(crate) struct Context {
    path: PathBuf,
    root: Spot,
    ignore: Ignore,
}

/// The files of one COPY.
#[derive(Debug)]
pub(crate) struct Packed {
    /// SHA-256 of the archive before it was compressed, in hexadecimal.
    pub(crate) hash: String,
    /// The path in the archive that is meant: one file, or `.` for everything.
    pub(crate) source: String,
    /// The compressed archive, from its beginning.
    pub(crate) archive: File,
    /// Its length in bytes.
    pub(crate) length: u64,
}

impl Context {
    /// A folder, with what its `.dockerignore` leaves out. `dockerfile` may have a file of its own
    /// for that beside it: `NAME.dockerignore`.
    ///
    /// # Errors
    /// It cannot be read, or what leaves out has a line that is no pattern.
    pub(crate) fn open(path: &Path, dockerfile: Option<&Path>) -> Result<Self, ContextError> {
        let root = Spot::root(path).map_err(ContextError::host("read the context", path))?;
        let own = dockerfile.map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(IGNORE_FILE);
            PathBuf::from(name)
        });
        let files = own.into_iter().chain([path.join(IGNORE_FILE)]);
        for file in files {
            if let Some(ignore) = read_ignore(&file)? {
                return Ok(Self { path: path.to_owned(), root, ignore });
            }
        }
        Ok(Self { path: path.to_owned(), root, ignore: Ignore::default() })
    }

    /// Packs what a COPY names.
    ///
    /// # Errors
    /// It is not there, is too large, or cannot be read.
    pub(crate) fn pack(&self, copy: &Copy) -> Result<Packed, ContextError> {
        let Gathered { items, source } = gather(self, copy)?;
        let unwritable = || ContextError::host("write a temporary file in", &std::env::temp_dir());
        let mut archive = tempfile::tempfile().map_err(unwritable())?;
        let sink =
            Sink { gzip: GzEncoder::new(&mut archive, Compression::fast()), hash: Sha256::new() };
        let mut writer = Writer::new(sink);
        let mut room = Bounds::CONTEXT.bytes;
        for (path, item) in items {
            let size = self.append(&mut writer, path, item)?;
            room = room.checked_sub(size).ok_or_else(too_large)?;
        }
        let Sink { gzip, hash } = writer.finish()?;
        gzip.finish().map_err(unwritable())?;
        let length = archive.stream_position().map_err(unwritable())?;
        archive.rewind().map_err(unwritable())?;
        Ok(Packed { hash: hex(&hash.finalize()), source, archive, length })
    }

    /// Writes an entry and says how large its content is.
    fn append(
        &self,
        writer: &mut Writer<impl Write>,
        path: EntryPath,
        item: Item,
    ) -> Result<u64, ContextError> {
        let header = |path, kind, mode| {
            let mut header = Header::new(path, kind);
            header.mode = mode;
            header.mtime = (TIME, 0);
            header
        };
        match item {
            Item::Folder(mode) => {
                writer.append(&header(path, Kind::Directory, mode), io::empty())?
            }
            Item::Link(target) => {
                writer.append(&header(path, Kind::Symlink { target }, 0o777), io::empty())?;
            }
            Item::Text(text) => {
                let size = text.len() as u64;
                writer.append(&header(path, Kind::File { size }, TEXT_MODE), text.as_bytes())?;
                return Ok(size);
            }
            Item::File(spot) => {
                let host = ContextError::host("read", &self.path.join(path.as_path()));
                let (file, size, mode) = spot.open().map_err(host)?;
                if size > Bounds::CONTEXT.bytes {
                    return Err(too_large());
                }
                writer.append(&header(path, Kind::File { size }, mode), file)?;
                return Ok(size);
            }
        }
        Ok(0)
    }
}

fn too_large() -> ContextError {
    let what = format!("one COPY takes {} GiB at most", Bounds::CONTEXT.bytes >> 30);
    ContextError::Asked(Fault::new(0, what, "leave out what is not needed by .dockerignore"))
}

/// Reads what leaves out; `None` where there is no such file.
fn read_ignore(path: &Path) -> Result<Option<Ignore>, ContextError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ContextError::host("read", path)(error)),
    };
    let mut text = String::new();
    file.take(MAX_IGNORE_BYTES)
        .read_to_string(&mut text)
        .map_err(ContextError::host("read", path))?;
    let ignore = Ignore::read(&text);
    let ignore = ignore.map_err(|(line, source)| ContextError::Ignore {
        path: path.to_owned(),
        line,
        source,
    })?;
    Ok(Some(ignore))
}

/// Hashes what it compresses.
struct Sink<W: Write> {
    gzip: GzEncoder<W>,
    hash: Sha256,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.gzip.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gzip.flush()
    }
}

#[cfg(test)]
mod tests;
