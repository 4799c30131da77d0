//! Builds: what is done, what is not done again, what is told, and that nothing is left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_image::{GuestFiles, Store, StoreBounds};
use courier_node::{
    BuildDir, BuilderConfig, Builds, ImageOrder, Images, LocalBuilder, LocalNode, PulledImage,
    StoredBuilds, system_clock,
};
use courier_protocol::node::{
    Body, BoxError, BuildError, BuildLog, BuildLogLevel, BuildOrder, BuildSource, BuildStage,
    BuildWatcher, Builder as _, Built, Node as _, Step, StepKind,
};
use courier_types::{BuildConfig, EndReason, ProjectId, SandboxId};
use http_body_util::{BodyExt as _, Full};

use crate::commands;
use crate::driver::{TestDriver, node_with, spec};
use crate::front::PATIENCE;
use crate::guest::Manner;

/// Keeps the log; has the files of one archive.
#[derive(Default)]
struct Watcher(Mutex<Vec<BuildLog>>);

#[async_trait]
impl BuildWatcher for Watcher {
    fn log(&self, entry: BuildLog) {
        self.0.lock().unwrap().push(entry);
    }

    async fn files(&self, files: &str) -> Result<Body, BoxError> {
        if files == "there" {
            let bytes = Bytes::from_static(b"an archive");
            return Ok(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        }
        Err("nothing was uploaded under that hash".into())
    }
}

impl Watcher {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|entry| entry.message.clone()).collect()
    }

    fn has(&self, line: &str) -> bool {
        self.lines().iter().any(|message| message == line)
    }
}

/// A registry of one image.
struct OneImage;

#[async_trait]
impl Images for OneImage {
    async fn pull(&self, order: &ImageOrder<'_>, store: &Store) -> Result<PulledImage, BoxError> {
        if order.reference != "python:3" {
            return Err(format!("there is no image {}", order.reference).into());
        }
        (order.progress)("pulling".to_owned());
        let store = store.clone();
        let tar = commands::tar(&["python".to_owned()]);
        let layer = tokio::task::spawn_blocking(move || store.add_layer(&tar[..])).await??;
        let env = BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]);
        let digest = format!("sha256:{}", "0".repeat(64));
        Ok(PulledImage {
            digest,
            layers: vec![layer.digest],
            env,
            workdir: Some("/srv".to_owned()),
        })
    }
}

/// A node with a store, a builder, and an image file `base` that has no layers.
struct World {
    driver: Arc<TestDriver>,
    node: Arc<LocalNode>,
    store: Store,
    builds: Arc<StoredBuilds>,
    builder: Arc<LocalBuilder>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let daemon = folder.path().join("guest");
        std::fs::write(&daemon, "the daemon").unwrap();
        std::fs::write(folder.path().join("base.erofs"), "an image").unwrap();
        let guest = GuestFiles { daemon };
        let bounds = StoreBounds { reserve_bytes: 0, ..StoreBounds::default() };
        let store = Store::open(&folder.path().join("store"), guest, bounds).unwrap();
        let templates = BuildDir::new(folder.path().to_owned(), "erofs".to_owned());
        let builds = Arc::new(StoredBuilds::new(store.clone(), templates));
        let driver = Arc::new(TestDriver::new(Manner::Playing));
        let node = Arc::new(node_with(Arc::clone(&driver), Arc::clone(&builds) as _));
        let config = BuilderConfig { at_once: 1, start_deadline: Duration::from_secs(1) };
        let images = Arc::new(OneImage);
        let builder = LocalBuilder::new(Arc::clone(&node), store.clone(), images, config);
        Self { driver, node, store, builds, builder: Arc::new(builder), _folder: folder }
    }

    /// Machines that were made so far.
    fn made(&self) -> usize {
        self.driver.deadlines.lock().unwrap().len()
    }

    async fn build(&self, order: BuildOrder) -> (Result<Built, BuildError>, Arc<Watcher>) {
        let watcher = Arc::new(Watcher::default());
        let built = self.builder.build(order, Arc::clone(&watcher) as _);
        let built = tokio::time::timeout(PATIENCE, built).await.expect("the build ends");
        assert_eq!(self.driver.count(), 0, "every sandbox of a build is gone when it returns");
        (built, watcher)
    }

    #[track_caller]
    fn assert_forgotten(&self, reference: &str) {
        assert!(!self.store.builds().unwrap().contains(&reference.to_owned()));
    }
}

fn order(reference: &str, kinds: Vec<StepKind>) -> BuildOrder {
    let mut sandbox = spec(0, None);
    sandbox.id = SandboxId::from_random(rand::random());
    sandbox.build = reference.to_owned();
    let config = BuildConfig::default();
    BuildOrder {
        source: BuildSource::Build { build: "base".to_owned(), config },
        steps: kinds.into_iter().map(|kind| Step { kind, force: false }).collect(),
        start: None,
        ready: None,
        force: false,
        sandbox,
    }
}

