//! Where runs happen: on a node of our own, or on the server that runs for the data folder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use courier_client::{GuestClient, NodeTransport};
use courier_protocol::node::{Report as NodeReport, SharedNode};
use courier_protocol::v1::{NewSandbox, Sandbox, UsageBody};
use courier_types::egress::{NetworkSpec, Policy, SecretName};
use courier_types::{
    BuildConfig, DurationMs, EndReason, Limits, ObservedState, SandboxId, SandboxSpec, Timestamp,
    Usage,
};
use tokio::sync::Notify;

use crate::api::Api;
use crate::config::Config;
use crate::config::outside::OutsideArgs;
use crate::egress::{Granted, Seen, secret_env};
use crate::sandbox::{HttpTransport, explain, wait_for_end};
use crate::{compose, random, template};

/// How long a kept sandbox lives.
pub(crate) const KEPT: Duration = Duration::from_secs(60 * 60);
/// Beyond the program's time, a sandbox has this long for its files to go in and out.
const BESIDES: Duration = Duration::from_secs(10 * 60);
/// Longest wait for the node to tell how a sandbox ended, after it is gone.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// What a run asks of its sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The template.
    pub(crate) template: String,
    /// Its caps.
    pub(crate) limits: Limits,
    /// How long the program may run.
    pub(crate) timeout: Duration,
    /// It stays afterwards.
    pub(crate) keep: bool,
    /// What it may reach, where the user said so.
    pub(crate) egress: Option<Policy>,
    /// Variables that hold tokens for secrets.
    pub(crate) secrets: Vec<(String, SecretName)>,
}

impl Wanted {
    /// From now until the sandbox is destroyed without anybody's asking.
    fn lifetime(&self) -> Duration {
        let kept = if self.keep { KEPT } else { Duration::ZERO };
        self.timeout.saturating_add(BESIDES).max(kept)
    }
}

/// A sandbox of a run.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its id.
    pub(crate) id: SandboxId,
    /// The way inside.
    pub(crate) guest: GuestClient,
    /// The boundary around it.
    pub(crate) isolation: String,
}

/// How a sandbox ended.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// Why, where it had ended before it was destroyed.
    pub(crate) reason: Option<EndReason>,
    /// What it had used.
    pub(crate) usage: Option<Usage>,
    /// More about it.
    pub(crate) detail: Option<String>,
}

/// Where runs happen.
pub(crate) enum Target {
    /// On a node in this process, whose sandboxes die with it.
    Local(Box<Local>),
    /// Through a server.
    Server(Box<Api>),
}

impl Target {
    /// A node of our own.
    pub(crate) async fn local(
        config: &Config,
        template: &str,
        egress: Option<&Policy>,
    ) -> anyhow::Result<Self> {
        Ok(Self::Local(Box::new(Local::start(config, template, egress).await?)))
    }

    /// Makes a sandbox.
    pub(crate) async fn create(&self, wanted: &Wanted) -> anyhow::Result<Place> {
        match self {
            Self::Local(local) => local.create(wanted).await,
            Self::Server(api) => create_by(api, wanted).await,
        }
    }

    /// Waits a little for a lost sandbox to end by itself; else the reason would be that we
    /// destroyed it.
    pub(crate) async fn wait_for_end(&self, id: &SandboxId) {
        match self {
            Self::Local(local) => local.ends.wait(id).await,
            Self::Server(api) => {
                if let Err(error) = wait_for_end(api, id).await {
                    tracing::warn!(%error, "how the sandbox ended is not known");
                }
            }
        }
    }

    /// Destroys a sandbox and tells how it ended.
    pub(crate) async fn destroy(&self, id: &SandboxId) -> anyhow::Result<End> {
        match self {
            Self::Local(local) => local.destroy(id).await,
            Self::Server(api) => destroy_by(api, id).await,
        }
    }

    /// What a sandbox has reached so far, and what it was refused.
    pub(crate) async fn seen(&self, id: &SandboxId) -> anyhow::Result<Seen> {
        match self {
            Self::Local(local) => Seen::of_node(&local.node, id).await,
            Self::Server(api) => Ok(Seen::of_server(api, id).await?),
        }
    }

    /// What a sandbox has used so far, where that can be told.
    pub(crate) async fn usage(&self, id: &SandboxId) -> Option<Usage> {
        let told = match self {
            Self::Local(local) => local.node.usage(id).await.map(Some).map_err(anyhow::Error::from),
            Self::Server(api) => api
                .get::<Sandbox>(&format!("/v1/sandboxes/{id}"))
                .await
                .map(|sandbox| sandbox.usage.map(usage))
                .map_err(anyhow::Error::from),
        };
        told.unwrap_or_else(|error| {
            tracing::debug!(sandbox = %id, %error, "what a sandbox has used cannot be read");
            None
        })
    }
}

/// A node in this process.
pub(crate) struct Local {
    node: SharedNode,
    build: String,
    build_config: BuildConfig,
    isolation: String,
    granted: Granted,
    ends: Arc<Ends>,
}

