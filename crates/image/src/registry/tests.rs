//! Pulls from a registry that says what a test wants it to say.

use std::error::Error as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use courier_protocol::node::RegistryLogin;
use courier_types::egress::SecretValue;
use serde_json::{Value, json};

use self::fake::{Answer, Fake, Memory, Shape};
use super::*;
use crate::Digest;

mod fake;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const REPOSITORY: &str = "registry.test/v2/team/app";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    let digest = BlobDigest::of(bytes).to_string();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// An image, of which tests change what they want before it is served.
#[derive(Clone)]
struct Image {
    layers: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    config: Value,
    manifest: Value,
    index: Value,
}

impl Image {
    fn new(layers: &[&[u8]]) -> Self {
        let layers: Vec<Vec<u8>> = layers.iter().map(|layer| layer.to_vec()).collect();
        let sent: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| BlobDigest::of(layer).to_string()).collect();
        let host = Platform::of_host();
        let config = json!({"os": "linux", "architecture": host.architecture,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "config": {"Env": ["A=1", "B=2"], "WorkingDir": "/srv", "User": "app"}});
        let mut image = Self { layers, sent, config, manifest: Value::Null, index: Value::Null };
        image.describe();
        image
    }

    /// Makes manifest and index say what the rest is.
    fn describe(&mut self) {
        let layers: Vec<Value> = self.sent.iter().map(|layer| descriptor(LAYER, layer)).collect();
        let config = descriptor(CONFIG, self.config.to_string().as_bytes());
        self.manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
            "layers": layers});
        self.describe_manifest();
    }

    fn describe_manifest(&mut self) {
        let host = Platform::of_host();
        let mut own = descriptor(MANIFEST, self.manifest.to_string().as_bytes());
        own["platform"] = json!({"os": "linux", "architecture": host.architecture});
        let mut other = descriptor(MANIFEST, b"");
        other["platform"] = json!({"os": "linux", "architecture": "s390x"});
        let mut attestation = descriptor(MANIFEST, b"");
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        self.index = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [attestation, other, own]});
    }

    fn digest(&self) -> BlobDigest {
        BlobDigest::of(self.index.to_string().as_bytes())
    }

    /// Serves it all under the names that it has as it is now, with the index as tag `1`.
    fn serve(&self, fake: &Fake) {
        let (index, manifest) = (self.index.to_string(), self.manifest.to_string());
        let config = self.config.to_string();
        let manifest_answer = |text: &str| {
            let digest = BlobDigest::of(text.as_bytes()).to_string();
            Answer::body(text).header("docker-content-digest", &digest)
        };
        fake.answers(&manifest_at("1"), [manifest_answer(&index)]);
        fake.answers(&manifest_at(&self.digest().to_string()), [manifest_answer(&index)]);
        let own = BlobDigest::of(manifest.as_bytes()).to_string();
        fake.answers(&manifest_at(&own), [manifest_answer(&manifest)]);
        fake.answers(&blob_at(config.as_bytes()), [Answer::body(config)]);
        for layer in &self.sent {
            fake.answers(&blob_at(layer), [Answer::body(layer.clone())]);
        }
    }
}

fn manifest_at(version: &str) -> String {
    format!("{REPOSITORY}/manifests/{version}")
}

fn blob_at(bytes: &[u8]) -> String {
    format!("{REPOSITORY}/blobs/{}", BlobDigest::of(bytes))
}

fn bounds() -> PullBounds {
    PullBounds {
        pause: Duration::from_millis(1),
        pause_max: Duration::from_millis(2),
        tries: 3,
        ..PullBounds::default()
    }
}

/// What a pull of `registry.test/team/app:1` ends with.
struct Outcome {
    pulled: Result<Pulled, PullError>,
    memory: Arc<Memory>,
    told: Vec<Progress>,
}

async fn pull(fake: &Fake) -> Outcome {
    pull_with(fake, "registry.test/team/app:1", None, bounds()).await
}