fn run(line: &str) -> StepKind {
    StepKind::Run { command: line.to_owned(), user: None }
}

fn copy(source: &str, files: &str) -> StepKind {
    StepKind::Copy {
        source: source.to_owned(),
        destination: "/app".to_owned(),
        owner: None,
        mode: None,
        files: files.to_owned(),
    }
}

#[track_caller]
fn failure(built: Result<Built, BuildError>) -> (BuildStage, String) {
    match built.unwrap_err() {
        BuildError::Failed { stage, message } => (stage, message),
        BuildError::Node(error) => unreachable!("{error:?}"),
    }
}

#[tokio::test]
async fn what_was_done_is_not_done_again_and_no_sandbox_is_made_for_it() {
    let world = World::new();
    let steps = || vec![run("touch a-1"), run("ok a-1"), run("touch b-1")];
    let (built, _log) = world.build(order("x", steps())).await;
    built.unwrap();
    assert_eq!(world.made(), 3, "the image file is read, the steps are done, the build is proved");
    let layers = world.store.build("x").unwrap().unwrap().layers;
    assert_eq!(layers.len(), 3, "the base and two steps; one changed nothing");

    let (built, log) = world.build(order("y", steps())).await;
    built.unwrap();
    assert_eq!(world.made(), 4, "the build is proved");
    assert_eq!(world.store.build("y").unwrap().unwrap().layers, layers);
    assert!(log.has("CACHED [2/3] RUN ok a-1"), "{:?}", log.lines());
    assert_eq!(commands::started("ok a-1"), 1);

    let mut changed = steps();
    changed[1] = run("ok a-2");
    let (built, log) = world.build(order("z", changed)).await;
    built.unwrap();
    let counts = ["touch a-1", "ok a-2", "touch b-1"].map(commands::started);
    assert_eq!(counts, [1, 1, 2], "what comes after a change is done again");
    assert!(log.has("CACHED [1/3] RUN touch a-1") && log.has("[3/3] RUN touch b-1"));
    assert!(world.builds.image("z").await.unwrap().is_some_and(|image| image.is_file()));
}

#[tokio::test]
async fn force_does_everything_again_or_from_a_step_on() {
    let world = World::new();
    let steps = || vec![run("touch a-3"), run("touch b-3"), run("touch c-3")];
    world.build(order("x", steps())).await.0.unwrap();
    let counts = || ["touch a-3", "touch b-3", "touch c-3"].map(commands::started);
    let mut from_second = order("x", steps());
    from_second.steps[1].force = true;
    world.build(from_second).await.0.unwrap();
    assert_eq!(counts(), [1, 2, 2]);
    world.build(BuildOrder { force: true, ..order("x", steps()) }).await.0.unwrap();
    assert_eq!(counts(), [2, 3, 3]);
    world.build(order("x", steps())).await.0.unwrap();
    assert_eq!(counts(), [2, 3, 3]);
}

#[tokio::test]
async fn what_one_project_did_is_not_found_by_another_one() {
    let world = World::new();
    let of = |number: u8| {
        let mut order = order("x", vec![run("touch a-4")]);
        let id = ProjectId::from_random([number; ProjectId::RANDOM_BYTES]);
        order.sandbox.network.project = Some(id);
        order
    };
    for (number, count) in [(1, 1), (1, 1), (2, 2)] {
        world.build(of(number)).await.0.unwrap();
        assert_eq!(commands::started("touch a-4"), count);
    }
}

#[tokio::test]
async fn steps_run_in_what_the_ones_before_left_and_the_build_keeps_the_end_of_it() {
    let world = World::new();
    let env = |pairs: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        StepKind::Env(pairs.iter().map(owned).collect())
    };
    let steps = vec![
        env(&[("A", "1")]),
        run("show one"),
        StepKind::User("app".to_owned()),
        StepKind::Workdir("data".to_owned()),
        env(&[("B", "${A}2")]),
        run("show two"),
        StepKind::Run { command: "show three".to_owned(), user: Some("root".to_owned()) },
        copy(".", "there"),
    ];
    let (built, log) = world.build(order("x", steps)).await;
    let built = built.unwrap();
    assert!(log.has("user /home/user A=1"), "{:?}", log.lines());
    assert!(log.has("app /home/user/data A=1,B=12"), "{:?}", log.lines());
    assert!(log.has("root /home/user/data A=1,B=12"), "{:?}", log.lines());
    let env = [("A", "1"), ("B", "12")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = BuildConfig {
        user: "app".to_owned(),
        workdir: "/home/user/data".to_owned(),
        env: env.into(),
        start: None,
        ready: None,
    };
    assert_eq!(built.config, config);
    assert_eq!(built.image_digest, None);
    assert!(built.size_bytes > 0);
    assert_eq!(world.store.build("x").unwrap().unwrap().config, config);
}

