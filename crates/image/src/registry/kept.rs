//! Layers in the store, known by their registries' names for them.

use std::any::Any;
use std::io::Read;
use std::sync::Arc;

use super::digest::BlobDigest;
use super::layers::{Layers, LayersError};
use super::names::Names;
use crate::{Digest, Store};

/// The folder of a store that has names of layers.
const NAMES: &str = "registry";

/// The layers of a store, and whose pulls have made them known. Blocking.
///
/// Who knows the digest of a layer does not have its content: any registry can name it. So what one
/// scope's pulls have made known is not found by another's, which pulls it again.
#[derive(Debug, Clone)]
pub struct StoreLayers {
    store: Store,
    names: Names,
    /// See [`StoreLayers::holding`].
    _hold: Option<Arc<dyn Any + Send + Sync>>,
}

impl StoreLayers {
    /// Keeps layers in the store. `scope` is whose pulls these are, such as a project's id.
    #[must_use]
    pub fn new(store: Store, scope: &str) -> Self {
        let names = Names::new(store.folder(NAMES), scope);
        Self { store, names, _hold: None }
    }

    /// Holds something until the last thread is done that takes a layer in, also when the pull was
    /// given up.
    #[must_use]
    pub fn holding(self, hold: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _hold: Some(hold), ..self }
    }
}

impl Layers for StoreLayers {
    fn find(&self, diff_id: &BlobDigest) -> Result<Option<Digest>, LayersError> {
        let Some(digest) = self.names.recall(diff_id)? else { return Ok(None) };
        if self.store.has_layer(&digest)? {
            return Ok(Some(digest));
        }
        self.names.forget(diff_id)?;
        Ok(None)
    }

    fn add(&self, diff_id: &BlobDigest, tar: &mut dyn Read) -> Result<Digest, LayersError> {
        let layer = self.store.add_layer(tar)?;
        self.names.remember(diff_id, &layer.digest)?;
        Ok(layer.digest)
    }
}