async fn pull_with(
    fake: &Fake,
    reference: &str,
    login: Option<&RegistryLogin>,
    bounds: PullBounds,
) -> Outcome {
    let memory = Arc::new(Memory::default());
    let registries = fake.registries(RegistrySettings::default(), bounds);
    pull_into(&registries, reference, login, memory).await
}

async fn pull_into(
    registries: &Registries,
    reference: &str,
    login: Option<&RegistryLogin>,
    memory: Arc<Memory>,
) -> Outcome {
    let told = Mutex::new(Vec::new());
    let progress = |what: Progress| told.lock().unwrap().push(what);
    let reference = reference.parse().unwrap();
    let order = PullOrder { reference: &reference, login, progress: &progress };
    let pulled = registries.pull(&order, Arc::<Memory>::clone(&memory)).await;
    Outcome { pulled, memory, told: told.into_inner().unwrap() }
}

fn login() -> RegistryLogin {
    RegistryLogin { user: "user".to_owned(), password: SecretValue::new(b"canary".to_vec()) }
}

/// The messages of an error and of what caused it.
fn chain(error: &PullError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Outcome {
    #[track_caller]
    fn failed(&self) -> String {
        assert_eq!(self.memory.kept(), 0, "nothing is kept");
        let error = chain(self.pulled.as_ref().unwrap_err());
        assert!(!error.contains("canary"), "{error}");
        error
    }
}

#[tokio::test]
async fn an_image_is_pulled_layer_by_layer_and_the_second_time_not_at_all() {
    let fake = Fake::start().await;
    let mut image = Image::new(&[b"lowest", b"middle", b"upper", b"lowest"]);
    // One that is not compressed.
    image.sent[1] = image.layers[1].clone();
    image.describe();
    image.serve(&fake);
    let outcome = pull(&fake).await;
    let pulled = outcome.pulled.unwrap();
    let layers: Vec<Digest> = image.layers.iter().map(|layer| Digest::of(layer)).collect();
    assert_eq!(pulled.layers, layers);
    assert_eq!(pulled.digest, image.digest());
    let name = format!("registry.test/team/app:1@{}", image.digest());
    assert_eq!(pulled.reference.to_string(), name);
    let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
    assert_eq!(pulled.env, env);
    assert_eq!((pulled.workdir.as_deref(), pulled.user.as_deref()), (Some("/srv"), Some("app")));
    assert!(matches!(outcome.told[0], Progress::Resolved { layers: 4, .. }));
    let registries = fake.registries(RegistrySettings::default(), bounds());
    let before = fake.asked().len();
    let again = pull_into(&registries, &name, None, outcome.memory).await;
    assert_eq!(again.pulled.unwrap().layers, layers);
    let asked = fake.asked().split_off(before);
    let blobs = asked.iter().filter(|asked| asked.target.contains("/blobs/")).count();
    assert_eq!(blobs, 1, "only the configuration: {asked:?}");
    let kept = again.told.iter().filter(|told| matches!(told, Progress::Kept { .. })).count();
    assert_eq!(kept, 4);
}

/// A lie: its name, how the registry tells it, about what, and what the error says.
type LieCase = (&'static str, fn(&mut Image, &Fake), Item, &'static str);

const LAYER_2: Item = Item::Layer { number: 2, of: 2 };

const LIES: &[LieCase] = &[
    (
        "other bytes than the pinned index",
        |image, fake| {
            let at = manifest_at(&image.digest().to_string());
            fake.answers(&at, [Answer::body(image.manifest.to_string())]);
        },
        Item::Manifest,
        "it sent bytes with the digest",
    ),
    (
        "a header that says another digest than the bytes have",
        |image, fake| {
            let said = BlobDigest::of(b"other").to_string();
            let answer = Answer::body(image.index.to_string());
            let at = manifest_at(&image.digest().to_string());
            fake.answers(&at, [answer.header("docker-content-digest", &said)]);
        },
        Item::Manifest,
        "its Docker-Content-Digest says",
    ),
    (
        "another manifest than the index names",
        |image, fake| {
            let own = BlobDigest::of(image.manifest.to_string().as_bytes());
            fake.answers(&manifest_at(&own.to_string()), [Answer::body("{}")]);
        },
        Item::Manifest,
        "it sent bytes with the digest",
    ),
    (
        "another size of the manifest",
        |image, fake| {
            image.index["manifests"][2]["size"] = json!(1);
            image.serve(fake);
        },
        Item::Manifest,
        "the manifest says 1 bytes",
    ),
    (
        "another configuration",
        |image, fake| {
            let at = blob_at(image.config.to_string().as_bytes());
            fake.answers(&at, [Answer::body("{}")]);
        },
        Item::Config,
        "it sent bytes with the digest",
    ),
    (
        "a configuration with fewer layers",
        |image, fake| {
            image.config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
            image.describe();
            image.serve(fake);
        },
        Item::Config,
        "the manifest has 2 layers, the configuration 1",
    ),
    (
        "another layer of the same size",
        |image, fake| {
            let mut other = image.sent[1].clone();
            other[9] ^= 1;
            fake.answers(&blob_at(&image.sent[1]), [Answer::body(other)]);
        },
        LAYER_2,
        "it sent bytes with the digest",
    ),
    (
        "a layer that goes on behind its end",
        |image, fake| {
            let mut longer = image.sent[1].clone();
            longer.extend_from_slice(b"more");
            let answer = Answer::body(longer).shape(Shape::NoLength);
            fake.answers(&blob_at(&image.sent[1]), [answer]);
        },
        LAYER_2,
        "it sent at least",
    ),
    (
        "a layer that announces another length",
        |image, fake| {
            fake.answers(&blob_at(&image.sent[1]), [Answer::body("short")]);
        },
        LAYER_2,
        "it sent 5",
    ),
    (
        "a layer that ends early as if that were its end",
        |image, fake| {
            let answer = Answer::body("short").shape(Shape::NoLength);
            fake.answers(&blob_at(&image.sent[1]), [answer]);
        },
        LAYER_2,
        "it sent 5",
    ),
    (
        "a layer that unpacks to something else",
        |image, fake| {
            image.sent[1] = gzip(b"something else");
            image.describe();
            image.serve(fake);
        },
        LAYER_2,
        "it unpacks to",
    ),
];

#[tokio::test]
async fn a_registry_that_lies_is_told_its_lie_and_nothing_of_it_is_kept() {
    for (name, tell, about, says) in LIES {
        let fake = Fake::start().await;
        let mut image = Image::new(&[b"lower", b"upper"]);
        image.serve(&fake);
        tell(&mut image, &fake);
        // The lower layer is true, and may be kept or not: here it is there before.
        let memory = Arc::new(Memory::default());
        memory.add(&BlobDigest::of(b"lower"), &mut &b"lower"[..]).unwrap();
        let reference = format!("registry.test/team/app@{}", image.digest());
        let registries = fake.registries(RegistrySettings::default(), bounds());
        let outcome = pull_into(&registries, &reference, None, memory).await;
        let error = outcome.pulled.unwrap_err();
        let PullError::Lie { item, registry, .. } = &error else { panic!("{name}: {error:?}") };
        assert_eq!((item, registry.as_str()), (about, "registry.test"), "{name}");
        assert!(chain(&error).contains(says), "{name}: {}", chain(&error));
        assert_eq!(outcome.memory.kept(), 1, "{name}");
    }
}

#[tokio::test]
async fn an_image_for_other_machines_is_refused_with_what_there_is() {
    let host = Platform::of_host();
    let fake = Fake::start().await;
    let mut image = Image::new(&[b"layer"]);
    image.index["manifests"].as_array_mut().unwrap().pop();
    image.serve(&fake);
    let error = pull(&fake).await.failed();
    let expected = format!("another architecture: this node is {host}, it has linux/s390x");
    assert!(error.contains(&expected), "{error}");
    // Without an index, the configuration tells; and also where the index says something else.
    let mut image = Image::new(&[b"layer"]);
    image.config["architecture"] = json!("s390x");
    image.describe();
    image.serve(&fake);
    assert!(pull(&fake).await.failed().contains(&expected));
    fake.answers(&manifest_at("1"), [Answer::body(image.manifest.to_string())]);
    assert!(pull(&fake).await.failed().contains(&expected));
}

#[tokio::test]
async fn what_is_no_usable_image_is_refused() {
    let fake = Fake::start().await;
    let mut image = Image::new(&[b"layer"]);
    image.manifest = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
    image.describe_manifest();
    image.serve(&fake);
    assert!(pull(&fake).await.failed().contains("leads to another index"));
    let error = pull_with(&fake, "registry.test/team/none:1", None, bounds()).await.failed();
    assert_eq!(error, "there is no image registry.test/team/none:1");
    let mut image = Image::new(&[b"layer"]);
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    image.manifest["layers"][0]["mediaType"] = json!(foreign);
    image.describe_manifest();
    image.serve(&fake);
    let error = pull(&fake).await.failed();
    assert!(error.contains("layer 1 cannot be had") && error.contains(foreign), "{error}");
    // What is no archive at all is the layer's fault, not the registry's.
    let broken = [&gzip(b"layer")[..8], b"no gzip at all"].concat();
    let mut image = Image::new(&[b"layer"]);
    image.sent[0] = broken;
    image.describe();
    image.serve(&fake);
    assert!(pull(&fake).await.failed().contains("layer 1 of 1"));
}

#[tokio::test]
async fn a_login_is_sent_when_asked_for_and_where_it_belongs() {
    let fake = Fake::start().await;
    let image = Image::new(&[b"layer"]);
    image.serve(&fake);
    // The layer's bytes are elsewhere, as with most registries.
    let to = Answer::status(307).header("location", "https://other.test/bytes?signed=1");
    fake.answers(&blob_at(&image.sent[0]), [to]);
    fake.answers("other.test/bytes?signed=1", [Answer::body(image.sent[0].clone())]);
    let basic = "Basic dXNlcjpjYW5hcnk=";
    fake.lock("registry.test", basic, "Basic realm=\"registry\"");
    let name = "registry.test/team/app:1";
    pull_with(&fake, name, Some(&login()), bounds()).await.pulled.unwrap();
    let other = |fake: &Fake| fake.asked().into_iter().filter(|asked| asked.host == "other.test");
    assert!(other(&fake).all(|asked| asked.authorization.is_none()));
    assert!(pull(&fake).await.failed().contains("wants a login"));
    fake.lock("registry.test", "Basic other", "Basic realm=\"registry\"");
    let error = pull_with(&fake, name, Some(&login()), bounds()).await.failed();
    assert!(error.contains("does not take the login"), "{error}");

    // With a token: the login goes to the token service only, the token to the registry only.
    let realm = "Bearer realm=\"https://other.test/token\",service=\"s\",scope=\"repository:x:*\"";
    fake.lock("registry.test", "Bearer canary-token", realm);
    let token = "other.test/token?service=s&scope=repository%3Ateam%2Fapp%3Apull";
    fake.answers(token, [Answer::body(r#"{"token":"canary-token"}"#)]);
    let before = fake.asked().len();
    pull_with(&fake, name, Some(&login()), bounds()).await.pulled.unwrap();
    let asked = fake.asked().split_off(before);
    let tokens = || asked.iter().filter(|asked| asked.target.starts_with("/token"));
    assert_eq!(tokens().count(), 1);
    assert!(tokens().all(|asked| asked.authorization.as_deref() == Some(basic)));
    let registry = || asked.iter().filter(|asked| asked.host == "registry.test");
    assert!(registry().all(|asked| asked.authorization.as_deref() != Some(basic)));
    let bytes = asked.iter().find(|asked| asked.target.starts_with("/bytes")).unwrap();
    assert_eq!(bytes.authorization, None);
    // Without a login, the same.
    pull(&fake).await.pulled.unwrap();
    fake.answers(token, [Answer::status(401)]);
    assert!(pull(&fake).await.failed().contains("wants a login"));
    fake.answers(token, [Answer::body("{}")]);
    assert!(pull(&fake).await.failed().contains("gives no token"));
}

#[tokio::test]
async fn nothing_leads_out_of_reach_and_every_connection_is_asked_about() {
    let places = [
        ("https://169.254.169.254/latest", "169.254.169.254 is out of reach"),
        ("https://0xa9fea9fe/latest", "169.254.169.254 is out of reach"),
        ("https://metadata.internal/", "metadata.internal is out of reach"),
        ("https://[::1]/", "an address that is not followed"),
        ("https://user:pass@other.test/", "an address that is not followed"),
        ("http://other.test/", "what is not followed"),
        ("http://registry.test/", "what is not followed"),
        ("file:///etc/passwd", "what is not followed"),
        ("/v2/team/app/again", "redirects too often"),
    ];
    for (to, says) in places {
        let fake = Fake::start().await;
        let image = Image::new(&[b"layer"]);
        image.serve(&fake);
        let redirect = Answer::status(302).header("location", to);
        fake.answers(&blob_at(&image.sent[0]), [redirect.clone()]);
        fake.answers(&format!("{REPOSITORY}/again"), [redirect]);
        let error = pull(&fake).await.failed();
        assert!(error.contains(says), "{to}: {error}");
        let fake = Fake::start().await;
        fake.lock("registry.test", "none", &format!("Bearer realm=\"{to}\""));
        let error = pull_with(&fake, "registry.test/a:1", Some(&login()), bounds()).await.failed();
        let refused = ["out of reach", "not followed", "must not be asked"];
        assert!(refused.iter().any(|says| error.contains(says)), "{to}: {error}");
    }
    let fake = Fake::start().await;
    let error = pull_with(&fake, "10.0.0.1:5000/a:1", None, bounds()).await.failed();
    assert!(error.contains("10.0.0.1 is out of reach"), "{error}");
    // By a caller's word only, and once: no retry makes it reachable.
    assert_eq!(fake.dialled(), [("10.0.0.1:5000".to_owned(), Standing::Caller)]);
}

#[tokio::test]
async fn a_registry_of_the_operators_may_have_no_tls_and_its_redirects_have_no_more_reach() {
    let fake = Fake::start().await;
    let image = Image::new(&[b"layer"]);
    image.serve(&fake);
    let known = "registry.test,insecure".parse().unwrap();
    let known = || RegistrySettings { known: vec![Clone::clone(&known)], ..Default::default() };
    let registries = fake.registries(known(), bounds());
    let name = "registry.test/team/app:1";
    pull_into(&registries, name, None, Arc::default()).await.pulled.unwrap();
    let dialled = fake.dialled();
    let own = ("registry.test:80".to_owned(), Standing::Operator);
    assert!(dialled.iter().all(|dialled| *dialled == own), "{dialled:?}");
    let to = Answer::status(302).header("location", "https://other.test/bytes");
    fake.answers(&blob_at(&image.sent[0]), [to]);
    fake.answers("other.test/bytes", [Answer::body(image.sent[0].clone())]);
    pull_into(&registries, name, None, Arc::default()).await.pulled.unwrap();
    let other = ("other.test:443".to_owned(), Standing::Caller);
    assert_eq!(fake.dialled().last(), Some(&other));
}

#[tokio::test]
async fn failures_that_pass_are_tried_again_and_no_more_often_than_bounded() {
    let fake = Fake::start().await;
    let image = Image::new(&[b"layer"]);
    image.serve(&fake);
    let busy = || Answer::status(429).header("retry-after", "1");
    let index = Answer::body(image.index.to_string());
    fake.answers(&manifest_at("1"), [Answer::status(503), busy(), index]);
    let layer = Answer::body(image.sent[0].clone());
    let cut = layer.clone().shape(Shape::Cut(5));
    fake.answers(&blob_at(&image.sent[0]), [cut.clone(), Answer::status(500), layer]);
    let outcome = pull(&fake).await;
    outcome.pulled.unwrap();
    assert_eq!(outcome.memory.content(&BlobDigest::of(b"layer")).unwrap(), b"layer");
    fake.answers(&blob_at(&image.sent[0]), [cut]);
    let before = fake.asked().len();
    assert!(pull(&fake).await.failed().contains("layer 1 of 1"));
    let asked = fake.asked().split_off(before);
    let tries = asked.iter().filter(|asked| asked.target.ends_with(&blob_at(&image.sent[0])[13..]));
    assert_eq!(tries.count(), 3);
    fake.answers(&manifest_at("1"), [busy()]);
    let before = fake.asked().len();
    assert!(pull(&fake).await.failed().contains("it answers 429"));
    assert_eq!(fake.asked().len() - before, 3);
}

#[tokio::test]
async fn what_is_too_large_is_not_read_to_its_end() {
    let fake = Fake::start().await;
    let image = Image::new(&[b"lower", &[0; 4096]]);
    image.serve(&fake);
    let name = "registry.test/team/app:1";
    let manifest = PullBounds { manifest_bytes: 64, ..bounds() };
    assert!(pull_with(&fake, name, None, manifest).await.failed().contains("more than 64 bytes"));
    let config = PullBounds { config_bytes: 64, ..bounds() };
    assert!(pull_with(&fake, name, None, config).await.failed().contains("more than 64 bytes"));
    let layers = PullBounds { layers: 1, ..bounds() };
    assert!(pull_with(&fake, name, None, layers).await.failed().contains("2 layers: at most 1"));
    let sent = PullBounds { sent_bytes: 32, ..bounds() };
    let error = pull_with(&fake, name, None, sent).await.failed();
    assert!(error.contains("more than 32 bytes as they are sent"), "{error}");
    let unpacked = PullBounds { unpacked_bytes: 4096, ..bounds() };
    let error = pull_with(&fake, name, None, unpacked).await.pulled.unwrap_err().to_string();
    assert!(error.contains("more than 4096 bytes unpacked"), "{error}");
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_given_up() {
    let fake = Fake::start().await;
    let image = Image::new(&[b"layer"]);
    image.serve(&fake);
    let name = "registry.test/team/app:1";
    let quiet = PullBounds { quiet: Duration::from_millis(200), tries: 1, ..bounds() };
    let silent = Answer::body(image.sent[0].clone()).shape(Shape::Stall(5));
    fake.answers(&blob_at(&image.sent[0]), [silent.clone()]);
    let error = pull_with(&fake, name, None, quiet.clone()).await.failed();
    assert!(error.contains("nothing came for"), "{error}");
    let slow = PullBounds { layer: Duration::from_millis(200), ..bounds() };
    assert!(pull_with(&fake, name, None, slow).await.failed().contains("took longer than"));
    let index = Answer::body(image.index.to_string()).shape(Shape::Stall(5));
    fake.answers(&manifest_at("1"), [index]);
    let slow = PullBounds { document: Duration::from_millis(200), ..bounds() };
    assert!(pull_with(&fake, name, None, slow).await.failed().contains("took longer than"));
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_nothing_behind() {
    let fake = Fake::start().await;
    let image = Image::new(&[b"layer"]);
    image.serve(&fake);
    // Behind the head of gzip (10 bytes), so that there is something to read.
    let silent = Answer::body(image.sent[0].clone()).shape(Shape::Stall(12));
    fake.answers(&blob_at(&image.sent[0]), [silent]);
    let memory = Arc::new(Memory::default());
    let into = Arc::clone(&memory);
    let registries = fake.registries(RegistrySettings::default(), bounds());
    let pulling = tokio::spawn(async move {
        pull_into(&registries, "registry.test/team/app:1", None, into).await.pulled.is_ok()
    });
    memory.begins().await;
    pulling.abort();
    assert!(pulling.await.unwrap_err().is_cancelled());
    memory.fails().await;
    assert_eq!(memory.kept(), 0);
}
