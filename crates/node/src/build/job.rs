//! One build, from its order to its manifest.
//!
//! ```text
//! source ─▶ plan ─▶ longest cached prefix ─▶ one sandbox: provision, steps ─▶ finalize ─▶ manifest
//!                                              └ after each: changes ─▶ layer ─▶ cache
//! ```
//!
//! What always holds: nothing of a failed or dropped build is left but layers and cached steps; every
//! sandbox of it is gone before it returns, or is being destroyed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use courier_image::{BuildManifest, CachedStep, Digest, ImageError, Layer, LayerError};
use courier_protocol::envd::build::Unpack;
use courier_protocol::node::{
    Body, BuildError, BuildLogLevel, BuildOrder, BuildStage, BuildWatcher, Built, NodeError,
    StepKind,
};
use courier_types::{BuildConfig, SandboxId, SandboxSpec};

use super::BuilderConfig;
use super::images::Images;
use super::log::Log;
use super::plan::{Plan, Planned};
use super::provision;
use super::run::{Command, keep_path, run};
use super::sandbox::BuildSandbox;
use super::shelf::{LayerFailure, Shelf, by_host};
use super::source::Base;
use super::state::State;
use super::text;
use crate::local::LocalNode;

/// What E2B waits for where a build has a start command and says nothing about readiness.
const READY_UNSAID: &str = "sleep 20";

/// Makes the current directory where it is not there, and gives a new one to the current user.
const MAKE_DIRECTORY: &str = r#"[ -d "$1" ] || { mkdir -p -- "$1" && chown -- "$2:" "$1"; }"#;

/// A build under way.
pub(super) struct Job {
    pub(super) node: Arc<LocalNode>,
    pub(super) images: Arc<dyn Images>,
    pub(super) config: BuilderConfig,
    pub(super) shelf: Shelf,
    pub(super) order: BuildOrder,
    pub(super) watcher: Arc<dyn BuildWatcher>,
    pub(super) log: Log,
}

impl Job {
    /// Makes the build.
    pub(super) async fn run(&self) -> Result<Built, BuildError> {
        let base = self.base().await?;
        let plan = Plan::of(base.key, base.state.clone(), self.order.steps.clone())?;
        let (done, cached) = self.cached(&base, &plan).await?;
        let mut layers = base.layers.clone();
        layers.extend(cached);
        let steps = plan.steps.get(done..).unwrap_or_default();
        if base.provision.is_some() || steps.iter().any(|step| step.key.is_some()) {
            self.in_sandbox(&base, (&plan, done), &mut layers).await?;
        } else {
            steps.iter().for_each(|step| self.head(step, plan.steps.len(), ""));
        }
        self.finalize(&plan.end, layers, base.image_digest).await
    }

    /// How many steps need not be done, and their layers.
    async fn cached(&self, base: &Base, plan: &Plan) -> Result<(usize, Vec<Digest>), BuildError> {
        let mut layers = Vec::new();
        let mut done = 0;
        if self.order.force || base.provision.is_some() {
            return Ok((done, layers));
        }
        for step in &plan.steps {
            if step.force {
                break;
            }
            if let Some(key) = step.key {
                let Some(cached) = self.shelf.cached(key).await? else { break };
                layers.extend(cached.layer);
            }
            done += 1;
            self.head(step, plan.steps.len(), "CACHED ");
        }
        Ok((done, layers))
    }

    /// Begins a step in the log.
    fn head(&self, step: &Planned, of: usize, prefix: &str) {
        self.log.enter(step.stage());
        let text = format!("{prefix}[{}/{of}] {}", step.number, text::step(&step.kind));
        self.log.say(BuildLogLevel::Info, text);
    }

    /// The spec of this build's sandboxes: nothing of the build's own is started in them.
    pub(super) fn spec(&self) -> SandboxSpec {
        let config = BuildConfig {
            user: "root".to_owned(),
            workdir: "/".to_owned(),
            env: BTreeMap::new(),
            start: None,
            ready: None,
        };
        SandboxSpec { config, access_token: None, ..self.order.sandbox.clone() }
    }

