//! From a reference to layers in the store.

use std::sync::Arc;

use courier_protocol::node::RegistryLogin;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::bounds::PullBounds;
use super::dial::Dial;
use super::digest::BlobDigest;
use super::error::{FetchError, Item, Lie, PullError};
use super::layer::{Budget, Fault, Said, pipe};
use super::layers::Layers;
use super::manifest::{self, ACCEPT, Config, Descriptor, Document, Manifest, ManifestError};
use super::platform::{Platform, list};
use super::reference::{Reference, Version};
use super::repository::{Fetched, Repository, Tries};
use super::settings::RegistrySettings;
use super::web::{Web, WebError};
use crate::Digest;

/// Layers that are on their way at once. Each takes a connection, a thread and some MiB.
const AT_ONCE: usize = 3;
/// Bytes of a layer between two words of its progress.
const PROGRESS_STEP: u64 = 16 * 1024 * 1024;

/// What a pull tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Which image it is.
    Resolved {
        /// Its full name.
        reference: String,
        /// The digest of what the name leads to.
        digest: BlobDigest,
        /// How many layers it has.
        layers: usize,
    },
    /// A layer is there already.
    Kept {
        /// Which.
        item: Item,
    },
    /// A layer is on its way.
    Pulling {
        /// Which.
        item: Item,
        /// How many bytes have come.
        bytes: u64,
        /// Of how many.
        of: u64,
    },
    /// A layer is there now.
    Pulled {
        /// Which.
        item: Item,
    },
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resolved { reference, digest, layers } => {
                write!(f, "{reference} is {digest}, {layers} layers")
            }
            Self::Kept { item } => write!(f, "{item} is here already"),
            Self::Pulling { item, bytes, of } => write!(f, "{item}: {bytes} of {of} bytes"),
            Self::Pulled { item } => write!(f, "{item} is here"),
        }
    }
}

/// Who is told of progress.
pub type OnProgress<'a> = dyn Fn(Progress) + Send + Sync + 'a;

/// What is to be pulled.
#[derive(Clone, Copy)]
pub struct PullOrder<'a> {
    /// The image.
    pub reference: &'a Reference,
    /// Who to be at its registry.
    pub login: Option<&'a RegistryLogin>,
    /// Who is told of progress; called often, must not block.
    pub progress: &'a OnProgress<'a>,
}

impl std::fmt::Debug for PullOrder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullOrder").field("reference", self.reference).finish_non_exhaustive()
    }
}

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its full name, with the digest of what the name led to.
    pub reference: Reference,
    /// That digest: of an index where there is one, else of the manifest.
    pub digest: BlobDigest,
    /// Its layers in the store, lowest first.
    pub layers: Vec<Digest>,
    /// Its environment, in the image's order.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub workdir: Option<String>,
    /// Its user.
    pub user: Option<String>,
}

/// Pulls images.
#[derive(Debug, Clone)]
pub struct Registries {
    web: Web,
    settings: RegistrySettings,
    bounds: PullBounds,
    platform: Platform,
}

impl Registries {
    /// Pulls through `dial`, trusting the certificates of `tls` (whose ALPN is `http/1.1` or none).
    #[must_use]
    pub fn new(
        settings: RegistrySettings,
        dial: Arc<dyn Dial>,
        tls: Arc<ClientConfig>,
        bounds: PullBounds,
    ) -> Self {
        let web = Web::new(dial, tls, bounds.quiet);
        Self { web, settings, bounds, platform: Platform::of_host() }
    }

    /// Pulls an image. Layers that were verified and kept stay, also where the pull fails or is
    /// dropped; nothing else does.
    ///
    /// # Errors
    /// [`PullError`], which says whose fault it is.
    pub async fn pull(
        &self,
        order: &PullOrder<'_>,
        layers: Arc<dyn Layers>,
    ) -> Result<Pulled, PullError> {
        let mut reference = self.settings.qualified(order.reference)?;
        let site = self.settings.site(&reference)?;
        let parts = (&self.web, &self.settings, &self.bounds);
        let repository = Repository::new(parts, site, order.login);
        let pull = Pull { repository, name: reference.to_string(), layers, order };
        let (digest, manifest) = pull.manifest(&reference, &self.platform).await?;
        let config = pull.config(&manifest, &self.platform).await?;
        let count = manifest.layers.len();
        let name = pull.name.clone();
        (order.progress)(Progress::Resolved { reference: name, digest, layers: count });
        let layers = pull.all_layers(&manifest, &config).await?;
        reference.digest = Some(digest);
        let Config { env, workdir, user, platform: _, diff_ids: _ } = config;
        Ok(Pulled { reference, digest, layers, env, workdir, user })
    }
}

/// One pull under way.
struct Pull<'a> {
    repository: Repository<'a>,
    name: String,
    layers: Arc<dyn Layers>,
    order: &'a PullOrder<'a>,
}

