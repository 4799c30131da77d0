//! Builds a template of the product on this machine's own node, and publishes it beside `base`.
//!
//! ```text
//! TEMPLATES/.lock           held while anything is built
//! TEMPLATES/.build-XXXX/    the context; swept by the next build
//! TEMPLATES/store/          layers and steps of all of them
//! TEMPLATES/NAME-HASH.erofs the image, which is also the store's
//! TEMPLATES/NAME.json       what is built (see manifest)
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use courier_image::Store;
use courier_protocol::node::{
    BuildError, BuildOrder, BuildSource, BuildStage, BuildWatcher, Builder as _, Built, Presets,
    Step, StepKind,
};
use courier_types::egress::{NetworkSpec, Policy, PresetName};
use courier_types::{BuildConfig, SandboxId, SandboxSpec, Timestamp};

use super::super::build::{self as stages, Caches, guest_hash};
use super::super::context::{Context, ContextError};
use super::super::docker;
use super::super::dockerfile::{Action, Plan, Source};
use super::super::error::TemplateError;
use super::super::follow::{Look, Printer};
use super::super::manifest::{Binary, GuestStamp, Template, image_of, prune};
use super::watcher::Watcher;
use super::{Product, Settings};
use crate::compose;
use crate::config::Config;
use crate::config::outside::OutsideArgs;
use crate::egress::Granted;

/// Longest build: the largest of them installs for a quarter of an hour on a slow line.
const DEADLINE: Duration = Duration::from_secs(60 * 60);
/// Presets that steps may use where a template names none, as far as this machine has them.
const PRESETS: [&str; 5] = ["apt", "npm", "pypi", "cargo", "go"];

/// What is asked of a build.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// What to build.
    pub(crate) product: &'static Product,
    /// Where everything is.
    pub(crate) config: &'a Config,
    /// Whether caches count.
    pub(crate) caches: Caches,
    /// What a user who is not root should run.
    pub(crate) command: String,
}

/// The template as it is, where it is built already: of this recipe, this build of its base, these
/// binaries and this guest daemon.
///
/// # Errors
/// Something of it cannot be read.
pub(crate) fn current(
    request: &Request<'_>,
    base: &Template,
) -> Result<Option<Template>, TemplateError> {
    let Request { product, config, .. } = request;
    let stamp = GuestStamp::of(&config.guest_binary)?;
    let Some(template) = Template::read(&config.templates, product.name)? else { return Ok(None) };
    let binaries = binaries(product, config, Some(&template))?;
    if template.recipe != product.hash(&base.build, &binaries) {
        return Ok(None);
    }
    let is_same =
        template.guest_stamp == stamp || template.guest == guest_hash(&config.guest_binary)?;
    Ok(is_same.then_some(template))
}

/// Our binaries that go in. Those that look as they did when they were taken in are not read again.
fn binaries(
    product: &Product,
    config: &Config,
    known: Option<&Template>,
) -> Result<Vec<Binary>, TemplateError> {
    let of = |name: &String| {
        let path = config.own_binaries.join(name);
        let stamp = GuestStamp::of(&path);
        let stamp = stamp.map_err(|_missing| missing(name, &path))?;
        let known = known.into_iter().flat_map(|template| &template.binaries);
        if let Some(known) = known.into_iter().find(|binary| binary.stamp == stamp) {
            return Ok(known.clone());
        }
        let hash = guest_hash(&path).map_err(|_unread| missing(name, &path))?;
        Ok(Binary { stamp, hash })
    };
    product.settings()?.binaries.iter().map(of).collect()
}

fn missing(name: &str, path: &Path) -> TemplateError {
    TemplateError::BinaryMissing { name: name.to_owned(), path: path.to_owned() }
}

/// Makes the template be there. The caller has seen to its base.
///
/// # Errors
/// See [`TemplateError`]; nothing that was built before is lost.
pub(crate) async fn build(
    request: &Request<'_>,
    base: &Template,
) -> Result<Template, TemplateError> {
    let Request { product, config, caches, command } = request;
    if !rustix::process::geteuid().is_root() {
        let (name, command) = (product.name.to_owned(), command.clone());
        return Err(TemplateError::NotRoot { name, command });
    }
    let templates = &config.templates;
    let _lock = super::super::lock::take(templates).await?;
    stages::sweep(templates)?;
    // Another process may have built it while we waited.
    if *caches == Caches::Used
        && let Some(template) = current(request, base)?
    {
        return Ok(template);
    }
    let work = stages::work_folder(templates)?;
    let making = Making {
        product,
        config,
        caches: *caches,
        base,
        settings: product.settings()?,
        binaries: binaries(product, config, None)?,
        context: work.path().join("context"),
    };
    Box::pin(making.run()).await
}

