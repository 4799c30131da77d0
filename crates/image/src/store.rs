//! The store: layers by content, builds by reference, steps by key, and the images that are made of
//! layers.
//!
//! ```text
//! DIR/lock               shared by whoever has the store open; alone, one may sweep
//! DIR/gate               shared while something is used or published; alone while garbage goes
//! DIR/layers/HEX.tar.zst layers, named by the SHA-256 of the uncompressed tar
//! DIR/builds/REFERENCE   what a build is made of
//! DIR/steps/HEX          what a step of a build made, by the step's key
//! DIR/images/HEX.erofs   what sandboxes start from: made of layers and the guest daemon
//! DIR/leases/            one file for each lease: what may not go while it lives
//! DIR/flights/           locks of images being made
//! DIR/temporary/         what is not finished; a crash leaves nothing elsewhere
//! ```
//!
//! Several processes may have a store open. What has a name is whole and on disk.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use courier_archive::{Bounds, Reader, decompress};
use rustix::fs::FlockOperation;

use crate::guest::{Daemon, GuestFiles};
use crate::host::Space;
use crate::layer::{Draft, Layer, LayerError};
use crate::{Digest, HostError, host};

mod build;
mod garbage;
mod image;
mod lease;
mod sealed;
mod step;

pub use build::BuildManifest;
pub use garbage::Collected;
pub use image::ImageError;
pub use lease::Lease;
pub use step::CachedStep;

use lease::Leases;

/// Folders of a store.
const FOLDERS: [&str; 7] =
    ["layers", "builds", "steps", "images", "leases", "flights", "temporary"];

/// Mode of folders that the store makes: what layers have in them is for its owner alone.
const FOLDER_MODE: u32 = 0o700;

/// How much a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreBounds {
    /// What one layer may be.
    pub layer: Bounds,
    /// Most layers of an image.
    pub layers: usize,
    /// Most bytes of all layers of an image, where each entry counts as a block besides its content.
    pub image_bytes: u64,
    /// Most bytes of cached steps, with the compressed layers that only they need.
    pub step_cache_bytes: u64,
    /// Most cached steps.
    pub steps: usize,
    /// Bytes that stay free in the file system when something is written.
    pub reserve_bytes: u64,
}

impl Default for StoreBounds {
    fn default() -> Self {
        Self {
            layer: Bounds::LAYER,
            // Registries' images have at most 127; each step of a build makes one.
            layers: 512,
            // Twice what a pull takes. All of it is read for each image that is made.
            image_bytes: 64 << 30,
            // A dozen or two of large templates' steps.
            step_cache_bytes: 20 << 30,
            // A file of a block each, where the environment is not long.
            steps: 20_000,
            // What databases and logs beside the store need to go on.
            reserve_bytes: 512 << 20,
        }
    }
}

/// Why something of the store could not be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The host is at fault.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A file of the store is not as it was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that no build can have.
    #[error(
        "a build's reference is 1 to 128 letters, digits, '-', '_' and '.', not beginning with \
         '.': {reference:?} is none"
    )]
    Reference {
        /// The name.
        reference: String,
    },
    /// A layer is not there.
    #[error("layer {digest} is not in the store")]
    NoLayer {
        /// Which.
        digest: Digest,
    },
}

/// A store of images and what they are made of. Clones are the same store. Calls block.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    bounds: StoreBounds,
    guest: GuestFiles,
    /// The guest daemon, as it was when it was last looked at.
    daemon: Mutex<Option<Daemon>>,
    leases: Leases,
    _open: File,
}

