//! A tar whose entries are not in order: headers in memory, content in a nameless file, until all
//! is known and can be written in order.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use courier_archive::{EntryPath, Header, Kind, Writer};

use super::draft::{HEADER_BYTES_MAX, write_error};
use super::{LayerError, Packed};
use crate::HostError;
use crate::host::Space;

/// How much content is written to the file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Entries that wait.
pub(super) struct Spool {
    content: BufWriter<File>,
    temporary: PathBuf,
    written: u64,
    /// Each with the place of its content.
    entries: BTreeMap<EntryPath, (Header, u64)>,
}

impl Spool {
    pub(super) fn new(temporary: &Path) -> Result<Self, HostError> {
        let file =
            tempfile::tempfile_in(temporary).map_err(HostError::of("make a file in", temporary))?;
        Ok(Self {
            content: BufWriter::with_capacity(BUFFER_BYTES, file),
            temporary: temporary.to_owned(),
            written: 0,
            entries: BTreeMap::new(),
        })
    }

    /// What an entry leads to, where it is a link.
    pub(super) fn led_to(&self, path: &EntryPath) -> Option<&EntryPath> {
        self.entries.get(path).and_then(|(header, _)| target_of(header))
    }

    /// Takes an entry. The reader of the tar sees to it that no path comes twice.
    pub(super) fn add(&mut self, header: &Header, content: impl Read) -> Result<(), LayerError> {
        let place = self.written;
        copy(content, header, &mut self.content, &self.temporary)?;
        self.written = self.written.saturating_add(header.size());
        self.entries.insert(header.path.clone(), (header.clone(), place));
        Ok(())
    }

    /// Writes all entries in order.
    pub(super) fn write(
        self,
        (tar, path): (&mut Writer<Packed>, &Path),
        space: &mut Space,
    ) -> Result<(), LayerError> {
        let Self { content, temporary, mut entries, .. } = self;
        let refused = |error: io::Error| HostError::of("read a file in", &temporary)(error);
        let mut content = content.into_inner().map_err(|error| refused(error.into_error()))?;
        lead_links(&mut entries)?;
        for (header, place) in entries.values() {
            space.take(header.size())?;
            if header.size() > 0 {
                content.seek(SeekFrom::Start(*place)).map_err(refused)?;
            }
            tar.append(header, &content).map_err(|error| write_error(error, path))?;
        }
        Ok(())
    }
}

fn copy(
    mut content: impl Read,
    header: &Header,
    to: &mut BufWriter<File>,
    temporary: &Path,
) -> Result<(), LayerError> {
    let mut chunk = [0; 64 * 1024];
    loop {
        let length = match content.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(LayerError::Content { path: header.path.clone(), source }),
        };
        to.write_all(chunk.get(..length).unwrap_or_default())
            .map_err(HostError::of("write a file in", temporary))?;
    }
}

/// Of all names of one file the first in order has its content, and the others are links to it.
fn lead_links(entries: &mut BTreeMap<EntryPath, (Header, u64)>) -> Result<(), LayerError> {
    let links: Vec<(EntryPath, EntryPath)> = entries
        .iter()
        .filter_map(|(path, (header, _))| Some((path.clone(), target_of(header)?.clone())))
        .collect();
    let mut first: HashMap<&EntryPath, &EntryPath> = HashMap::new();
    for (link, root) in &links {
        // In order, so the first that is found is the first of all links.
        first.entry(root).or_insert(link);
    }
    let leader = |root| first.get(root).copied().filter(|first| *first < root).unwrap_or(root);
    let lengths = links.iter().map(|(_, root)| leader(root).as_bytes().len() as u64);
    if lengths.sum::<u64>() > HEADER_BYTES_MAX {
        return Err(LayerError::Headers { most: HEADER_BYTES_MAX });
    }
    for (link, root) in &links {
        let leader = leader(root);
        if leader == link {
            swap(entries, link, root);
        } else {
            point(entries, link, leader);
        }
    }
    Ok(())
}

/// What an entry is a link to, which is no link itself.
const fn target_of(header: &Header) -> Option<&EntryPath> {
    match &header.kind {
        Kind::Hardlink { target } => Some(target),
        Kind::File { .. } | Kind::Directory | Kind::Symlink { .. } | Kind::Fifo => None,
    }
}

/// Makes the link the file, and the file a link to it.
fn swap(entries: &mut BTreeMap<EntryPath, (Header, u64)>, link: &EntryPath, root: &EntryPath) {
    let Some((mut header, place)) = entries.remove(root) else {
        return;
    };
    let mut link_header = header.clone();
    link_header.kind = Kind::Hardlink { target: link.clone() };
    link_header.xattrs.clear();
    header.path = link.clone();
    entries.insert(link.clone(), (header, place));
    entries.insert(root.clone(), (link_header, 0));
}

fn point(entries: &mut BTreeMap<EntryPath, (Header, u64)>, link: &EntryPath, leader: &EntryPath) {
    if let Some((header, _)) = entries.get_mut(link) {
        header.kind = Kind::Hardlink { target: leader.clone() };
    }
}