/// A build under way.
struct Making<'a> {
    product: &'static Product,
    config: &'a Config,
    caches: Caches,
    base: &'a Template,
    settings: Settings,
    binaries: Vec<Binary>,
    context: PathBuf,
}

impl Making<'_> {
    async fn run(&self) -> Result<Template, TemplateError> {
        let guest = guest_hash(&self.config.guest_binary)?;
        let stamp = GuestStamp::of(&self.config.guest_binary)?;
        let recipe = self.product.hash(&self.base.build, &self.binaries);
        let build = stages::name_of_build(self.product.name, &recipe, &guest);
        let (source, plan) = self.product.plan()?;
        let (steps, watcher) = self.prepare(&source, &plan)?;
        let (built, size_bytes) = self.make(&plan, &source, &build, (steps, watcher)).await?;
        let templates = &self.config.templates;
        let previous = Template::read(templates, self.product.name)?
            .and_then(|old| if old.build == build { old.previous } else { Some(old.build) });
        let template = Template {
            name: self.product.name.to_owned(),
            template_id: Template::id_of(self.product.name),
            build,
            previous,
            recipe,
            guest,
            guest_stamp: stamp,
            created: Timestamp::from(SystemTime::now()),
            size_bytes,
            limits: self.settings.limits(self.product.name)?,
            egress: None,
            config: built.config,
            binaries: self.binaries.clone(),
        };
        template.write(templates)?;
        prune(templates, &super::super::list_in(templates)?)?;
        Ok(template)
    }

    /// Packs the context, and says what the steps are.
    fn prepare(
        &self,
        source: &Source,
        plan: &Plan,
    ) -> Result<(Vec<Step>, Arc<Watcher>), TemplateError> {
        let unwritable = || TemplateError::host("write", &self.context);
        fs::create_dir_all(&self.context).map_err(unwritable())?;
        self.product.write_context(&self.context).map_err(unwritable())?;
        for name in &self.settings.binaries {
            let place = self.context.join(name);
            fs::copy(self.config.own_binaries.join(name), &place)
                .and_then(|_size| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
                .map_err(unwritable())?;
        }
        let context = Context::open(&self.context, None)?;
        let packed = docker::pack(&context, plan);
        let packed = packed.map_err(|error| match error {
            ContextError::Asked(fault) => TemplateError::Dockerfile(source.error(&fault)),
            other => other.into(),
        })?;
        let (mut archives, mut files) = (HashMap::new(), BTreeMap::new());
        for (index, packed) in packed {
            files.insert(index, (packed.hash.clone(), packed.source));
            archives.insert(packed.hash, packed.archive);
        }
        let steps = plan.steps.iter().enumerate();
        let steps = steps.map(|(index, step)| node_step(&step.action, files.get(&index)));
        let look = Look::of_terminal(self.config.term.as_deref(), self.config.colour);
        let printer = Printer::new(docker::titles(plan), look);
        let path = self.config.templates.join("build.log");
        let log = File::create(&path).map_err(TemplateError::host("write", &path))?;
        Ok((steps.collect(), Arc::new(Watcher::new(printer, log, archives))))
    }

    async fn make(
        &self,
        plan: &Plan,
        source: &Source,
        build: &str,
        (steps, watcher): (Vec<Step>, Arc<Watcher>),
    ) -> Result<(Built, u64), TemplateError> {
        let node = |source: anyhow::Error| TemplateError::Node { source: source.into() };
        let outside = OutsideArgs::of_environment().map_err(|error| node(error.into()))?;
        let presets = compose::presets(&outside);
        let granted = self.granted(presets.as_ref()).await.map_err(node)?;
        let sandbox = self.sandbox(build, granted)?;
        let node_here =
            compose::template_node(self.config, &outside, presets).await.map_err(node)?;
        let order = BuildOrder {
            source: BuildSource::Build {
                build: self.base.build.clone(),
                config: self.base.config.clone(),
            },
            steps,
            start: self.settings.start.clone().or_else(|| plan.start.clone()),
            ready: self.settings.ready.clone(),
            force: self.caches == Caches::Ignored,
            sandbox,
        };
        let watcher: Arc<dyn BuildWatcher> = watcher;
        // What is made is kept until it is published.
        let _lease = node_here.store.lease().map_err(|error| node(error.into()))?;
        let built = node_here.builder.build(order, watcher).await;
        let built = built.map_err(|error| failure(source, plan, error))?;
        let (store, reference) = (node_here.store.clone(), build.to_owned());
        let image = tokio::task::spawn_blocking(move || image_of_build(&store, &reference));
        let image = image.await.map_err(|error| node(error.into()))?.map_err(node)?;
        let size_bytes = publish(&image, &self.config.templates, build)?;
        Ok((built, size_bytes))
    }

    /// What steps may reach: presets, and nothing else.
    async fn granted(&self, presets: &dyn Presets) -> anyhow::Result<Granted> {
        let names = match &self.settings.build.egress {
            Some(named) => named.clone(),
            None => {
                let mut there = Vec::new();
                for name in PRESETS {
                    let name: PresetName = name.parse()?;
                    if presets.resolve(&name).await.is_ok() {
                        there.push(name);
                    }
                }
                there
            }
        };
        let policy = Policy { presets: names, ..Policy::default() };
        Granted::new(presets, None, Some(&policy)).await
    }

    fn sandbox(&self, build: &str, granted: Granted) -> Result<SandboxSpec, TemplateError> {
        let random =
            crate::random::bytes().map_err(|error| TemplateError::Node { source: error.into() })?;
        Ok(SandboxSpec {
            id: SandboxId::from_random(random),
            build: build.to_owned(),
            limits: self.settings.build_limits(self.product.name)?,
            deadline: Timestamp::from(SystemTime::now()).plus(DEADLINE),
            env: granted.env,
            access_token: None,
            template: self.product.name.to_owned(),
            network: NetworkSpec { egress: granted.layers, ..NetworkSpec::default() },
            files: granted.files,
            config: BuildConfig::default(),
            volumes: Vec::new(),
        })
    }
}

