//! A layer being made of a stranger's tar: the same entries, in the order of their paths, in the one
//! form that the writer has. So two tars of the same tree are one layer.
//!
//! Most tars are in order already and go through in one pass. The first entry that is not makes what
//! was written so far go back into a spool, and the rest after it.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use courier_archive::{Bounds, EntryPath, Header, Kind, Reader, WriteError, Writer};
use tempfile::NamedTempFile;

use super::spool::Spool;
use super::{Layer, LayerError, Packed, open};
use crate::host::Space;
use crate::{HostError, host};

/// The bounds of the tar that we write ourselves: it was bounded when it was read.
const WRITTEN: Bounds =
    Bounds { entries: u64::MAX, bytes: u64::MAX, path_bytes: u64::MAX, ..Bounds::LAYER };

/// Most bytes of targets of links and of extended attributes: all headers of a layer may have to be in
/// memory. A layer of 500,000 links as they are usual has some 20 MB.
pub(super) const HEADER_BYTES_MAX: u64 = 32 << 20;

/// A layer being made.
pub(crate) struct Draft {
    temporary: PathBuf,
    space: Space,
    entries: u64,
    /// See [`HEADER_BYTES_MAX`].
    header_bytes: u64,
    form: Form,
}

#[expect(clippy::large_enum_variant, reason = "there is one for each layer that is being made")]
enum Form {
    /// Everything so far was in order.
    Sorted(Sorted),
    /// It was not.
    Spooled(Spool),
    /// What it was is being turned into another form, or that failed.
    Broken,
}

/// Entries that came in order.
struct Sorted {
    tar: Writer<Packed>,
    path: PathBuf,
    last: Option<EntryPath>,
    /// What links lead to in the end.
    links: HashMap<EntryPath, EntryPath>,
}

impl Draft {
    /// An empty layer, to be written in `temporary`, which has that much space.
    pub(crate) fn new(temporary: &Path, space: Space) -> Result<Self, HostError> {
        let form = Form::Sorted(Sorted::new(temporary)?);
        Ok(Self { temporary: temporary.to_owned(), space, entries: 0, header_bytes: 0, form })
    }

    /// Takes the next entry of the tar.
    pub(crate) fn add(&mut self, mut header: Header, content: impl Read) -> Result<(), LayerError> {
        self.entries = self.entries.saturating_add(1);
        self.space.take(header.size())?;
        if let Kind::Hardlink { target } = &mut header.kind
            && let Some(first) = self.form.led_to(target)
        {
            // A short name may lead to a long one, which counts.
            *target = first.clone();
        }
        self.header_bytes = self.header_bytes.saturating_add(kept_bytes(&header));
        if self.header_bytes > HEADER_BYTES_MAX {
            return Err(LayerError::Headers { most: HEADER_BYTES_MAX });
        }
        let mut spool = match std::mem::replace(&mut self.form, Form::Broken) {
            Form::Sorted(mut sorted) if sorted.last.as_ref() < Some(&header.path) => {
                sorted.add(header, content)?;
                self.form = Form::Sorted(sorted);
                return Ok(());
            }
            Form::Sorted(sorted) => sorted.into_spool(&self.temporary, &mut self.space)?,
            Form::Spooled(spool) => spool,
            Form::Broken => return Err(broken(&self.temporary)),
        };
        spool.add(&header, content)?;
        self.form = Form::Spooled(spool);
        Ok(())
    }

    /// The layer, and its file, which is synced and not yet published.
    pub(crate) fn finish(mut self) -> Result<(Layer, NamedTempFile), LayerError> {
        let sorted = match self.form {
            Form::Sorted(sorted) => sorted,
            Form::Spooled(spool) => {
                let mut sorted = Sorted::new(&self.temporary)?;
                spool.write((&mut sorted.tar, &sorted.path), &mut self.space)?;
                sorted
            }
            Form::Broken => return Err(broken(&self.temporary)),
        };
        let (file, digest, size_bytes) = sorted.finish()?;
        host::sync(&file)?;
        Ok((Layer { digest, size_bytes, entries: self.entries }, file))
    }
}

impl Form {
    /// What an earlier entry leads to in the end, where it is a link.
    fn led_to(&self, path: &EntryPath) -> Option<&EntryPath> {
        match self {
            Self::Sorted(sorted) => sorted.links.get(path),
            Self::Spooled(spool) => spool.led_to(path),
            Self::Broken => None,
        }
    }
}

impl Sorted {
    fn new(temporary: &Path) -> Result<Self, HostError> {
        let packed = Packed::new(temporary)?;
        let path = packed.path().to_owned();
        Ok(Self { tar: Writer::new(packed), path, last: None, links: HashMap::new() })
    }

    /// Targets of links come before them, so of all names of a file the first one has its content.
    fn add(&mut self, header: Header, content: impl Read) -> Result<(), LayerError> {
        if let Kind::Hardlink { target } = &header.kind {
            self.links.insert(header.path.clone(), target.clone());
        }
        self.tar.append(&header, content).map_err(|error| write_error(error, &self.path))?;
        self.last = Some(header.path);
        Ok(())
    }

    fn finish(self) -> Result<(NamedTempFile, crate::Digest, u64), LayerError> {
        let Self { tar, path, .. } = self;
        let packed = tar.finish().map_err(|error| write_error(error, &path))?;
        Ok(packed.finish()?)
    }

    /// Takes out again what was written.
    fn into_spool(self, temporary: &Path, space: &mut Space) -> Result<Spool, LayerError> {
        let (file, _digest, _bytes) = self.finish()?;
        let tar = open(file.path()).map_err(HostError::of("read", file.path()))?;
        let mut spool = Spool::new(temporary)?;
        let mut reader = Reader::new(tar, WRITTEN);
        while let Some(mut entry) = reader.next_entry()? {
            let header = entry.header.clone();
            // What took little room as a compressed tar takes all of it here.
            space.take(header.size())?;
            spool.add(&header, &mut entry)?;
        }
        Ok(spool)
    }
}

/// Bytes of what a header says besides its path.
fn kept_bytes(header: &Header) -> u64 {
    let target = match &header.kind {
        Kind::Hardlink { target } => target.as_bytes().len(),
        Kind::Symlink { target } => target.len(),
        Kind::File { .. } | Kind::Directory | Kind::Fifo => 0,
    };
    let lengths = header.xattrs.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    lengths.fold(target, usize::saturating_add) as u64
}

/// Whose fault it is that a tar could not be written: that of its content, or the host's.
pub(super) fn write_error(error: WriteError, path: &Path) -> LayerError {
    match error {
        WriteError::Write(source) => HostError::of("write", path)(source).into(),
        WriteError::Content { path, source } => LayerError::Content { path, source },
        WriteError::Short { path, .. } => {
            LayerError::Content { path, source: io::ErrorKind::UnexpectedEof.into() }
        }
    }
}

fn broken(temporary: &Path) -> LayerError {
    let source = io::Error::other("an earlier entry of the layer failed");
    HostError::of("write a layer in", temporary)(source).into()
}