    /// The image of layers.
    async fn image(&self, layers: &[Digest]) -> Result<PathBuf, BuildError> {
        match self.shelf.image(layers.to_vec()).await? {
            Ok(image) => Ok(image),
            Err(ImageError::Host(error)) => Err(by_host(error).into()),
            Err(error @ (ImageError::NoLayer { .. } | ImageError::Corrupted { .. })) => {
                Err(NodeError::Node(error.into()).into())
            }
            // What the layers hold does not go together: their author's to mend.
            Err(
                error @ (ImageError::Conflict { .. }
                | ImageError::Guest { .. }
                | ImageError::TooMany { .. }
                | ImageError::TooLarge),
            ) => Err(self.log.failed(text::chain(&error))),
        }
    }

    /// Does what is to be done, in one sandbox.
    async fn in_sandbox(
        &self,
        base: &Base,
        (plan, done): (&Plan, usize),
        layers: &mut Vec<Digest>,
    ) -> Result<(), BuildError> {
        let image = match &base.image {
            Some(image) if *layers == base.layers => image.clone(),
            Some(_) | None => self.image(layers).await?,
        };
        let sandbox = self.make(self.spec(), image, self.config.start_deadline).await?;
        let result = self.steps(&sandbox, base, (plan, done), layers).await;
        sandbox.end_with(result).await
    }

    async fn steps(
        &self,
        sandbox: &BuildSandbox,
        base: &Base,
        (plan, done): (&Plan, usize),
        layers: &mut Vec<Digest>,
    ) -> Result<(), BuildError> {
        if let Err(error) = sandbox.root().mark_layer().await {
            return Err(sandbox.explain("the build cannot begin", error, &self.log).await);
        }
        if let Some(key) = base.provision {
            provision::provision(sandbox, &self.log).await?;
            keep_path(sandbox, &self.log, &base.state).await?;
            layers.extend(self.keep(sandbox, key, &base.state).await?);
        }
        for step in plan.steps.get(done..).unwrap_or_default() {
            self.head(step, plan.steps.len(), "");
            self.step(sandbox, step).await?;
            if let Some(key) = step.key {
                layers.extend(self.keep(sandbox, key, &step.after).await?);
            }
        }
        Ok(())
    }

    /// Takes what a step changed as a layer, where it changed anything, and remembers the step.
    async fn keep(
        &self,
        sandbox: &BuildSandbox,
        key: super::key::Key,
        after: &State,
    ) -> Result<Option<Digest>, BuildError> {
        let what = "what the step changed cannot be kept";
        let layer = match sandbox.root().layer_changes().await {
            Ok(None) => None,
            Ok(Some(body)) => Some(self.take_layer(sandbox, (what, body)).await?),
            Err(error) => return Err(sandbox.explain(what, error, &self.log).await),
        };
        let layer = layer.filter(|layer| layer.entries > 0).map(|layer| layer.digest);
        let step = CachedStep { layer, config: after.config(None, None) };
        self.shelf.remember(key, step).await?;
        Ok(layer)
    }

    /// Puts a layer that a guest sends into the store.
    pub(super) async fn take_layer(
        &self,
        sandbox: &BuildSandbox,
        (what, body): (&str, Body),
    ) -> Result<Layer, BuildError> {
        match self.shelf.add_layer(body).await {
            Ok(layer) => Ok(layer),
            Err(LayerFailure::Node(error)) => Err(error.into()),
            Err(LayerFailure::Guest(error)) => Err(sandbox.explain(what, error, &self.log).await),
            Err(LayerFailure::Store(LayerError::Host(error))) => Err(by_host(error).into()),
            // The guest made it up, or it is beyond a bound.
            Err(LayerFailure::Store(error)) => {
                Err(self.log.failed(format!("{what}: {}", text::chain(&error))))
            }
        }
    }

