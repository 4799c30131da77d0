//! Builds: what they are made of, and what they say about their sandboxes.

use std::path::PathBuf;

use courier_types::{BuildConfig, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, sealed};
use crate::{Digest, host};

/// Longest reference of a build.
const REFERENCE_MAX: usize = 128;

/// What a build is made of. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildManifest {
    /// Its layers, the lowest first.
    pub layers: Vec<Digest>,
    /// What it says about its sandboxes.
    pub config: BuildConfig,
    /// Digest (`sha256:…`) of the image that it started from, where that came from a registry.
    pub image_digest: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

impl Store {
    /// Keeps a build, in place of one of the same reference. Its layers and its image stay until it
    /// is removed.
    ///
    /// # Errors
    /// A layer is not in the store, or the host refused.
    pub fn put_build(&self, reference: &str, build: &BuildManifest) -> Result<(), StoreError> {
        let path = self.build_path(reference)?;
        let _gate = self.pass_gate()?;
        for digest in &build.layers {
            if !self.find_layer(digest)? {
                return Err(StoreError::NoLayer { digest: *digest });
            }
        }
        Ok(sealed::write(&self.folder("temporary"), &path, build)?)
    }

    /// A build; `None` where there is none of that reference.
    ///
    /// # Errors
    /// It is damaged, or the host refused.
    pub fn build(&self, reference: &str) -> Result<Option<BuildManifest>, StoreError> {
        sealed::read(&self.build_path(reference)?)
    }

    /// Forgets a build; gone already is success. Sandboxes that run from it go on.
    ///
    /// # Errors
    /// The host refused.
    pub fn remove_build(&self, reference: &str) -> Result<(), StoreError> {
        host::remove(&self.build_path(reference)?)?;
        Ok(host::sync_folder(&self.folder("builds"))?)
    }

    /// The references of all builds, sorted.
    ///
    /// # Errors
    /// The host refused.
    pub fn builds(&self) -> Result<Vec<String>, StoreError> {
        Ok(host::list(&self.folder("builds"))?)
    }

    fn build_path(&self, reference: &str) -> Result<PathBuf, StoreError> {
        let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !reference.starts_with('.')
            && (1..=REFERENCE_MAX).contains(&reference.len())
            && reference.bytes().all(is_taken);
        if !is_name {
            return Err(StoreError::Reference { reference: reference.to_owned() });
        }
        Ok(self.folder("builds").join(reference))
    }
}
