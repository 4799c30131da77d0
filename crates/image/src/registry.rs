//! Pulls images from OCI registries (OCI distribution specification 1.1; manifests of OCI and of
//! Docker's version 2, schema 2).
//!
//! ```text
//! Reference ─▶ settings ─▶ manifest ─▶ (index: this platform's) ─▶ config ─▶ layers ─▶ Layers
//!              which host    └ every byte is held against the digest that led to it ┘
//! ```
//!
//! What always holds: the caller's guard is asked about every connection, those of redirects and
//! token services included; a login goes to the registry and its token service and never over a
//! redirect; nothing is kept of what a registry was found to lie about; everything is bounded in
//! size and time. No registry's host is written here.

mod auth;
mod bounds;
mod dial;
mod digest;
mod error;
mod kept;
mod layer;
mod layers;
mod manifest;
mod names;
mod platform;
mod pull;
mod reference;
mod repository;
mod settings;
mod web;

pub use auth::AuthError;
pub use bounds::PullBounds;
pub use dial::{Dial, DialError, Endpoint, Standing, Stream};
pub use digest::{BlobDigest, BlobDigestError};
pub use error::{FetchError, Item, Lie, PullError};
pub use kept::StoreLayers;
pub use layers::{Layers, LayersError};
pub use manifest::ManifestError;
pub use platform::Platform;
pub use pull::{OnProgress, Progress, PullOrder, Pulled, Registries};
pub use reference::{Host, Reference, ReferenceError, RegistryName};
pub use settings::{
    DefaultRegistry, KnownRegistry, Others, RegistrySettings, SettingError, SiteError, Transport,
};
pub use web::WebError;

#[cfg(test)]
mod tests;
