//! A store in a folder of its own, and tars to put into it.

use std::path::Path;

use courier_archive::{EntryPath, Header, Kind, Whiteout, Writer};
use courier_image::{Digest, GuestFiles, Layer, Store, StoreBounds};

/// What stands for the guest daemon.
pub(crate) const DAEMON: &[u8] = b"guest daemon";

/// A store that goes with its folder.
pub(crate) struct Rig {
    pub(crate) store: Store,
    pub(crate) folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(bounds())
    }

    pub(crate) fn with(bounds: StoreBounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), bounds);
        Self { store, folder }
    }

    /// The names in a folder of the store.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        names(&self.folder.path().join(folder))
    }

    pub(crate) fn add(&self, entries: &[(Header, Vec<u8>)]) -> Layer {
        self.store.add_layer(&*tar(entries)).unwrap()
    }
}

/// Bounds of tests: they do not depend on how full the machine's disk is.
pub(crate) fn bounds() -> StoreBounds {
    StoreBounds { reserve_bytes: 0, ..StoreBounds::default() }
}

pub(crate) fn open(folder: &Path, bounds: StoreBounds) -> Store {
    let daemon = folder.join("daemon");
    if !daemon.exists() {
        std::fs::write(&daemon, DAEMON).unwrap();
    }
    Store::open(folder, GuestFiles { daemon }, bounds).unwrap()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A tar of these entries, in that order.
pub(crate) fn tar(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        writer.append(header, &**content).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

pub(crate) fn file(at: &str, content: impl Into<Vec<u8>>) -> (Header, Vec<u8>) {
    let content = content.into();
    (Header::new(path(at), Kind::File { size: content.len() as u64 }), content)
}

pub(crate) fn folder(at: &str) -> (Header, Vec<u8>) {
    (Header::new(path(at), Kind::Directory), Vec::new())
}

pub(crate) fn symlink(at: &str, target: &str) -> (Header, Vec<u8>) {
    (Header::new(path(at), Kind::Symlink { target: target.into() }), Vec::new())
}

pub(crate) fn link(at: &str, target: &str) -> (Header, Vec<u8>) {
    (Header::new(path(at), Kind::Hardlink { target: path(target) }), Vec::new())
}

pub(crate) fn fifo(at: &str) -> (Header, Vec<u8>) {
    (Header::new(path(at), Kind::Fifo), Vec::new())
}

pub(crate) fn gone(at: &str) -> (Header, Vec<u8>) {
    (Whiteout::Of(path(at)).header().unwrap(), Vec::new())
}

pub(crate) fn opaque(at: &str) -> (Header, Vec<u8>) {
    (Whiteout::Opaque(Some(path(at))).header().unwrap(), Vec::new())
}

/// The digests of layers.
pub(crate) fn digests(layers: &[Layer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.digest).collect()
}
