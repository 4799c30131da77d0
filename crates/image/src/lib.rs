//! Images and layers: pulled from registries, kept compressed and content-addressed, laid out as one
//! EROFS file that sandboxes start from.

mod digest;
mod erofs;
mod guest;
mod host;
mod layer;
pub mod registry;
mod store;
mod tree;

pub use digest::{Digest, DigestError};
pub use guest::GuestFiles;
pub use host::HostError;
pub use layer::{Layer, LayerError};
pub use store::{
    BuildManifest, CachedStep, Collected, ImageError, Lease, Store, StoreBounds, StoreError,
};
pub use tree::Conflict;
