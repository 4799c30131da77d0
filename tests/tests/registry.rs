//! Pulls from a real registry, of images that a real tool pushed, into a real store.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking, and what JSON does not have is null"
)]

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use courier_image::registry::{
    Dial, DialError, Endpoint, Host, Layers, Platform, Progress, PullBounds, PullError, PullOrder,
    Pulled, Registries, RegistrySettings, Standing, StoreLayers, Stream,
};
use courier_image::{Digest, GuestFiles, Store, StoreBounds};
use courier_protocol::node::RegistryLogin;
use courier_tests::environment::Environment;
use courier_tests::http::Request;
use courier_tests::registry::{Doors, Layout, PASSWORD, Registry, USER, busybox_root, tar};
use courier_tests::{suite, tests};
use courier_types::egress::SecretValue;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Dials addresses on the operator's word, as the server's own guard does, and nothing else.
#[derive(Debug)]
struct OperatorsOnly;

#[async_trait]
impl Dial for OperatorsOnly {
    async fn connect(
        &self,
        to: &Endpoint,
        standing: Standing,
    ) -> Result<Box<dyn Stream>, DialError> {
        let refused = || DialError::OutOfReach(format!("{to} is out of reach"));
        let Host::Address(address) = to.host else { return Err(refused()) };
        if standing != Standing::Operator {
            return Err(refused());
        }
        let failed = |source| DialError::Failed { what: "no answer", source: Box::new(source) };
        let stream = TcpStream::connect((address, to.port)).await;
        Ok(Box::new(stream.map_err(|error: std::io::Error| failed(error))?))
    }
}

/// Two registries with the same images, and those images.
struct World {
    environment: Environment,
    runtime: Runtime,
    open: Registry,
    locked: Registry,
    layout: Layout,
    layers: Vec<Vec<u8>>,
    _folders: [TempDir; 2],
}

/// An architecture that no machine of these tests has.
const FOREIGN: &str = "s390x";

fn run() -> Value {
    json!({"Env": ["PATH=/bin", "GREETING=hello"], "WorkingDir": "/root", "User": "nobody"})
}

impl World {
    fn make(environment: Environment) -> Self {
        let folders = [environment.folder(), environment.folder()];
        let open = Registry::start(folders[0].path(), Doors::Open);
        let locked = Registry::start(folders[1].path(), Doors::Locked);
        let layers = layers(&environment);
        let mut layout = Layout::new(environment.folder());
        let host = Platform::of_host();
        let own = layout.image(&host.architecture, &layers, &run());
        let other = layout.image(FOREIGN, &layers[..1], &run());
        let both = layout.index(&[other.clone(), own.clone()]);
        layout.tag("one", own);
        layout.tag("foreign", other);
        layout.tag("both", both);
        for registry in [&open, &locked] {
            registry.push(&layout, "one", "busy/box:one", &[]);
        }
        open.push(&layout, "both", "busy/box:both", &[]);
        open.push(&layout, "foreign", "busy/box:foreign", &[]);
        let runtime = Runtime::new().expect("a runtime can be made");
        Self { environment, runtime, open, locked, layout, layers, _folders: folders }
    }
}

/// A small root folder, and one layer on top of it that changes and removes something.
fn layers(environment: &Environment) -> Vec<Vec<u8>> {
    let (lower, upper) = (environment.folder(), environment.folder());
    busybox_root(lower.path());
    std::fs::write(lower.path().join("etc/removed"), "x").expect("a file can be written");
    std::fs::create_dir(upper.path().join("etc")).expect("a folder can be made");
    std::fs::write(upper.path().join("etc/motd"), "hello\n").expect("a file can be written");
    std::fs::write(upper.path().join("etc/.wh.removed"), "").expect("a file can be written");
    vec![tar(lower.path()), tar(upper.path())]
}

/// A store of one test's own.
struct Home {
    store: Store,
    _folder: TempDir,
}

impl Home {
    fn new(world: &World) -> Self {
        let folder = world.environment.folder();
        let guest = GuestFiles { daemon: world.environment.binary("courier-guest") };
        let store = Store::open(folder.path(), guest, StoreBounds::default());
        Self { store: store.expect("a store can be opened"), _folder: folder }
    }

