//! Builds of the image store, and behind them the template folder's.

use std::path::PathBuf;

use async_trait::async_trait;
use courier_image::Store;
use courier_protocol::node::BoxError;

use super::shelf::blocking;
use crate::config::{BuildDir, Builds, is_reference};

/// Builds of an image store first, then those of a directory.
#[derive(Debug)]
pub struct StoredBuilds {
    store: Store,
    then: BuildDir,
}

impl StoredBuilds {
    /// Of both.
    #[must_use]
    pub const fn new(store: Store, then: BuildDir) -> Self {
        Self { store, then }
    }
}

#[async_trait]
impl Builds for StoredBuilds {
    /// An image that was made for another version of the guest daemon is made anew, which takes
    /// seconds.
    async fn image(&self, build: &str) -> Result<Option<PathBuf>, BoxError> {
        if !is_reference(build) {
            return Ok(None);
        }
        let (store, reference) = (self.store.clone(), build.to_owned());
        let stored = blocking(move || {
            let Some(manifest) = store.build(&reference)? else { return Ok(None) };
            Ok::<_, BoxError>(Some(store.image(&manifest.layers)?))
        });
        match stored.await?? {
            Some(image) => Ok(Some(image)),
            None => self.then.image(build).await,
        }
    }

    async fn list(&self) -> Vec<String> {
        let store = self.store.clone();
        // A store that cannot be read holds no build that could be started.
        let stored = blocking(move || store.builds().unwrap_or_default()).await;
        let mut builds = stored.unwrap_or_default();
        builds.extend(self.then.list().await);
        builds.sort();
        builds.dedup();
        builds
    }
}
