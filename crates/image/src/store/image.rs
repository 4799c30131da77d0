//! Makes an image of layers, in two passes: the headers of all layers become a tree, which says where
//! everything goes; then their content goes there. What is in memory is the tree alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::iter::Peekable;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use courier_archive::{Bounds, Devices, Header, ReadError, Reader, Whiteouts};
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::{Store, lease};
use crate::erofs::{BLOCK_BYTES, Extent, Plan, TooLarge};
use crate::guest::{self, Daemon};
use crate::layer::{self, Unpacked};
use crate::tree::{Conflict, Source, Tree};
use crate::{Digest, HostError, host};

/// Goes into the names of images: another number makes all of them anew. It changes with the layout
/// of images and with what they have besides layers and guest daemon.
const GENERATION: u32 = 1;

/// Locks of images being made, and so the most that are made at once: each takes memory for all
/// headers of its layers, up to some hundred MB. Those that share a lock only wait for each other.
const FLIGHTS: u8 = 2;

/// How much content is moved at once. Such a piece that is all zeros stays a hole.
const CHUNK_BYTES: usize = 128 * 1024;

/// What a tar of ours may be: it was bounded when it came in, in whatever form that was.
const WRITTEN: Bounds = Bounds {
    entries: u64::MAX,
    bytes: u64::MAX,
    path_bytes: u64::MAX,
    devices: Devices::Refuse,
    whiteouts: Whiteouts::Take,
};

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The host is at fault.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A layer is not there.
    #[error("layer {layer} is not in the store")]
    NoLayer {
        /// Which.
        layer: Digest,
    },
    /// A layer's file is not as it was written.
    #[error("layer {layer} is corrupted")]
    Corrupted {
        /// Which.
        layer: Digest,
        /// Where that was seen; `None` where only its digest is another.
        #[source]
        source: Option<ReadError>,
    },
    /// A layer does not fit on those below it.
    #[error("layer {layer} does not fit on the layers below it: {source}")]
    Conflict {
        /// Which.
        layer: Digest,
        /// What is wrong.
        source: Conflict,
    },
    /// The place of the guest daemon cannot be had.
    #[error("the image has no place for the guest daemon: {source}")]
    Guest {
        /// What is wrong.
        source: Conflict,
    },
    /// More layers than an image may have.
    #[error("an image of {count} layers: at most {most} are taken")]
    TooMany {
        /// How many.
        count: usize,
        /// Most.
        most: usize,
    },
    /// It is larger than the format has room for.
    #[error("the image would be larger than 16 TiB")]
    TooLarge,
}

impl From<TooLarge> for ImageError {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

impl Store {
    /// The image of these layers, the lowest first, and of the guest daemon: made where there is
    /// none, by one at a time, whichever process it is in. It stays while a lease lives that lived
    /// when this was called, or a build has these layers.
    ///
    /// # Errors
    /// [`ImageError`]; nothing of it is left then.
    pub fn image(&self, layers: &[Digest]) -> Result<PathBuf, ImageError> {
        let most = self.0.bounds.layers;
        if layers.len() > most {
            return Err(ImageError::TooMany { count: layers.len(), most });
        }
        let daemon = self.daemon()?;
        let key = image_key(&daemon.digest, layers);
        let path = self.image_path(&key);
        if self.claim_image(&key, layers)? {
            return Ok(path);
        }
        // Keeps the layers, should nobody else do.
        let _lease = self.begin_lease()?;
        let flight = format!("{:02x}", key.as_bytes().first().map_or(0, |byte| byte % FLIGHTS));
        let _flight =
            host::lock(&self.folder("flights").join(flight), FlockOperation::LockExclusive)?;
        if self.claim_image(&key, layers)? {
            return Ok(path);
        }
        self.make_image(layers, &daemon, &key)?;
        Ok(path)
    }

    /// Keeps the image and its layers; whether the image is there. Where it is not, its layers are.
    fn claim_image(&self, key: &Digest, layers: &[Digest]) -> Result<bool, ImageError> {
        let _gate = self.pass_gate()?;
        self.0.leases.pin(&lease::image(key))?;
        let is_there = self.image_path(key).is_file();
        for layer in layers {
            if !self.find_layer(layer)? && !is_there {
                return Err(ImageError::NoLayer { layer: *layer });
            }
        }
        Ok(is_there)
    }

    fn make_image(
        &self,
        layers: &[Digest],
        daemon: &Daemon,
        key: &Digest,
    ) -> Result<(), ImageError> {
        let mut tree = Tree::new();
        let mut left = self.0.bounds.image_bytes;
        for (number, layer) in (0_u32..).zip(layers) {
            let headers = self.headers(layer, &mut left)?;
            let conflict = |source| ImageError::Conflict { layer: *layer, source };
            tree.apply(number, &headers).map_err(conflict)?;
        }
        guest::place(&mut tree, daemon).map_err(|source| ImageError::Guest { source })?;
        let plan = Plan::of(&tree)?;
        let temporary = self.folder("temporary");
        host::check_space(&temporary, plan.bytes(), self.0.bounds.reserve_bytes)?;
        let image = host::temporary(&temporary)?;
        let mut identity = [0; 16];
        identity.iter_mut().zip(key.as_bytes()).for_each(|(to, from)| *to = *from);
        plan.write(&tree, identity, image.as_file())
            .map_err(HostError::of("write", image.path()))?;
        drop(tree);
        let mut target = Target::new(image.as_file(), image.path());
        let mut extents = plan.extents().iter().copied().peekable();
        self.write_daemon(daemon, &mut extents, &mut target)?;
        for (number, layer) in (0_u32..).zip(layers) {
            self.write_layer((number, layer), &mut extents, &mut target)?;
        }
        host::sync(&image)?;
        let _gate = self.pass_gate()?;
        Ok(host::publish(image, &self.image_path(key))?)
    }