/// The image of a build in the store.
fn image_of_build(store: &Store, reference: &str) -> anyhow::Result<PathBuf> {
    let manifest = store.build(reference)?.context("the build is not in the store")?;
    Ok(store.image(&manifest.layers)?)
}

fn node_step(action: &Action, files: Option<&(String, String)>) -> Step {
    let kind = match action {
        Action::Run(command) => StepKind::Run { command: command.clone(), user: None },
        Action::Workdir(path) => StepKind::Workdir(path.clone()),
        Action::User(name) => StepKind::User(name.clone()),
        Action::Env(pairs) => StepKind::Env(pairs.clone()),
        Action::Copy(copy) => {
            let (hash, source) = files.cloned().unwrap_or_default();
            StepKind::Copy {
                source,
                destination: copy.destination.clone(),
                owner: copy.owner.clone(),
                mode: copy.mode,
                files: hash,
            }
        }
    };
    Step { kind, force: false }
}

/// Why a build failed, at its line.
fn failure(source: &Source, plan: &Plan, error: BuildError) -> TemplateError {
    match error {
        BuildError::Failed { stage, message } => {
            let step = match stage {
                BuildStage::Step(number) => number.checked_sub(1).and_then(|at| plan.steps.get(at)),
                BuildStage::Base | BuildStage::Finalize => None,
            };
            let at = step.map_or(plan.from.at, |step| step.place.at);
            TemplateError::Dockerfile(source.mark(at, format!("the build failed here: {message}")))
        }
        BuildError::Node(source) => TemplateError::Node { source: source.into() },
    }
}

/// Puts an image of the store where sandboxes find it, and says its size.
fn publish(image: &Path, templates: &Path, build: &str) -> Result<u64, TemplateError> {
    let place = image_of(templates, build);
    let fresh = place.with_extension("new");
    let linked = || {
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _gone => {}
        }
        // Another name of the same file; a copy where the store is on another file system.
        if fs::hard_link(image, &fresh).is_err() {
            fs::copy(image, &fresh)?;
        }
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644))?;
        let file = File::open(&fresh)?;
        file.sync_all()?;
        fs::rename(&fresh, &place)?;
        File::open(templates)?.sync_all()?;
        Ok(file.metadata()?.len())
    };
    linked().map_err(TemplateError::host("write", &place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_published_whole_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, "one").unwrap();
        for _again in 0..2 {
            assert_eq!(publish(&image, folder.path(), "x-1").unwrap(), 3);
        }
        let place = image_of(folder.path(), "x-1");
        assert_eq!(fs::read_to_string(&place).unwrap(), "one");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_failure_is_shown_at_the_line_of_its_step() {
        let source = Source::new("Dockerfile", b"FROM template/base\nRUN make\n").unwrap();
        let plan = super::super::super::dockerfile::parse(&source, &[]).unwrap();
        let told = |stage| {
            let message = "it failed".to_owned();
            failure(&source, &plan, BuildError::Failed { stage, message }).to_string()
        };
        // USER root and WORKDIR / come before it.
        assert!(told(BuildStage::Step(3)).starts_with("Dockerfile:2:1: "));
        for stage in [BuildStage::Base, BuildStage::Step(99), BuildStage::Finalize] {
            assert!(told(stage).starts_with("Dockerfile:1:1: "));
        }
    }
}
