//! A server over a fake node and a database in a folder of its own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use courier_protocol::node::{SharedBuilder, SharedNode};
use courier_server::{
    Config, Parts, Server, StoredSecrets, Vault, ensure_default_project, issue_api_key,
};
use courier_store::{NewTemplate, ProjectRow, Store};
use courier_types::{BuildConfig, BuildId, Limits, ProjectId, TemplateId, Timestamp};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::fake_builder::FakeBuilder;
use crate::fake_node::FakeNode;
use crate::fake_parts::{FakePresets, FakeTunnels};

/// Longest wait for a condition.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct World {
    folder: TempDir,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) builder: Arc<FakeBuilder>,
    pub(crate) store: Store,
    pub(crate) server: Server,
    pub(crate) key: String,
    pub(crate) tunnels: FakeTunnels,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// An error with our body, whose message has that part.
    #[track_caller]
    pub(crate) fn error(self, status: u16, part: &str) -> Self {
        let answer = self.ok(status);
        let body = answer.json();
        assert_eq!(body["code"], u64::from(status));
        let message = body["message"].as_str().expect("a message");
        assert!(message.contains(part), "no {part:?} in {message:?}");
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

pub(crate) fn config() -> Config {
    Config {
        sandboxes_max: 5,
        create_timeout: Duration::from_secs(5),
        timeout_max: Duration::from_hours(1),
        ..Config::default()
    }
}

async fn start(
    config: Config,
    folder: &TempDir,
    store: &Store,
    (node, builder, tunnels): (&Arc<FakeNode>, &Arc<FakeBuilder>, &FakeTunnels),
) -> Server {
    let vault = Vault::open(&folder.path().join("vault.key"), store).await.unwrap();
    let parts = Parts {
        store: store.clone(),
        node: Arc::clone(node) as SharedNode,
        builder: Arc::clone(builder) as SharedBuilder,
        vault,
        presets: Arc::new(FakePresets),
        tunnels: Arc::new(tunnels.clone()),
        uploads: folder.path().join("uploads"),
    };
    Server::start(config, parts).await.unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("courier.db")).await.unwrap();
        let project = ensure_default_project(&store).await.unwrap();
        let (_row, key) = issue_api_key(&store, &project, "test").await.unwrap();
        let template = NewTemplate {
            id: TemplateId::from_random([1; 20]),
            project_id: None,
            names: vec!["base".to_owned(), "code-interpreter-v1".to_owned()],
            build: "base-1".to_owned(),
            build_id: BuildId::from_random([1; 16]),
            config: BuildConfig::default(),
            limits: Limits::default(),
            egress: None,
        };
        store.register_template(&template, Timestamp::from_micros(1)).await.unwrap();
        let node = Arc::new(FakeNode::new());
        let tunnels = FakeTunnels::default();
        let builder = Arc::new(FakeBuilder::new());
        let server = start(config, &folder, &store, (&node, &builder, &tunnels)).await;
        Self { folder, node, builder, store, server, key: key.expose().to_owned(), tunnels }
    }

    /// The server goes without a word, as after SIGKILL, and another one starts over the same
    /// database and node.
    pub(crate) async fn crash_and_restart(self) -> Self {
        let Self { folder, node, builder, store, server, key, tunnels } = self;
        drop(server);
        store.close().await;
        let store = Store::open(&folder.path().join("courier.db")).await.unwrap();
        let server = start(config(), &folder, &store, (&node, &builder, &tunnels)).await;
        Self { folder, node, builder, store, server, key, tunnels }
    }

    /// The server's word on secrets, as the node asks for it.
    pub(crate) async fn secrets(&self) -> StoredSecrets {
        let vault = Vault::open(&self.folder.path().join("vault.key"), &self.store).await.unwrap();
        StoredSecrets::new(self.store.clone(), vault, Arc::new(FakePresets))
    }

    pub(crate) fn key_file(&self) -> std::path::PathBuf {
        self.folder.path().join("vault.key")
    }

    /// Bytes of all files of the database.
    pub(crate) fn database(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("courier.db") {
                bytes.extend(std::fs::read(path).unwrap());
            }
        }
        bytes
    }

    /// Template `bounded`, whose sandboxes may reach only what the policy says.
    pub(crate) async fn bounded(&self, policy: Value) {
        let template = NewTemplate {
            id: TemplateId::from_random([2; 20]),
            project_id: None,
            names: vec!["bounded".to_owned()],
            build: "base-1".to_owned(),
            build_id: BuildId::from_random([2; 16]),
            config: BuildConfig::default(),
            limits: Limits::default(),
            egress: Some(serde_json::from_value(policy).unwrap()),
        };
        self.store.register_template(&template, Timestamp::from_micros(2)).await.unwrap();
    }

    /// Makes a sandbox over E2B's API of that body; its id.
    pub(crate) async fn made(&self, body: Value) -> String {
        let answer = self.post("/v2/sandboxes", body).await.ok(201).json();
        answer["sandboxID"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, Some(&body)).await
    }

    /// A key of another project.
    pub(crate) async fn foreign_key(&self) -> String {
        let project = ProjectRow {
            id: ProjectId::from_random([9; 20]),
            slug: "other".to_owned(),
            created_at: Timestamp::from_micros(1),
        };
        let project = self.store.ensure_project(&project).await.unwrap();
        let (_row, key) = issue_api_key(&self.store, &project, "other").await.unwrap();
        key.expose().to_owned()
    }

    /// The same server, seen with a key of the first project again.
    pub(crate) async fn of_the_first_project(self) -> Self {
        let project = ensure_default_project(&self.store).await.unwrap();
        let (_row, key) = issue_api_key(&self.store, &project, "again").await.unwrap();
        Self { key: key.expose().to_owned(), ..self }
    }

    /// The same server, seen with another project's key.
    pub(crate) async fn of_another_project(self) -> Self {
        Self { key: self.foreign_key().await, ..self }
    }

    /// A request with the right key; JSON where there is a body.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Request<Body> {
        let request =
            Request::builder().method(method).uri(path).header("X-API-KEY", self.key.as_str());
        match body {
            Some(body) => request
                .header("Content-Type", "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        }
        .unwrap()
    }

    pub(crate) async fn begin(&self, request: Request<Body>) -> Response {
        self.server.router().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.begin(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.send(self.request(method, path, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(&body)).await
    }

    /// Makes a sandbox over E2B's API; its id.
    pub(crate) async fn sandbox(&self) -> String {
        let body = serde_json::json!({"templateID": "base"});
        let answer = self.post("/v2/sandboxes", body).await.ok(201).json();
        answer["sandboxID"].as_str().unwrap().to_owned()
    }

    /// The state of a sandbox over our API.
    pub(crate) async fn state(&self, id: &str) -> (String, String) {
        let body = self.get(&format!("/v1/sandboxes/{id}")).await.ok(200).json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    /// Waits until a sandbox is in that state.
    #[track_caller]
    pub(crate) fn wait_for_state<'a>(
        &'a self,
        id: &'a str,
        state: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        let waited = async move {
            while self.state(id).await.0 != state {
                tokio::task::yield_now().await;
            }
        };
        async move {
            if tokio::time::timeout(PATIENCE, waited).await.is_err() {
                panic!("{id} is {:?}, not {state}", self.state(id).await);
            }
        }
    }

    /// Waits until the node has that many sandboxes.
    pub(crate) async fn wait_for_alive(&self, count: usize) {
        let waited = async {
            while self.node.alive().len() != count {
                tokio::task::yield_now().await;
            }
        };
        let alive = || self.node.alive().len();
        tokio::time::timeout(PATIENCE, waited)
            .await
            .unwrap_or_else(|_| panic!("{} alive, not {count}", alive()));
    }
}