    /// The headers of a layer that may have as many bytes as are left.
    fn headers(&self, layer: &Digest, left: &mut u64) -> Result<Vec<Header>, ImageError> {
        let corrupted = |error| ImageError::Corrupted { layer: *layer, source: Some(error) };
        let mut reader = Reader::new(self.open_layer(layer)?, WRITTEN);
        let mut headers = Vec::new();
        while let Some(entry) = reader.next_entry().map_err(corrupted)? {
            // Before the content is read over: it may come out of next to nothing.
            let bytes = entry.header.size().saturating_add(BLOCK_BYTES);
            *left = left.checked_sub(bytes).ok_or_else(|| {
                let source = Conflict::TooLarge { most: self.0.bounds.image_bytes };
                ImageError::Conflict { layer: *layer, source }
            })?;
            // Images have no extended attributes, and they can be long.
            headers.push(Header { xattrs: BTreeMap::new(), ..entry.header });
        }
        Ok(headers)
    }

    /// Writes the content that a layer has, and checks that the layer is what its name says.
    fn write_layer(
        &self,
        (number, layer): (u32, &Digest),
        extents: &mut Peekable<impl Iterator<Item = Extent>>,
        target: &mut Target<'_>,
    ) -> Result<(), ImageError> {
        let corrupted = |source| ImageError::Corrupted { layer: *layer, source };
        let mut tar = self.open_layer(layer)?;
        let mut reader = Reader::new(&mut tar, WRITTEN);
        let mut count = 0_u64;
        while let Some(mut entry) = reader.next_entry().map_err(|error| corrupted(Some(error)))? {
            let source = Source::Layer { layer: number, entry: count };
            if let Some(extent) = extents.next_if(|extent| extent.source == source)
                && target.copy(&mut entry, extent)? < extent.size
            {
                return Err(corrupted(None));
            }
            count = count.saturating_add(1);
        }
        let is_left = extents.peek().is_some_and(
            |extent| matches!(extent.source, Source::Layer { layer, .. } if layer == number),
        );
        if is_left || tar.into_inner().digest() != *layer {
            return Err(corrupted(None));
        }
        Ok(())
    }

    fn open_layer(&self, layer: &Digest) -> Result<BufReader<Unpacked>, ImageError> {
        let path = self.layer_path(layer);
        layer::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ImageError::NoLayer { layer: *layer },
            _ => HostError::of("read", &path)(error).into(),
        })
    }

    fn write_daemon(
        &self,
        daemon: &Daemon,
        extents: &mut Peekable<impl Iterator<Item = Extent>>,
        target: &mut Target<'_>,
    ) -> Result<(), ImageError> {
        let Some(extent) = extents.next_if(|extent| extent.source == Source::Daemon) else {
            return Ok(());
        };
        let path = &self.0.guest.daemon;
        let file = File::open(path).map_err(HostError::of("read", path))?;
        let mut hashed = Hashed { file, hash: Sha256::new() };
        target.copy(&mut hashed, extent)?;
        if Digest::from(hashed.hash) != daemon.digest {
            let changed = io::Error::other("it changed while it was read");
            return Err(HostError::of("read", path)(changed).into());
        }
        Ok(())
    }
}

/// The name of an image: all that goes into it.
pub(super) fn image_key(daemon: &Digest, layers: &[Digest]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(GENERATION.to_le_bytes());
    hash.update(daemon.as_bytes());
    for layer in layers {
        hash.update(layer.as_bytes());
    }
    hash.into()
}

/// The image that content goes to.
struct Target<'a> {
    image: &'a File,
    path: &'a Path,
    chunk: Vec<u8>,
}

impl<'a> Target<'a> {
    fn new(image: &'a File, path: &'a Path) -> Self {
        Self { image, path, chunk: vec![0; CHUNK_BYTES] }
    }

    /// Moves content to its place; how much came of it. What cannot be read is no host's error: a
    /// layer that is corrupted is seen there first.
    fn copy(&mut self, content: &mut impl Read, extent: Extent) -> Result<u64, ImageError> {
        let mut done = 0_u64;
        while done < extent.size {
            let left = usize::try_from(extent.size - done).unwrap_or(usize::MAX);
            let room = self.chunk.len().min(left);
            let piece = self.chunk.get_mut(..room).unwrap_or_default();
            let Ok(length) = fill(content, piece) else { break };
            let piece = piece.get(..length).unwrap_or_default();
            if piece.iter().any(|byte| *byte != 0) {
                self.image
                    .write_all_at(piece, extent.offset.saturating_add(done))
                    .map_err(HostError::of("write", self.path))?;
            }
            done = done.saturating_add(length as u64);
            if length < room {
                break;
            }
        }
        Ok(done)
    }
}

/// Reads until the buffer is full or nothing more comes.
fn fill(content: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(length) => filled = filled.saturating_add(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A file that is hashed while it is read.
struct Hashed {
    file: File,
    hash: Sha256,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.hash.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}
