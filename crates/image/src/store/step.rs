//! Steps that were done before, by a key of everything that they depend on.

use std::fs::File;
use std::path::{Path, PathBuf};
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
        touch(&path);
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
        let path = self.step_path(key);
        sealed::write(&self.folder("temporary"), &path, step)?;
        touch(&path);
        Ok(())
    }

    pub(super) fn step_path(&self, key: &Digest) -> PathBuf {
        self.folder("steps").join(key.hex())
    }
}

/// Notes that a step was used now, more finely than the file system does by itself. The order of
/// these times is all that they are for: where that fails, the step only goes earlier.
fn touch(step: &Path) {
    let _touched = File::options()
        .append(true)
        .open(step)
        .and_then(|file| file.set_modified(SystemTime::now()));
}