impl Store {
    /// Opens a store, which is made where there is none, and removes what a crash has left, unless
    /// another process has the store open too.
    ///
    /// # Errors
    /// The host refused.
    pub fn open(folder: &Path, guest: GuestFiles, bounds: StoreBounds) -> Result<Self, StoreError> {
        for name in FOLDERS {
            let path = folder.join(name);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(&path)
                .map_err(HostError::of("make", &path))?;
        }
        let lock = folder.join("lock");
        let open = match host::lock(&lock, FlockOperation::NonBlockingLockExclusive)? {
            Some(alone) => {
                sweep(&folder.join("temporary"))?;
                host::try_lock(&alone, &lock, FlockOperation::LockShared)?;
                alone
            }
            None => host::lock(&lock, FlockOperation::LockShared)?.ok_or_else(|| {
                HostError::of("lock", &lock)(std::io::Error::from(std::io::ErrorKind::WouldBlock))
            })?,
        };
        Ok(Self(Arc::new(Inner {
            folder: folder.to_owned(),
            bounds,
            guest,
            daemon: Mutex::new(None),
            leases: Leases::new(folder.join("leases")),
            _open: open,
        })))
    }

    /// Keeps everything that this store is asked for, gives, or is given from now on, until the
    /// lease is dropped.
    ///
    /// # Errors
    /// The host refused.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        Ok(self.begin_lease()?)
    }

    fn begin_lease(&self) -> Result<Lease, HostError> {
        let _gate = self.pass_gate()?;
        let number = self.0.leases.begin()?;
        Ok(Lease { store: self.clone(), number })
    }

    /// Takes a stranger's tar in as a layer: plain, or compressed by gzip or zstd.
    ///
    /// # Errors
    /// [`LayerError`]; nothing of it is left then.
    pub fn add_layer(&self, tar: impl std::io::Read) -> Result<Layer, LayerError> {
        let temporary = self.folder("temporary");
        let space = Space::new(&temporary, self.0.bounds.reserve_bytes);
        let mut draft = Draft::new(&temporary, space)?;
        let mut reader = Reader::new(decompress(tar)?, self.0.bounds.layer);
        while let Some(mut entry) = reader.next_entry()? {
            let header = entry.header.clone();
            draft.add(header, &mut entry)?;
        }
        let (layer, file) = draft.finish()?;
        let _gate = self.pass_gate()?;
        self.0.leases.pin(&lease::layer(&layer.digest))?;
        host::publish(file, &self.layer_path(&layer.digest))?;
        Ok(layer)
    }

    /// Whether a layer is in the store.
    ///
    /// # Errors
    /// The host refused.
    pub fn has_layer(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _gate = self.pass_gate()?;
        Ok(self.find_layer(digest)?)
    }

    /// As [`Store::has_layer`], for those who have passed the gate.
    fn find_layer(&self, digest: &Digest) -> Result<bool, HostError> {
        let is_there = self.layer_path(digest).is_file();
        if is_there {
            self.0.leases.pin(&lease::layer(digest))?;
        }
        Ok(is_there)
    }

    /// While what it returns lives, no garbage is collected. To be held for moments only.
    fn pass_gate(&self) -> Result<File, HostError> {
        self.lock_gate(FlockOperation::LockShared)
    }

    fn lock_gate(&self, operation: FlockOperation) -> Result<File, HostError> {
        let path = self.0.folder.join("gate");
        host::lock(&path, operation)?.ok_or_else(|| {
            HostError::of("lock", &path)(std::io::Error::from(std::io::ErrorKind::WouldBlock))
        })
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.0.folder.join(name)
    }

    fn layer_path(&self, digest: &Digest) -> PathBuf {
        self.folder("layers").join(digest.hex()).with_extension("tar.zst")
    }

    fn image_path(&self, key: &Digest) -> PathBuf {
        self.folder("images").join(key.hex()).with_extension("erofs")
    }

    /// The guest daemon as it is now.
    fn daemon(&self) -> Result<Daemon, HostError> {
        let mut known = self.0.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        let daemon = self.0.guest.look(known.take())?;
        *known = Some(daemon.clone());
        Ok(daemon)
    }
}

/// Removes what is not finished.
fn sweep(temporary: &Path) -> Result<(), HostError> {
    for name in host::list(temporary)? {
        host::remove(&temporary.join(name))?;
    }
    Ok(())
}