/// How sandboxes of the node ended, by id, as it reported.
#[derive(Default)]
struct Ends {
    reports: Mutex<HashMap<SandboxId, NodeReport>>,
    changed: Notify,
}

impl Ends {
    fn put(&self, report: NodeReport) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(report.id.clone(), report);
        drop(reports);
        self.changed.notify_waiters();
    }

    /// Waits for the end of a sandbox, for at most [`END_DEADLINE`].
    async fn wait(&self, id: &SandboxId) {
        let known = async {
            loop {
                // Made before the look, so that no change is missed.
                let changed = self.changed.notified();
                if self.reports.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(END_DEADLINE, known).await.is_err() {
            tracing::warn!(sandbox = %id, "the node does not say how the sandbox ended");
        }
    }

    /// Waits for the end of a sandbox and forgets it.
    async fn take(&self, id: &SandboxId) -> Option<NodeReport> {
        self.wait(id).await;
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

impl Local {
    async fn start(
        config: &Config,
        template: &str,
        egress: Option<&Policy>,
    ) -> anyhow::Result<Self> {
        let template = template::ensure(config, template).await?;
        let outside = OutsideArgs::of_environment()?;
        let presets = compose::presets(&outside);
        let granted = Granted::new(presets.as_ref(), template.egress.as_ref(), egress).await?;
        let node = compose::passing_node(config, &outside, presets).await?;
        let isolation = node.info().await?.isolation.to_string();
        let ends = Arc::new(Ends::default());
        let (reporter, reports) = (Arc::clone(&node), Arc::clone(&ends));
        tokio::spawn(async move {
            loop {
                let report = reporter.next_report().await;
                if report.state.is_terminal() {
                    reports.put(report);
                }
            }
        });
        Ok(Self {
            node,
            build: template.build,
            build_config: template.config,
            isolation,
            granted,
            ends,
        })
    }

    async fn create(&self, wanted: &Wanted) -> anyhow::Result<Place> {
        let id = SandboxId::from_random(random::bytes()?);
        let spec = SandboxSpec {
            id: id.clone(),
            build: self.build.clone(),
            limits: wanted.limits,
            deadline: Timestamp::from(SystemTime::now()).plus(wanted.lifetime()),
            env: self.granted.env.clone(),
            access_token: None,
            template: wanted.template.clone(),
            network: NetworkSpec { egress: self.granted.layers.clone(), ..NetworkSpec::default() },
            files: self.granted.files.clone(),
            config: self.build_config.clone(),
            volumes: Vec::new(),
        };
        self.node.create(spec).await?;
        let transport = NodeTransport::new(Arc::clone(&self.node), id.clone());
        let guest = GuestClient::new(Arc::new(transport));
        Ok(Place { id, guest, isolation: self.isolation.clone() })
    }

    async fn destroy(&self, id: &SandboxId) -> anyhow::Result<End> {
        self.node.kill(id).await?;
        let Some(report) = self.ends.take(id).await else { return Ok(End::default()) };
        let reason = match report.state {
            ObservedState::Killed { reason } | ObservedState::Error { reason } => Some(reason),
            ObservedState::Creating | ObservedState::Running | ObservedState::Killing => None,
        };
        Ok(End { reason, usage: report.usage, detail: report.detail })
    }
}

async fn create_by(api: &Api, wanted: &Wanted) -> anyhow::Result<Place> {
    let request = NewSandbox {
        template: Some(wanted.template.clone()),
        limits: wanted.limits.into(),
        timeout_ms: Some(DurationMs::from(wanted.lifetime()).0),
        env: secret_env(&wanted.secrets, wanted.lifetime()).collect(),
        egress: wanted.egress.clone(),
        metadata: [("courier.command".to_owned(), "run".to_owned())].into(),
        volumes: Vec::new(),
        isolation: None,
    };
    let sandbox: Sandbox = api.post("/v1/sandboxes", &request).await?;
    let transport = HttpTransport::new(api.clone(), &sandbox)?;
    let guest = GuestClient::new(Arc::new(transport));
    Ok(Place { id: sandbox.id.parse()?, guest, isolation: sandbox.isolation })
}

async fn destroy_by(api: &Api, id: &SandboxId) -> anyhow::Result<End> {
    let path = format!("/v1/sandboxes/{id}");
    match api.delete(&path).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(explain(error, id)),
    }
    let sandbox: Sandbox = api.get(&path).await.map_err(|error| explain(error, id))?;
    Ok(End { reason: sandbox.reason, usage: sandbox.usage.map(usage), detail: sandbox.detail })
}

const fn usage(body: UsageBody) -> Usage {
    Usage {
        memory_bytes: body.memory_bytes,
        memory_peak_bytes: body.memory_peak_bytes,
        cpu_micros: body.cpu_micros,
        disk_bytes: body.disk_bytes,
        oom_kills: body.oom_kills,
    }
}
