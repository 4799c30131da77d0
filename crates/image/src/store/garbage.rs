//! Removes what nobody needs any more.
//!
//! Needed are: builds; the steps that were used last, up to a bound; the layers of both; the images
//! of builds with the guest daemon of now; and whatever leases keep. What is open stays readable for
//! those who have it open.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::FlockOperation;

use super::image::image_key;
use super::step::CachedStep;
use super::{Store, StoreError, lease, sealed};
use crate::{Digest, HostError, host};

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Layers.
    pub layers: u64,
    /// Cached steps.
    pub steps: u64,
    /// Images.
    pub images: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

/// What stays.
#[derive(Debug, Default)]
struct Needed {
    layers: BTreeSet<Digest>,
    images: BTreeSet<Digest>,
    pinned: BTreeSet<String>,
}

impl Store {
    /// Removes what no build, no cached step and no lease needs. It may be called at any time.
    ///
    /// # Errors
    /// The host refused, or a build is damaged: then nothing goes, because nobody knows what it needs.
    pub fn collect_garbage(&self) -> Result<Collected, StoreError> {
        let daemon = self.daemon()?;
        let _gate = self.lock_gate(FlockOperation::LockExclusive)?;
        let pinned = lease::pinned(&self.folder("leases"))?;
        let mut needed = Needed { pinned, ..Needed::default() };
        for reference in self.builds()? {
            if let Some(build) = self.build(&reference)? {
                needed.images.insert(image_key(&daemon.digest, &build.layers));
                needed.layers.extend(build.layers);
            }
        }
        let mut collected = Collected::default();
        self.collect_steps(&mut needed, &mut collected)?;
        for name in host::list(&self.folder("layers"))? {
            let path = self.folder("layers").join(&name);
            if needed.has_layer(&name) {
                continue;
            }
            collected.layers = collected.layers.saturating_add(1);
            collected.bytes = collected.bytes.saturating_add(host::remove(&path)?);
        }
        for name in host::list(&self.folder("images"))? {
            let path = self.folder("images").join(&name);
            if needed.has_image(&name) {
                continue;
            }
            collected.images = collected.images.saturating_add(1);
            collected.bytes = collected.bytes.saturating_add(host::remove(&path)?);
        }
        Ok(collected)
    }

    /// Forgets the steps that were used longest ago, until what is left is within its bounds. Layers
    /// that builds need too cost nothing.
    fn collect_steps(
        &self,
        needed: &mut Needed,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let mut steps = Vec::new();
        for name in host::list(&self.folder("steps"))? {
            let path = self.folder("steps").join(&name);
            steps.push((modified(&path)?, path));
        }
        steps.sort_unstable();
        let (mut bytes, mut kept, mut is_full) = (0_u64, 0_usize, false);
        for (_, path) in steps.into_iter().rev() {
            let layer = match sealed::read::<CachedStep>(&path) {
                Ok(Some(step)) => step.layer,
                Ok(None) => continue,
                Err(StoreError::Damaged { .. }) => {
                    forget(&path, collected)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let new = layer.filter(|layer| !needed.layers.contains(layer));
            let size = new.map_or(0, |layer| host::size_on_disk(&self.layer_path(&layer)));
            // What a step says may be long, too.
            let size = size.saturating_add(host::size_on_disk(&path));
            is_full = is_full
                || bytes.saturating_add(size) > self.0.bounds.step_cache_bytes
                || kept >= self.0.bounds.steps;
            if is_full {
                forget(&path, collected)?;
                continue;
            }
            bytes = bytes.saturating_add(size);
            kept = kept.saturating_add(1);
            needed.layers.extend(new);
        }
        Ok(())
    }
}

fn forget(step: &Path, collected: &mut Collected) -> Result<(), HostError> {
    collected.bytes = collected.bytes.saturating_add(host::remove(step)?);
    collected.steps = collected.steps.saturating_add(1);
    Ok(())
}

impl Needed {
    /// Whether the file of that name is a layer that is needed.
    fn has_layer(&self, name: &str) -> bool {
        let digest = name.strip_suffix(".tar.zst").map(Digest::from_hex);
        matches!(digest, Some(Ok(digest))
            if self.layers.contains(&digest) || self.pinned.contains(&lease::layer(&digest)))
    }

    /// Whether the file of that name is an image that is needed.
    fn has_image(&self, name: &str) -> bool {
        let key = name.strip_suffix(".erofs").map(Digest::from_hex);
        matches!(key, Some(Ok(key))
            if self.images.contains(&key) || self.pinned.contains(&lease::image(&key)))
    }
}

/// When a file was written or touched.
fn modified(path: &Path) -> Result<SystemTime, HostError> {
    fs::metadata(path).and_then(|meta| meta.modified()).map_err(HostError::of("look at", path))
}
