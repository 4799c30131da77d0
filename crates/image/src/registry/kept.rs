//! Layers in the store, known by their registries' names for them.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::digest::BlobDigest;
use super::layers::{Layers, LayersError};
use super::names::{forget, recall, remember};
use crate::{Digest, Store};

/// The layers of a store, with a small file for each registry's name of one. Blocking.
#[derive(Debug, Clone)]
pub struct StoreLayers {
    store: Store,
    names: PathBuf,
}

impl StoreLayers {
    /// Keeps layers in the store, and their registries' names in a folder of their own.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(store: Store, names: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(names)?;
        Ok(Self { store, names: names.to_owned() })
    }
}

impl Layers for StoreLayers {
    fn find(&self, diff_id: &BlobDigest) -> Result<Option<Digest>, LayersError> {
        let Some(digest) = recall(&self.names, diff_id)? else { return Ok(None) };
        if self.store.has_layer(&digest)? {
            return Ok(Some(digest));
        }
        forget(&self.names.join(diff_id.hex()))?;
        Ok(None)
    }

    fn add(&self, diff_id: &BlobDigest, tar: &mut dyn Read) -> Result<Digest, LayersError> {
        let layer = self.store.add_layer(tar)?;
        remember(&self.names, diff_id, &layer.digest)?;
        Ok(layer.digest)
    }
}
