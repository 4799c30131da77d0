//! What a build starts from: layers in the store, whatever the source is.

use std::any::Any;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use courier_image::{CachedStep, Digest};
use courier_protocol::node::{BuildError, BuildLogLevel, BuildSource, NodeError, RegistryLogin};
use courier_types::egress::NetworkSpec;
use courier_types::{BuildConfig, SandboxId, SandboxSpec};

use super::images::ImageOrder;
use super::job::Job;
use super::key::Key;
use super::provision;
use super::sandbox::BuildSandbox;
use super::state::State;
use super::text;

/// What the steps begin with.
pub(super) struct Base {
    /// Its layers, lowest first.
    pub(super) layers: Vec<Digest>,
    /// The user, the directory and the environment of the first step.
    pub(super) state: State,
    /// What it is known by in the cache.
    pub(super) key: Key,
    /// Where it is yet to be provisioned: what the result is known by.
    pub(super) provision: Option<Key>,
    /// The image of exactly these layers, where there is one already.
    pub(super) image: Option<PathBuf>,
    /// The digest of a registry's image.
    pub(super) image_digest: Option<String>,
}

impl Job {
    /// Finds what the build starts from, and fetches it.
    pub(super) async fn base(&self) -> Result<Base, BuildError> {
        match &self.order.source {
            BuildSource::Image { reference, login } => self.pulled(reference, login.as_ref()).await,
            BuildSource::Build { build, config } => self.of_build(build, config).await,
        }
    }

    async fn pulled(
        &self,
        reference: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<Base, BuildError> {
        self.log.say(BuildLogLevel::Info, format!("FROM {reference}"));
        let log = self.log.clone();
        let progress = move |line: String| log.say(BuildLogLevel::Info, line);
        let project = self.order.sandbox.network.project.as_ref();
        let (store, hold) = self.shelf.store();
        let hold: Arc<dyn Any + Send + Sync> = hold;
        let order = ImageOrder { reference, login, project, hold: &hold, progress: &progress };
        let pulled = self.images.pull(&order, store).await;
        // What the order names is not to be had: its author's to mend, or the registry's.
        let pulled = pulled.map_err(|error| self.log.failed(text::chain(&*error)))?;
        let state = State::of_image(pulled.env, pulled.workdir.as_deref()).map_err(|error| {
            self.log.failed(format!("the image cannot be used: {}", text::chain(&error)))
        })?;
        let source = self.key_of(&pulled.layers);
        let provisioned = source.provisioned(provision::VERSION);
        let cached = match self.order.force {
            true => None,
            false => self.shelf.cached(provisioned).await?,
        };
        let mut layers = pulled.layers;
        let to_do = cached.is_none().then_some(provisioned);
        layers.extend(cached.and_then(|step| step.layer));
        let image_digest = Some(pulled.digest);
        Ok(Base { layers, state, key: provisioned, provision: to_do, image: None, image_digest })
    }

    async fn of_build(&self, build: &str, config: &BuildConfig) -> Result<Base, BuildError> {
        let template = &self.order.sandbox.template;
        self.log.say(BuildLogLevel::Info, format!("FROM build {build}"));
        let (layers, image) = match self.shelf.build(build).await? {
            Some(manifest) => (manifest.layers, None),
            None => {
                let image = self.node.config().builds.image(build).await;
                let unknown = || NodeError::UnknownBuild { build: build.to_owned() };
                let image = image.map_err(NodeError::Node)?.ok_or_else(unknown)?;
                (vec![self.captured(&image, template).await?], Some(image))
            }
        };
        let key = self.key_of(&layers);
        let state = State::of(config);
        Ok(Base { layers, state, key, provision: None, image, image_digest: None })
    }

    fn key_of(&self, layers: &[Digest]) -> Key {
        let project = self.order.sandbox.network.project.as_ref();
        Key::of_layers(project, layers.iter().map(|layer| *layer.as_bytes()))
    }

    /// The one layer of an image file that was not made of layers: read out of a sandbox of it, in
    /// which nothing of anybody's runs, once.
    async fn captured(&self, image: &Path, template: &str) -> Result<Digest, BuildError> {
        let key = Key::of_image_file(&identity(image).map_err(|e| NodeError::Node(e.into()))?);
        if let Some(CachedStep { layer: Some(layer), .. }) = self.shelf.cached(key).await? {
            return Ok(layer);
        }
        self.log.say(BuildLogLevel::Info, "reading the template's image, once");
        let spec = SandboxSpec {
            id: SandboxId::from_random(rand::random()),
            network: NetworkSpec::default(),
            env: std::collections::BTreeMap::new(),
            files: Vec::new(),
            template: template.to_owned(),
            ..self.spec()
        };
        let sandbox = self.make(spec, PathBuf::from(image), self.config.start_deadline).await?;
        let what = "the template's image cannot be read";
        let layer = match sandbox.root().layer_all().await {
            Ok(body) => self.take_layer(&sandbox, (what, body)).await,
            Err(error) => Err(sandbox.explain(what, error, &self.log).await),
        };
        let layer = sandbox.end_with(layer).await?;
        let step = CachedStep { layer: Some(layer.digest), config: BuildConfig::default() };
        self.shelf.remember(key, step).await?;
        Ok(layer.digest)
    }

    /// Makes a sandbox of this build.
    pub(super) async fn make(
        &self,
        spec: SandboxSpec,
        image: PathBuf,
        start_deadline: std::time::Duration,
    ) -> Result<BuildSandbox, BuildError> {
        BuildSandbox::make(&self.node, spec, image, (start_deadline, &self.log)).await
    }
}

/// What an image file is known by: while this stays, so does its content.
fn identity(image: &Path) -> std::io::Result<String> {
    let meta = std::fs::metadata(image)?;
    let (size, inode) = (meta.len(), meta.ino());
    let (seconds, nanos) = (meta.mtime(), meta.mtime_nsec());
    Ok(format!("{} {size} {inode} {seconds}.{nanos}", image.display()))
}