    /// What the store makes of the very tars that the image was made of.
    fn expected(&self, world: &World) -> Vec<Digest> {
        let add = |tar: &Vec<u8>| self.store.add_layer(&tar[..]).expect("it is a layer").digest;
        world.layers.iter().map(add).collect()
    }
}

/// What a store makes of the lower layer, without any store of a test having it.
fn lower(world: &World) -> Digest {
    let home = Home::new(world);
    home.expected(world)[0]
}

/// How a pull ended, and what it told.
struct Outcome {
    pulled: Result<Pulled, PullError>,
    told: Vec<Progress>,
}

impl Outcome {
    #[track_caller]
    fn image(self) -> Pulled {
        self.pulled.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    #[track_caller]
    fn failed(self) -> String {
        chain(&self.pulled.expect_err("nothing is pulled"))
    }

    fn kept(&self) -> usize {
        self.told.iter().filter(|told| matches!(told, Progress::Kept { .. })).count()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn pull(world: &World, home: &Home, reference: &str, login: Option<&RegistryLogin>) -> Outcome {
    let layers = StoreLayers::new(home.store.clone(), "project");
    pull_from(world, &[&world.open, &world.locked], layers, (reference, login))
}

/// Pulls into a store, where the operator has named these registries.
fn pull_from(
    world: &World,
    named: &[&Registry],
    layers: StoreLayers,
    (reference, login): (&str, Option<&RegistryLogin>),
) -> Outcome {
    let known = named.iter().map(|registry| {
        format!("{},insecure", registry.address).parse().expect("an address is a registry")
    });
    let settings = RegistrySettings { known: known.collect(), ..RegistrySettings::default() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let registries =
        Registries::new(settings, Arc::new(OperatorsOnly), Arc::new(tls), PullBounds::default());
    let told = Mutex::new(Vec::new());
    let progress = |what| told.lock().expect("nobody panics with it").push(what);
    let reference = reference.parse().expect("it is a reference");
    let order = PullOrder { reference: &reference, login, progress: &progress };
    let layers: Arc<dyn Layers> = Arc::new(layers);
    let pulled = world.runtime.block_on(registries.pull(&order, layers));
    Outcome { pulled, told: told.into_inner().expect("nobody panics with it") }
}

/// What the registry itself says of an image.
#[track_caller]
fn manifest(registry: &Registry, repository: &str, tag: &str) -> Value {
    let accept = "application/vnd.oci.image.manifest.v1+json, \
                  application/vnd.docker.distribution.manifest.v2+json";
    let asked = Request::new("GET", &format!("/v2/{repository}/manifests/{tag}"));
    asked.header("Accept", accept).send(registry.address).assert_status(200).json()
}

fn login(password: &str) -> RegistryLogin {
    let password = SecretValue::new(password.as_bytes().to_vec());
    RegistryLogin { user: USER.to_owned(), password }
}

fn an_image_is_pulled_as_it_was_made_and_the_second_time_nothing_is(world: &World) {
    let home = Home::new(world);
    let name = world.open.reference("busy/box:one");
    let image = pull(world, &home, &name, None).image();
    assert_eq!(image.env[1], ("GREETING".to_owned(), "hello".to_owned()));
    assert_eq!((image.workdir.as_deref(), image.user.as_deref()), (Some("/root"), Some("nobody")));
    assert!(home.store.has_layer(&image.layers[0]).expect("the store can be read"));
    assert_eq!(image.layers, home.expected(world));
    let again = pull(world, &home, &image.reference.to_string(), None);
    assert_eq!(again.kept(), 2);
    assert_eq!(again.image(), image);
    let other = StoreLayers::new(home.store.clone(), "another project");
    let other = pull_from(world, &[&world.open], other, (&name, None));
    assert_eq!(other.kept(), 0, "what one project pulled is not known to another");
    assert_eq!(other.image().layers, image.layers);
}

fn every_form_of_an_image_gives_the_same_layers(world: &World) {
    let home = Home::new(world);
    let expected = home.expected(world);
    let docker = ["--format=v2s2"];
    let zstd = ["--format=oci", "--dest-compress", "--dest-compress-format=zstd"];
    let forms: [(&str, &[&str], &str); 2] = [
        ("docker", &docker, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        ("zstd", &zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
    ];
    for (tag, arguments, media_type) in forms {
        // A registry of its own: what is in one already is not compressed anew.
        let folder = world.environment.folder();
        let registry = Registry::start(folder.path(), Doors::Open);
        let name = format!("busy/box:{tag}");
        registry.push(&world.layout, "one", &name, arguments);
        let pushed = manifest(&registry, "busy/box", tag);
        assert_eq!(pushed["layers"][0]["mediaType"], media_type);
        // A store of its own: what is in one already is not pulled.
        let home = Home::new(world);
        let layers = StoreLayers::new(home.store.clone(), "project");
        let image = pull_from(world, &[&registry], layers, (&registry.reference(&name), None));
        assert_eq!(image.image().layers, expected, "{tag}");
    }
    let home = Home::new(world);
    let index = pull(world, &home, &world.open.reference("busy/box:both"), None).image();
    assert_eq!(index.layers, expected);
}

fn a_digest_stays_when_its_tag_has_moved(world: &World) {
    let home = Home::new(world);
    let name = world.open.reference("busy/moved:tag");
    world.open.push(&world.layout, "one", "busy/moved:tag", &[]);
    let before = pull(world, &home, &name, None).image();
    world.open.push(&world.layout, "both", "busy/moved:tag", &[]);
    let after = pull(world, &home, &name, None).image();
    assert_ne!(before.digest, after.digest);
    let pinned = pull(world, &home, &before.reference.to_string(), None).image();
    assert_eq!(pinned.digest, before.digest);
}

fn an_image_for_another_architecture_is_refused(world: &World) {
    let home = Home::new(world);
    let error = pull(world, &home, &world.open.reference("busy/box:foreign"), None).failed();
    let expected = format!(
        "another architecture: this node is {}, it has linux/{FOREIGN}",
        Platform::of_host()
    );
    assert!(error.contains(&expected), "{error}");
    let error = pull(world, &home, &world.open.reference("busy/none:tag"), None).failed();
    assert!(error.contains("there is no image"), "{error}");
}

fn a_locked_registry_wants_its_login(world: &World) {
    let home = Home::new(world);
    let name = world.locked.reference("busy/box:one");
    let error = pull(world, &home, &name, None).failed();
    assert!(error.contains("wants a login"), "{error}");
    let error = pull(world, &home, &name, Some(&login("another password"))).failed();
    assert!(error.contains("does not take the login") && !error.contains("another"), "{error}");
    let image = pull(world, &home, &name, Some(&login(PASSWORD))).image();
    assert_eq!(image.layers, home.expected(world));
}

fn a_registry_whose_disk_lies_is_caught_and_nothing_is_kept(world: &World) {
    let folder = world.environment.folder();
    let registry = Registry::start(folder.path(), Doors::Open);
    registry.push(&world.layout, "one", "busy/box:one", &["--format=oci"]);
    let manifest = manifest(&registry, "busy/box", "one");
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let file = registry.blob(&layer);
    let mut bytes = std::fs::read(&file).expect("the registry has it there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).expect("a file can be written");
    let home = Home::new(world);
    let layers = StoreLayers::new(home.store.clone(), "project");
    let name = registry.reference("busy/box:one");
    let error = pull_from(world, &[&registry], layers, (&name, None)).failed();
    assert!(error.contains("lies about layer 1 of 2"), "{error}");
    assert!(error.contains(&format!("asked for {layer}")), "{error}");
    let lower = lower(world);
    assert!(!home.store.has_layer(&lower).expect("the store can be read"), "it is not kept");
}

fn a_registry_that_nobody_named_is_not_even_asked(world: &World) {
    let folder = world.environment.folder();
    let registry = Registry::start(folder.path(), Doors::Open);
    let home = Home::new(world);
    let error = pull(world, &home, &registry.reference("busy/box:one"), None).failed();
    assert!(error.contains("out of reach"), "{error}");
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            an_image_is_pulled_as_it_was_made_and_the_second_time_nothing_is,
            every_form_of_an_image_gives_the_same_layers,
            a_digest_stays_when_its_tag_has_moved,
            an_image_for_another_architecture_is_refused,
            a_locked_registry_wants_its_login,
            a_registry_whose_disk_lies_is_caught_and_nothing_is_kept,
            a_registry_that_nobody_named_is_not_even_asked,
        ],
    )
}