#[tokio::test]
async fn a_failing_step_is_told_in_the_words_of_the_wire_and_what_went_before_is_kept() {
    let world = World::new();
    let (built, log) = world.build(order("x", vec![run("touch a-5"), run("fail 5")])).await;
    let (stage, message) = failure(built);
    assert_eq!(stage, BuildStage::Step(2));
    assert_eq!(message, "failed to run command 'fail 5': exit status 3");
    let entries = log.0.lock().unwrap().clone();
    let output = entries.iter().find(|entry| entry.message == "no such port").unwrap();
    assert_eq!((output.level, output.stage), (BuildLogLevel::Warn, BuildStage::Step(2)));
    let last = entries.last().unwrap();
    assert_eq!((last.level, &last.message), (BuildLogLevel::Error, &message));
    world.assert_forgotten("x");

    let (built, log) = world.build(order("x", vec![run("touch a-5"), run("ok 5")])).await;
    built.unwrap();
    assert!(log.has("CACHED [1/2] RUN touch a-5"));
}

#[tokio::test]
async fn a_user_who_is_not_there_is_told_in_the_words_of_the_wire() {
    let world = World::new();
    let (built, _log) = world.build(order("x", vec![run("unknown user")])).await;
    let (stage, message) = failure(built);
    assert_eq!(stage, BuildStage::Step(1));
    let refused = "command failed: unauthenticated: invalid username: 'nobody1'";
    assert_eq!(message, format!("failed to run command 'unknown user': {refused}"));
}

#[tokio::test]
async fn a_step_that_cannot_be_done_is_told_in_its_own_log() {
    let world = World::new();
    let kinds = vec![run("true"), StepKind::User("1 2".to_owned())];
    let (built, log) = world.build(order("x", kinds)).await;
    let (stage, message) = failure(built);
    assert_eq!(stage, BuildStage::Step(2), "{message}");
    let last = log.0.lock().unwrap().last().unwrap().clone();
    assert_eq!((last.stage, last.level, last.message), (stage, BuildLogLevel::Error, message));
}

#[tokio::test]
async fn files_that_are_not_there_fail_their_step() {
    let world = World::new();
    let (built, _log) = world.build(order("x", vec![copy(".", "not there")])).await;
    let (stage, message) = failure(built);
    assert_eq!(stage, BuildStage::Step(1));
    assert!(message.starts_with("COPY . /app: its files are not here: nothing was"), "{message}");
    let (built, _log) = world.build(order("x", vec![copy("missing", "there")])).await;
    assert_eq!(failure(built).1, "COPY missing /app: missing is not in the archive");
    world.build(order("x", vec![copy(".", "there")])).await.0.unwrap();
}

#[tokio::test]
async fn a_build_must_start_to_be_one() {
    let world = World::new();
    let mut wants = order("x", Vec::new());
    (wants.start, wants.ready) = (Some("fail 6".to_owned()), Some("fail ready 6".to_owned()));
    let (built, _log) = world.build(wants).await;
    let (stage, message) = failure(built);
    assert_eq!(stage, BuildStage::Finalize);
    assert_eq!(message, "the start command failed: exit status 3; it wrote:\nno such port");
    world.assert_forgotten("x");
    let mut wants = order("x", Vec::new());
    (wants.start, wants.ready) = (Some("serve 16".to_owned()), Some("third 16".to_owned()));
    let config = world.build(wants).await.0.unwrap().config;
    assert_eq!(commands::started("third 16"), 3);
    assert_eq!(config.start.as_deref(), Some("serve 16"));
}

#[tokio::test]
async fn a_registrys_image_is_provisioned_once() {
    let world = World::new();
    let pulled = |reference: &str| {
        let mut order = order("x", vec![run("show 7")]);
        order.source = BuildSource::Image { reference: reference.to_owned(), login: None };
        order
    };
    let (built, log) = world.build(pulled("python:3")).await;
    let built = built.unwrap();
    assert_eq!(built.image_digest, Some(format!("sha256:{}", "0".repeat(64))));
    assert!(log.has("user /srv LANG=C.UTF-8"), "{:?}", log.lines());
    assert_eq!((built.config.user.as_str(), built.config.workdir.as_str()), ("user", "/srv"));
    assert_eq!(world.made(), 2);
    assert_eq!(world.store.build("x").unwrap().unwrap().layers.len(), 2);
    let (again, log) = world.build(pulled("python:3")).await;
    assert_eq!(again.unwrap(), built);
    assert_eq!(world.made(), 3);
    assert!(log.has("pulling") && log.has("CACHED [1/1] RUN show 7"), "{:?}", log.lines());
    let (none, _log) = world.build(pulled("none:1")).await;
    assert_eq!(failure(none), (BuildStage::Base, "there is no image none:1".to_owned()));
}

