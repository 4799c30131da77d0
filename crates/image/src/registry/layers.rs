//! Where layers go, as seen from here.

use std::error::Error;
use std::fmt;
use std::io::Read;

use super::digest::BlobDigest;
use crate::Digest;

/// Why a layer is not kept: of the archive, or of the host.
pub type LayersError = Box<dyn Error + Send + Sync>;

/// Where layers go. Blocking: called where that is allowed.
pub trait Layers: Send + Sync + fmt::Debug {
    /// The layer that was made of the tar with that digest, where it is still there.
    ///
    /// # Errors
    /// The host's: it cannot be looked up.
    fn find(&self, diff_id: &BlobDigest) -> Result<Option<Digest>, LayersError>;

    /// Keeps a layer. Reads the tar until a read gives 0 bytes, and keeps nothing when a read fails:
    /// that is how a registry's lie ends.
    ///
    /// # Errors
    /// The tar is none, or is no layer, or cannot be read, or the host cannot keep it.
    fn add(&self, diff_id: &BlobDigest, tar: &mut dyn Read) -> Result<Digest, LayersError>;
}