    /// Does one step.
    async fn step(&self, sandbox: &BuildSandbox, step: &Planned) -> Result<(), BuildError> {
        let state = &step.before;
        match &step.kind {
            StepKind::Run { command, user } => {
                let user = user.as_deref().filter(|user| !user.is_empty());
                let command = Command::shell(command, user.unwrap_or(&state.user), state);
                run(sandbox, &self.log, &command).await
            }
            StepKind::Copy { .. } => self.copy(sandbox, step).await,
            StepKind::Workdir(path) => {
                let line = format!("WORKDIR {path}");
                let arguments = [step.after.workdir.as_str(), state.user.as_str()];
                let script = Command::script(&line, "/bin/bash", MAKE_DIRECTORY, &arguments);
                run(sandbox, &self.log, &script).await
            }
            StepKind::User(name) => match sandbox.root().add_user(&step.after.user).await {
                Ok(_account) => Ok(()),
                Err(error) => {
                    let what = format!("USER {name}");
                    Err(sandbox.explain(&what, error, &self.log).await)
                }
            },
            StepKind::Env(_) if step.key.is_some() => {
                keep_path(sandbox, &self.log, &step.after).await
            }
            StepKind::Env(_) => Ok(()),
        }
    }

    async fn copy(&self, sandbox: &BuildSandbox, step: &Planned) -> Result<(), BuildError> {
        let StepKind::Copy { source, destination, owner, mode, files } = &step.kind else {
            return Ok(());
        };
        let what = text::step(&step.kind);
        let archive = self.watcher.files(files).await.map_err(|error| {
            self.log.failed(format!("{what}: its files are not here: {}", text::chain(&*error)))
        })?;
        let unpack = Unpack {
            source: source.clone(),
            destination: destination.clone(),
            owner: owner.clone().filter(|owner| !owner.is_empty()),
            mode: *mode,
            workdir: step.before.workdir.clone(),
            user: step.before.user.clone(),
        };
        match sandbox.root().unpack(&unpack, archive).await {
            Ok(unpacked) => {
                let text = format!("{} entries, {} bytes", unpacked.entries, unpacked.bytes);
                self.log.say(BuildLogLevel::Debug, text);
                Ok(())
            }
            Err(error) => Err(sandbox.explain(&what, error, &self.log).await),
        }
    }

    /// Makes the image, and a sandbox of it as the proof that it is one; then the build is one.
    async fn finalize(
        &self,
        end: &State,
        layers: Vec<Digest>,
        image_digest: Option<String>,
    ) -> Result<Built, BuildError> {
        self.log.enter(BuildStage::Finalize);
        self.log.say(BuildLogLevel::Info, "making the image");
        let image = self.image(&layers).await?;
        let meta = std::fs::metadata(&image).map_err(|error| NodeError::Node(error.into()))?;
        let config = end.config(self.order.start.clone(), self.order.ready.clone());
        self.prove(&config, image).await?;
        let manifest = BuildManifest {
            layers,
            config: config.clone(),
            image_digest: image_digest.clone(),
            created: self.node.now(),
        };
        self.shelf.put_build(&self.order.sandbox.build, manifest).await?;
        let size_bytes = meta.len();
        self.log.say(BuildLogLevel::Info, format!("the build is ready: {} MiB", size_bytes >> 20));
        Ok(Built { config, size_bytes, image_digest })
    }

    /// Starts a sandbox of the build, with all that it wants to be started.
    async fn prove(&self, config: &BuildConfig, image: PathBuf) -> Result<(), BuildError> {
        let mut config = config.clone();
        match (&config.start, &config.ready) {
            (Some(start), None) => {
                self.log.say(BuildLogLevel::Info, format!("start: {}", text::command(start)));
                config.ready = Some(READY_UNSAID.to_owned());
            }
            (start, Some(ready)) => {
                let start = start.as_deref().map(|s| format!("start: {}; ", text::command(s)));
                let start = start.unwrap_or_default();
                let text = format!("{start}waiting for: {}", text::command(ready));
                self.log.say(BuildLogLevel::Info, text);
            }
            (None, None) => {}
        }
        let id = SandboxId::from_random(rand::random());
        let spec = SandboxSpec { id, config, ..self.spec() };
        let sandbox = self.make(spec, image, self.config.start_deadline).await?;
        sandbox.end_with(Ok(())).await
    }
}