impl Pull<'_> {
    fn fetch_error(&self, item: Item, source: FetchError) -> PullError {
        let (reference, registry) = (self.name.clone(), self.repository.registry());
        PullError::Fetch { reference, registry, item, source: Box::new(source) }
    }

    fn lie(&self, item: Item, source: Lie) -> PullError {
        let (reference, registry) = (self.name.clone(), self.repository.registry());
        PullError::Lie { reference, registry, item, source: Box::new(source) }
    }

    fn unusable(&self, source: ManifestError) -> PullError {
        PullError::Unusable { reference: self.name.clone(), source }
    }

    fn other_platform<'p>(
        &self,
        wanted: &Platform,
        there: impl Iterator<Item = &'p Platform>,
    ) -> PullError {
        let (reference, there) = (self.name.clone(), list(there));
        PullError::Platform { reference, wanted: wanted.to_string(), there }
    }

    /// The manifest for this platform, and the digest of what the reference leads to.
    async fn manifest(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(BlobDigest, Manifest), PullError> {
        let version = reference.version();
        let asked = match &version {
            Version::Digest(digest) => Some(*digest),
            Version::Tag(_) => None,
        };
        let fetched = self.manifest_bytes(&version).await.map_err(|error| match error {
            FetchError::Missing => PullError::NoImage { reference: self.name.clone() },
            other => self.fetch_error(Item::Manifest, other),
        })?;
        let digest = self.checked(Item::Manifest, &fetched, asked)?;
        let entries = match self.read(&fetched)? {
            Document::Manifest(manifest) => return Ok((digest, manifest)),
            Document::Index(entries) => entries,
        };
        // Attestations and the like say that they are for an unknown system.
        let of = |entry: &Descriptor| entry.platform.clone();
        let fits = |entry: &&Descriptor| of(entry).is_some_and(|of| platform.runs(&of));
        let Some(entry) = entries.iter().find(fits) else {
            let there = entries.iter().filter_map(|entry| entry.platform.as_ref());
            let there = there.filter(|platform| platform.os != "unknown");
            return Err(self.other_platform(platform, there));
        };
        let fetched = self.manifest_bytes(&Version::Digest(entry.digest)).await;
        let fetched = fetched.map_err(|error| self.fetch_error(Item::Manifest, error))?;
        self.checked(Item::Manifest, &fetched, Some(entry.digest))?;
        self.sized(Item::Manifest, &fetched, entry.size)?;
        match self.read(&fetched)? {
            Document::Manifest(manifest) => Ok((digest, manifest)),
            Document::Index(_) => Err(self.unusable(ManifestError::Nested)),
        }
    }

    async fn manifest_bytes(&self, version: &Version) -> Result<Fetched, FetchError> {
        let most = self.repository.bounds.manifest_bytes;
        self.repository.document(&format!("manifests/{version}"), ACCEPT, most).await
    }

    fn read(&self, fetched: &Fetched) -> Result<Document, PullError> {
        let most = self.repository.bounds.layers;
        let read = manifest::read(&fetched.bytes, fetched.content_type.as_deref(), most);
        read.map_err(|error| self.unusable(error))
    }

    /// The digest of what came, if it is the one that was asked for and the one that its head says.
    fn checked(
        &self,
        item: Item,
        fetched: &Fetched,
        asked: Option<BlobDigest>,
    ) -> Result<BlobDigest, PullError> {
        let sent = BlobDigest::of(&fetched.bytes);
        if let Some(asked) = asked.filter(|asked| *asked != sent) {
            return Err(self.lie(item, Lie::Digest { asked, sent }));
        }
        let said = fetched.content_digest.as_deref().and_then(|text| text.parse().ok());
        if let Some(said) = said.filter(|said: &BlobDigest| *said != sent) {
            return Err(self.lie(item, Lie::Header { said, sent }));
        }
        Ok(sent)
    }

    fn sized(&self, item: Item, fetched: &Fetched, said: u64) -> Result<(), PullError> {
        let sent = fetched.bytes.len();
        if sent as u64 == said {
            return Ok(());
        }
        Err(self.lie(item, Lie::Size { said, sent: sent.to_string() }))
    }

    /// The configuration, if it is for this platform and has the manifest's layers.
    async fn config(&self, manifest: &Manifest, platform: &Platform) -> Result<Config, PullError> {
        let Descriptor { digest, size, .. } = manifest.config;
        let path = format!("blobs/{digest}");
        let most = self.repository.bounds.config_bytes;
        let fetched = self.repository.document(&path, "*/*", most).await;
        let fetched = fetched.map_err(|error| self.fetch_error(Item::Config, error))?;
        self.checked(Item::Config, &fetched, Some(digest))?;
        self.sized(Item::Config, &fetched, size)?;
        let config = manifest::read_config(&fetched.bytes).map_err(|error| self.unusable(error))?;
        if !platform.runs(&config.platform) {
            return Err(self.other_platform(platform, [&config.platform].into_iter()));
        }
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            return Err(self.lie(Item::Config, Lie::Layers { layers, diff_ids }));
        }
        Ok(config)
    }

    async fn all_layers(
        &self,
        manifest: &Manifest,
        config: &Config,
    ) -> Result<Vec<Digest>, PullError> {
        let bounds = self.repository.bounds;
        let sent = manifest.layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size));
        if sent.is_none_or(|sent| sent > bounds.sent_bytes) {
            return Err(self.too_large(bounds.sent_bytes, "as they are sent"));
        }
        let budget = Budget::new(bounds.unpacked_bytes);
        let of = manifest.layers.len();
        let pulls: Vec<_> = (1..)
            .zip(manifest.layers.iter().zip(&config.diff_ids))
            .map(|(number, (layer, diff_id))| {
                let said = Said { digest: layer.digest, size: layer.size, diff_id: *diff_id };
                self.layer(Item::Layer { number, of }, said, budget.clone())
            })
            .collect();
        stream::iter(pulls).buffered(AT_ONCE).try_collect().await
    }

    fn too_large(&self, most: u64, how: &'static str) -> PullError {
        PullError::TooLarge { reference: self.name.clone(), most, how }
    }

    /// A layer, from here or from there.
    async fn layer(&self, item: Item, said: Said, budget: Budget) -> Result<Digest, PullError> {
        let layers = Arc::clone(&self.layers);
        let found = blocking(move || layers.find(&said.diff_id)).await;
        let reference = || self.name.clone();
        let unkept = |source| PullError::Layer { reference: reference(), item, source };
        if let Some(digest) = found.map_err(unkept)? {
            (self.order.progress)(Progress::Kept { item });
            return Ok(digest);
        }
        let allowed = self.repository.bounds.layer;
        let pulled = timeout(allowed, self.tried(item, said, budget)).await;
        let slow = |_elapsed| self.fetch_error(item, WebError::Slow { allowed }.into());
        let digest = pulled.map_err(slow)??;
        (self.order.progress)(Progress::Pulled { item });
        Ok(digest)
    }

    async fn tried(&self, item: Item, said: Said, budget: Budget) -> Result<Digest, PullError> {
        let mut tries = Tries::new(self.repository.bounds);
        loop {
            match self.try_layer(item, said, budget.clone()).await? {
                Ok(digest) => return Ok(digest),
                Err(error) => {
                    tries.after(error).await.map_err(|error| self.fetch_error(item, error))?;
                }
            }
        }
    }

    /// One try: the inner error is the connection's, with which another try may be worth while.
    async fn try_layer(
        &self,
        item: Item,
        said: Said,
        budget: Budget,
    ) -> Result<Result<Digest, FetchError>, PullError> {
        let path = format!("blobs/{}", said.digest);
        let mut answer = match self.repository.open(&path, "*/*").await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(length) = answer.length().filter(|length| *length != said.size) {
            let lie = Lie::Size { said: said.size, sent: length.to_string() };
            return Err(self.lie(item, lie));
        }
        let (feed, sent, verdict) = pipe(said, budget);
        let layers = Arc::clone(&self.layers);
        let adding = blocking(move || sent.read(|tar| layers.add(&said.diff_id, tar)));
        let feeding = async {
            let (mut bytes, mut told) = (0_u64, 0_u64);
            while let Some(piece) = answer.piece().await? {
                bytes = bytes.saturating_add(piece.len() as u64);
                if bytes - told >= PROGRESS_STEP {
                    told = bytes;
                    (self.order.progress)(Progress::Pulling { item, bytes, of: said.size });
                }
                if !feed.send(piece).await {
                    return Ok(());
                }
            }
            feed.end().await;
            Ok::<(), WebError>(())
        };
        let (fed, added) = tokio::join!(feeding, adding);
        match (verdict.take(), fed, added) {
            (Some(Fault::Lie(lie)), _, _) => Err(self.lie(item, lie)),
            (Some(Fault::TooLarge), _, _) => {
                Err(self.too_large(self.repository.bounds.unpacked_bytes, "unpacked"))
            }
            (None, Err(error), _) => Ok(Err(error.into())),
            (None, Ok(()), Ok(digest)) => Ok(Ok(digest)),
            (None, Ok(()), Err(source)) => {
                Err(PullError::Layer { reference: self.name.clone(), item, source })
            }
        }
    }
}

/// What may block, in a thread where it may.
async fn blocking<T, F>(act: F) -> Result<T, super::layers::LayersError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, super::layers::LayersError> + Send + 'static,
{
    tokio::task::spawn_blocking(act).await?
}
