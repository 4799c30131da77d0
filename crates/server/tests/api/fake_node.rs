//! A node without sandboxes: it remembers what it was asked, and fails where a test says so.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_protocol::envd::connect::{Codec, decode, encode_end, encode_envelope};
use courier_protocol::envd::process::{
    DataEvent, EndEvent, ProcessEvent, StartEvent, StartRequest, StartResponse,
};
use courier_protocol::node::{
    Body, ByteStream, Node, NodeError, NodeInfo, NodeRoom, Report, Volumes,
};
use courier_types::egress::{
    ExplainRequest, ExplainStep, Explanation, Flow, FlowPage, NetworkSpec,
};
use courier_types::{
    EndReason, Generation, Isolation, ObservedState, SandboxId, SandboxSpec, Timestamp, Usage,
};
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::fake_volumes::FakeVolumes;

/// What `create` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creates {
    Work,
    Full,
    DoNotStart,
    LackTheBuild,
    /// It waits until [`FakeNode::release`].
    Wait,
    Panic,
}

/// What a started program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Prints `out` and a broken character, and `err`; exits with 3.
    Exits,
    /// Runs for ever.
    Hangs,
    /// Takes its sandbox with it, for memory.
    KillsItsSandbox,
}

struct State {
    alive: BTreeMap<SandboxId, SandboxSpec>,
    creates: Creates,
    program: Program,
    kills_fail: bool,
    networks_fail: bool,
    flows: Vec<Flow>,
    /// What was created last.
    created: Option<SandboxSpec>,
    /// What was adopted.
    adopted: BTreeMap<SandboxId, SandboxSpec>,
    /// Environment of the last program.
    started: BTreeMap<String, String>,
    written: BTreeMap<String, Vec<u8>>,
}

pub(crate) struct FakeNode {
    pub(crate) volumes: FakeVolumes,
    state: Mutex<State>,
    released: watch::Sender<bool>,
    report: mpsc::Sender<Report>,
    reports: tokio::sync::Mutex<mpsc::Receiver<Report>>,
}

