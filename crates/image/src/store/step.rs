//! Steps that were done before, by a key of everything that they depend on.

use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use courier_types::BuildConfig;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, sealed};
use crate::{Digest, host};

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedStep {
    /// What it changed in the file system; `None` where it changed nothing.
    pub layer: Option<Digest>,
    /// The state after it.
    pub config: BuildConfig,
}

impl Store {
    /// What the step of that key made; `None` where it was not done or is forgotten. It counts as
    /// used now.
    ///
    /// # Errors
    /// The host refused. One that is damaged is forgotten.
    pub fn cached_step(&self, key: &Digest) -> Result<Option<CachedStep>, StoreError> {
        let path = self.step_path(key);
        let _gate = self.pass_gate()?;
        let step: CachedStep = match sealed::read(&path) {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(None),
            Err(StoreError::Damaged { .. }) => {
                host::remove(&path)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Some(layer) = &step.layer
            && !self.find_layer(layer)?
        {
            return Ok(None);
        }
        // The order of these times is all that they are for; without it the step only goes earlier.
        let _touched = File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(step))
    }

    /// Keeps what a step made, in place of what it made before.
    ///
    /// # Errors
    /// The layer is not in the store, or the host refused.
    pub fn remember_step(&self, key: &Digest, step: &CachedStep) -> Result<(), StoreError> {
        let _gate = self.pass_gate()?;
        if let Some(digest) = step.layer
            && !self.find_layer(&digest)?
        {
            return Err(StoreError::NoLayer { digest });
        }
        Ok(sealed::write(&self.folder("temporary"), &self.step_path(key), step)?)
    }

    pub(super) fn step_path(&self, key: &Digest) -> PathBuf {
        self.folder("steps").join(key.hex())
    }
}