#[tokio::test]
async fn a_dropped_build_leaves_no_sandbox_and_no_build() {
    let world = World::new();
    let building = tokio::spawn({
        let builder = Arc::clone(&world.builder);
        let watcher = Arc::new(Watcher::default());
        async move { builder.build(order("x", vec![run("serve 8")]), watcher).await }
    });
    crate::front::until(|| commands::started("serve 8") > 0).await;
    assert_eq!(world.node.reap_except(&[]).await.unwrap(), []);
    assert_eq!(world.driver.count(), 1, "a build's sandbox is nobody's to reap");
    building.abort();
    crate::front::until(|| world.driver.count() == 0).await;
    world.assert_forgotten("x");
    world.build(order("x", Vec::new())).await.0.unwrap();
}

#[tokio::test]
async fn a_builds_sandbox_is_reached_by_nobody_and_reported_to_nobody() {
    let world = World::new();
    let mut serving = order("x", vec![run("serve 9")]);
    serving.sandbox.access_token = None;
    let id = serving.sandbox.id.clone();
    let building = tokio::spawn({
        let (builder, watcher) = (Arc::clone(&world.builder), Arc::new(Watcher::default()));
        async move { builder.build(serving, watcher).await }
    });
    crate::front::until(|| commands::started("serve 9") > 0).await;
    assert!(world.node.guard(&id).is_none());
    building.abort();
    crate::front::until(|| world.driver.count() == 0).await;
    // The first report is of the first sandbox that is no build's.
    world.build(order("x", Vec::new())).await.0.unwrap();
    let mut plain = spec(1, None);
    plain.build = "x".to_owned();
    world.node.create(plain.clone()).await.unwrap();
    assert_eq!(world.node.next_report().await.id, plain.id);
    world.node.kill(&plain.id).await.unwrap();
}

#[tokio::test]
async fn builds_wait_in_line_and_say_so_and_their_time_ends_there_too() {
    let world = World::new();
    let (builder, first) = (Arc::clone(&world.builder), Arc::new(Watcher::default()));
    let first =
        tokio::spawn(async move { builder.build(order("x", vec![run("serve 10")]), first).await });
    crate::front::until(|| commands::started("serve 10") > 0).await;
    let watcher = Arc::new(Watcher::default());
    let mut late = order("y", Vec::new());
    late.sandbox.deadline = system_clock()().plus(Duration::from_millis(300));
    let built = world.builder.build(late, Arc::clone(&watcher) as _).await;
    let (stage, message) = failure(built);
    assert_eq!(
        (stage, message.as_str()),
        (BuildStage::Base, "the build did not end within its 0 s")
    );
    assert!(watcher.has("waiting: 1 builds at once are made here"), "{:?}", watcher.lines());
    first.abort();
    world.builder.build(order("y", Vec::new()), watcher).await.unwrap();
}

#[tokio::test]
async fn a_sandbox_that_dies_under_a_step_says_of_what() {
    let world = World::new();
    let dying = order("x", vec![run("serve 11")]);
    let (id, memory_mib) = (dying.sandbox.id.clone(), dying.sandbox.limits.memory_mib());
    let watcher = Arc::new(Watcher::default());
    let building = tokio::spawn({
        let builder = Arc::clone(&world.builder);
        async move { builder.build(dying, watcher).await }
    });
    crate::front::until(|| commands::started("serve 11") > 0).await;
    world.driver.crash(&id, EndReason::Memory);
    let (stage, message) = failure(building.await.unwrap());
    assert_eq!(stage, BuildStage::Step(1));
    assert_eq!(
        message,
        format!(
            "failed to run command 'serve 11': the build's sandbox ran out of memory \
             ({memory_mib} MiB): give it more"
        )
    );
}

#[tokio::test]
async fn builds_that_nobody_keeps_are_forgotten() {
    let world = World::new();
    for reference in ["x", "y", "z"] {
        world.build(order(reference, Vec::new())).await.0.unwrap();
    }
    let mut removed = world.builder.remove_except(&["y".to_owned()]).await.unwrap();
    removed.sort();
    assert_eq!(removed, ["x", "z"]);
    assert_eq!(world.builds.list().await, ["base", "y"]);
    world.builder.remove("y").await.unwrap();
    world.builder.remove("y").await.unwrap();
    assert_eq!(world.builds.image("y").await.unwrap(), None::<PathBuf>);
}