impl FakeNode {
    pub(crate) fn new() -> Self {
        let (report, reports) = mpsc::channel(64);
        let state = State {
            alive: BTreeMap::new(),
            creates: Creates::Work,
            program: Program::Exits,
            kills_fail: false,
            networks_fail: false,
            flows: Vec::new(),
            created: None,
            adopted: BTreeMap::new(),
            started: BTreeMap::new(),
            written: BTreeMap::new(),
        };
        let (released, _) = watch::channel(false);
        let volumes = FakeVolumes::default();
        Self { volumes, state: Mutex::new(state), released, report, reports: reports.into() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn creates(&self, creates: Creates) {
        self.lock().creates = creates;
    }

    pub(crate) fn programs(&self, program: Program) {
        self.lock().program = program;
    }

    pub(crate) fn kills_fail(&self, fail: bool) {
        self.lock().kills_fail = fail;
    }

    pub(crate) fn last_created(&self) -> SandboxSpec {
        self.lock().created.clone().expect("one was created")
    }

    pub(crate) fn adopted(&self, id: &str) -> SandboxSpec {
        self.lock().adopted.get(&id.parse().unwrap()).expect("it was adopted").clone()
    }

    pub(crate) fn started_env(&self) -> BTreeMap<String, String> {
        self.lock().started.clone()
    }

    pub(crate) fn networks_fail(&self, fail: bool) {
        self.lock().networks_fail = fail;
    }

    /// What every sandbox's flow log holds.
    pub(crate) fn flow(&self, flows: Vec<Flow>) {
        self.lock().flows = flows;
    }

    /// The layers that are in force, as JSON.
    pub(crate) fn layers(&self, id: &str) -> serde_json::Value {
        serde_json::to_value(self.spec(id).network.egress).unwrap()
    }

    /// Lets the creates go on that wait.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) fn alive(&self) -> Vec<SandboxId> {
        self.lock().alive.keys().cloned().collect()
    }

    pub(crate) fn spec(&self, id: &str) -> SandboxSpec {
        self.lock().alive.get(&id.parse().unwrap()).expect("it is alive").clone()
    }

    pub(crate) fn written(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().written.clone()
    }

    /// A sandbox that the server does not know of.
    pub(crate) fn plant(&self, spec: SandboxSpec) {
        self.lock().alive.insert(spec.id.clone(), spec);
    }

    /// A sandbox is gone, and nobody is told.
    pub(crate) fn lose(&self, id: &str) {
        self.lock().alive.remove(&id.parse().unwrap());
    }

    /// A sandbox ends, and the node reports it.
    pub(crate) async fn end(&self, id: &str, reason: EndReason, generation: u64) {
        self.lose(id);
        let state = ObservedState::ended(reason);
        self.tell(id, state, generation).await;
    }

    pub(crate) async fn tell(&self, id: &str, state: ObservedState, generation: u64) {
        let report = Report {
            id: id.parse().unwrap(),
            generation: Generation(generation),
            state,
            at: std::time::SystemTime::now().into(),
            usage: Some(usage()),
            detail: Some("the technology's last words".to_owned()),
        };
        self.report.send(report).await.unwrap();
    }

    fn program_events(&self, id: &SandboxId) -> Body {
        let start = ProcessEvent { start: Some(StartEvent { pid: 7 }), ..Default::default() };
        match self.lock().program {
            Program::Exits => {
                let data = DataEvent { stdout: Some(b"out\xff".to_vec()), ..Default::default() };
                let errors = DataEvent { stderr: Some(b"err".to_vec()), ..Default::default() };
                let end = EndEvent {
                    exit_code: 3,
                    exited: true,
                    status: "exit status 3".to_owned(),
                    ..Default::default()
                };
                let events = [
                    start,
                    ProcessEvent { data: Some(data), ..Default::default() },
                    ProcessEvent { data: Some(errors), ..Default::default() },
                    ProcessEvent { end: Some(end), ..Default::default() },
                ];
                let mut bytes = Vec::new();
                for event in events {
                    bytes.extend_from_slice(&envelope(event));
                }
                bytes.extend_from_slice(&encode_end(Ok(())));
                full(bytes)
            }
            Program::Hangs => {
                let first = stream::iter([Ok(http_body::Frame::data(envelope(start)))]);
                StreamBody::new(first.chain(stream::pending())).boxed_unsync()
            }
            Program::KillsItsSandbox => {
                let report = Report {
                    id: id.clone(),
                    generation: Generation(9),
                    state: ObservedState::ended(EndReason::Memory),
                    at: std::time::SystemTime::now().into(),
                    usage: Some(usage()),
                    detail: None,
                };
                self.report.try_send(report).unwrap();
                let broken = Err("the channel closed".into());
                let frames = [Ok(http_body::Frame::data(envelope(start))), broken];
                StreamBody::new(stream::iter(frames)).boxed_unsync()
            }
        }
    }
}

pub(crate) fn usage() -> Usage {
    Usage { memory_bytes: 1, memory_peak_bytes: 2, cpu_micros: 3, disk_bytes: 4, oom_kills: 0 }
}

/// The environment of a program: behind the five bytes of the envelope.
fn started_env(bytes: &[u8]) -> BTreeMap<String, String> {
    let request: StartRequest = decode(Codec::Proto, &bytes[5..]).unwrap();
    request.process.unwrap_or_default().envs
}

fn envelope(event: ProcessEvent) -> Bytes {
    encode_envelope(Codec::Proto, &StartResponse { event: Some(event) })
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

#[async_trait]
impl Node for FakeNode {
    async fn info(&self) -> Result<NodeInfo, NodeError> {
        Ok(NodeInfo {
            isolation: Isolation::Fake,
            technology: "fake 1".to_owned(),
            builds: vec!["base-1".to_owned()],
        })
    }

    fn room(&self) -> Result<NodeRoom, NodeError> {
        Ok(NodeRoom {
            sandboxes: self.lock().alive.len(),
            sandboxes_max: 7,
            memory_limits_bytes: 1,
            memory_limits_max_bytes: 2,
            memory_available_bytes: 3,
            memory_total_bytes: 4,
        })
    }

    async fn create(&self, spec: SandboxSpec) -> Result<(), NodeError> {
        let creates = self.lock().creates;
        let id = spec.id.clone();
        match creates {
            Creates::Work => {}
            Creates::Full => return Err(NodeError::Full { what: "memory".to_owned() }),
            Creates::LackTheBuild => return Err(NodeError::UnknownBuild { build: spec.build }),
            Creates::DoNotStart => {
                let source = "no kernel".into();
                return Err(NodeError::NotStarted { id, reason: EndReason::Crashed, source });
            }
            Creates::Wait => {
                let mut released = self.released.subscribe();
                released.wait_for(|released| *released).await.unwrap();
            }
            Creates::Panic => panic!("a test asked for it"),
        }
        let mut state = self.lock();
        state.created = Some(spec.clone());
        state.alive.insert(id, spec);
        Ok(())
    }

    async fn adopt(&self, spec: SandboxSpec) -> Result<(), NodeError> {
        let mut state = self.lock();
        if state.alive.contains_key(&spec.id) {
            state.adopted.insert(spec.id.clone(), spec);
            Ok(())
        } else {
            Err(NodeError::NotFound { id: spec.id })
        }
    }

    async fn reap_except(&self, keep: &[SandboxId]) -> Result<Vec<SandboxId>, NodeError> {
        let doomed: Vec<SandboxId> =
            self.alive().into_iter().filter(|id| !keep.contains(id)).collect();
        self.lock().alive.retain(|id, _spec| keep.contains(id));
        Ok(doomed)
    }

    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), NodeError> {
        match self.lock().alive.get_mut(id) {
            Some(spec) => {
                spec.deadline = deadline;
                Ok(())
            }
            None => Err(NodeError::NotFound { id: id.clone() }),
        }
    }

    async fn kill(&self, id: &SandboxId) -> Result<(), NodeError> {
        let mut state = self.lock();
        if state.kills_fail {
            return Err(NodeError::Node("a test asked for it".into()));
        }
        if state.alive.remove(id).is_some() {
            let report = Report {
                id: id.clone(),
                generation: Generation(1_000),
                state: ObservedState::ended(EndReason::Requested),
                at: std::time::SystemTime::now().into(),
                usage: Some(usage()),
                detail: None,
            };
            self.report.try_send(report).unwrap();
        }
        Ok(())
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, NodeError> {
        if self.lock().alive.contains_key(id) {
            Ok(usage())
        } else {
            Err(NodeError::NotFound { id: id.clone() })
        }
    }

    async fn set_network(&self, id: &SandboxId, network: NetworkSpec) -> Result<(), NodeError> {
        if self.lock().networks_fail {
            let source = "a test asked for it".into();
            return Err(NodeError::Network { id: id.clone(), source });
        }
        match self.lock().alive.get_mut(id) {
            Some(spec) => {
                spec.network = network;
                Ok(())
            }
            None => Err(NodeError::NotFound { id: id.clone() }),
        }
    }

    async fn flows(
        &self,
        id: &SandboxId,
        after: u64,
        limit: usize,
        _wait: Duration,
    ) -> Result<FlowPage, NodeError> {
        let state = self.lock();
        if !state.alive.contains_key(id) {
            return Err(NodeError::NotFound { id: id.clone() });
        }
        let oldest = state.flows.first().map_or(0, |flow| flow.seq);
        let newer = state.flows.iter().filter(|flow| flow.seq > after);
        let missed = oldest.saturating_sub(after + 1);
        Ok(FlowPage { flows: newer.take(limit).cloned().collect(), missed })
    }

    async fn explain(
        &self,
        id: &SandboxId,
        request: ExplainRequest,
    ) -> Result<Explanation, NodeError> {
        if !self.lock().alive.contains_key(id) {
            return Err(NodeError::NotFound { id: id.clone() });
        }
        if request.host == "no name" {
            let source = "it is no name".into();
            return Err(NodeError::Network { id: id.clone(), source });
        }
        let step = ExplainStep {
            asked: request.host,
            verdict: "deny".to_owned(),
            reasons: vec!["a test".to_owned()],
        };
        let (credentials, would_allow) = (Vec::new(), None);
        Ok(Explanation { allowed: false, steps: vec![step], credentials, would_allow })
    }

    async fn request(
        &self,
        id: &SandboxId,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, NodeError> {
        if !self.lock().alive.contains_key(id) {
            return Err(NodeError::NotFound { id: id.clone() });
        }
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        match (parts.method.as_str(), parts.uri.path()) {
            ("POST", "/files") => {
                let content = body.collect().await.expect("our own body").to_bytes().to_vec();
                self.lock().written.insert(query, content);
                Ok(http::Response::new(full("[]")))
            }
            ("POST", "/process.Process/Start") => {
                let bytes = body.collect().await.expect("our own body").to_bytes();
                self.lock().started = started_env(&bytes);
                let mut response = http::Response::new(self.program_events(id));
                let proto = http::HeaderValue::from_static("application/connect+proto");
                response.headers_mut().insert(http::header::CONTENT_TYPE, proto);
                Ok(response)
            }
            _ => {
                let mut response =
                    http::Response::new(full(r#"{"code":"not_found","message":"not there"}"#));
                *response.status_mut() = http::StatusCode::NOT_FOUND;
                Ok(response)
            }
        }
    }

    /// Every port but 1 has a server that says back what it hears.
    async fn connect(&self, id: &SandboxId, port: u16) -> Result<Box<dyn ByteStream>, NodeError> {
        let id = id.clone();
        if !self.lock().alive.contains_key(&id) {
            return Err(NodeError::NotFound { id });
        }
        if port == 1 {
            return Err(NodeError::PortClosed { id, port });
        }
        let (ours, theirs) = tokio::io::duplex(1_024);
        tokio::spawn(async move {
            let (mut hear, mut say) = tokio::io::split(theirs);
            // Whoever asked may have gone.
            let _cut = tokio::io::copy(&mut hear, &mut say).await;
            let _gone = say.shutdown().await;
        });
        Ok(Box::new(ours.compat()))
    }

    async fn next_report(&self) -> Report {
        self.reports.lock().await.recv().await.expect("the node holds the sender")
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(&self.volumes)
    }
}
