//! Where images of registries come from, as builds see it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use courier_image::registry::{Progress, PullOrder, Reference, Registries, StoreLayers};
use courier_image::{Digest, Store};
use courier_protocol::node::{BoxError, RegistryLogin};
use courier_types::ProjectId;

/// An image of a registry whose layers are in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// The digest that its name led to, `sha256:…`.
    pub digest: String,
    /// Its layers, lowest first.
    pub layers: Vec<Digest>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory, where it has one.
    pub workdir: Option<String>,
}

/// What is to be fetched.
#[derive(Clone, Copy)]
pub struct ImageOrder<'a> {
    /// The image, as users write it.
    pub reference: &'a str,
    /// Who to be at its registry.
    pub login: Option<&'a RegistryLogin>,
    /// For whom: nobody gets what only another one's login opened.
    pub project: Option<&'a ProjectId>,
    /// What threads hold that go on when the future was dropped.
    pub hold: &'a Arc<dyn Any + Send + Sync>,
    /// Told lines for the build's log.
    pub progress: &'a (dyn Fn(String) + Send + Sync),
}

impl std::fmt::Debug for ImageOrder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageOrder").field("reference", &self.reference).finish_non_exhaustive()
    }
}

/// Fetches images.
///
/// Repetition is cheap where nothing has changed; dropping a returned future leaves nothing but whole
/// layers.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Fetches an image into the store.
    ///
    /// # Errors
    /// In words for whoever named the image, as a chain.
    async fn pull(&self, order: &ImageOrder<'_>, store: &Store) -> Result<PulledImage, BoxError>;
}

#[async_trait]
impl Images for Registries {
    async fn pull(&self, order: &ImageOrder<'_>, store: &Store) -> Result<PulledImage, BoxError> {
        let reference: Reference = order.reference.parse()?;
        let tell = order.progress;
        // A line for each piece of each layer would be most of a log.
        let progress = move |progress: Progress| match &progress {
            Progress::Resolved { .. } | Progress::Kept { .. } | Progress::Pulled { .. } => {
                tell(progress.to_string());
            }
            Progress::Pulling { .. } => {}
        };
        let pull = PullOrder { reference: &reference, login: order.login, progress: &progress };
        let scope = order.project.map_or("", ProjectId::as_str);
        let layers = StoreLayers::new(store.clone(), scope).holding(Arc::clone(order.hold));
        let layers = Arc::new(layers);
        let pulled = Self::pull(self, &pull, layers).await?;
        Ok(PulledImage {
            digest: pulled.digest.to_string(),
            layers: pulled.layers,
            env: pulled.env.into_iter().collect(),
            workdir: pulled.workdir,
        })
    }
}
