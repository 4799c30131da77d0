//! A sandbox of the server: how it is found, and the way to its guest daemon.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use courier_client::{ClientError, GuestClient, Transport, TransportError};
use courier_protocol::node::Body;
use courier_protocol::v1::{Sandbox, SandboxState};
use courier_types::SandboxId;
use http::{HeaderValue, StatusCode};

use crate::api::{Api, ApiError};

/// Longest wait for the server to know how a sandbox ended that we have lost.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The way to a guest daemon over the server's data plane.
#[derive(Debug)]
pub(crate) struct HttpTransport {
    api: Api,
    id: HeaderValue,
    token: Option<HeaderValue>,
}

impl HttpTransport {
    /// The way to a sandbox that the server has just shown, with its token.
    pub(crate) fn new(api: Api, sandbox: &Sandbox) -> anyhow::Result<Self> {
        let value = |text: &str| {
            HeaderValue::from_str(text).context("the server gave a token that cannot be sent")
        };
        let mut token = sandbox.access_token.as_deref().map(value).transpose()?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        Ok(Self { api, id: value(&sandbox.id)?, token })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, TransportError> {
        let answer = self
            .api
            .guest(&self.id, self.token.as_ref(), request)
            .await
            .map_err(|error| TransportError::Unreachable(error.into()))?;
        if answer.status() == StatusCode::BAD_GATEWAY {
            return Err(TransportError::Gone("the server says that it is not running".into()));
        }
        Ok(answer)
    }
}

/// What the server knows of a sandbox.
pub(crate) async fn show(api: &Api, id: &SandboxId) -> anyhow::Result<Sandbox> {
    api.get(&format!("/v1/sandboxes/{id}")).await.map_err(|error| explain(error, id))
}

/// A client of a running sandbox's guest daemon.
pub(crate) async fn open(api: &Api, id: &SandboxId) -> anyhow::Result<GuestClient> {
    let sandbox = show(api, id).await?;
    if sandbox.state != SandboxState::Running {
        anyhow::bail!("{}", ended(&sandbox));
    }
    Ok(GuestClient::new(Arc::new(HttpTransport::new(api.clone(), &sandbox)?)))
}

/// An error of the API about one sandbox, in plain words.
pub(crate) fn explain(error: ApiError, id: &SandboxId) -> anyhow::Error {
    if error.is_not_found() {
        return anyhow::anyhow!(
            "there is no sandbox {id}; `courier sandbox ls` shows those that there are"
        );
    }
    error.into()
}

/// An error of a call of the guest: where the sandbox ended under it, why it did.
pub(crate) async fn explain_call(error: ClientError, api: &Api, id: &SandboxId) -> anyhow::Error {
    if !error.is_sandbox_lost() {
        return error.into();
    }
    match wait_for_end(api, id).await {
        Ok(Some(sandbox)) => anyhow::anyhow!("{}", ended(&sandbox)),
        Err(ApiError::Unreachable { .. }) => anyhow::Error::new(error)
            .context(format!("the server went away; sandbox {id} goes on until its time is up")),
        Ok(None) | Err(_) => error.into(),
    }
}

/// Waits until the server knows how a lost sandbox ended; `None` when it has not, it seems.
pub(crate) async fn wait_for_end(api: &Api, id: &SandboxId) -> Result<Option<Sandbox>, ApiError> {
    let look = async {
        loop {
            let sandbox: Sandbox = api.get(&format!("/v1/sandboxes/{id}")).await?;
            if matches!(sandbox.state, SandboxState::Killed | SandboxState::Error) {
                return Ok(sandbox);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    match tokio::time::timeout(END_DEADLINE, look).await {
        Ok(found) => found.map(Some),
        Err(_elapsed) => Ok(None),
    }
}

/// How a sandbox ended, or what else it is about.
pub(super) fn ended(sandbox: &Sandbox) -> String {
    let id = &sandbox.id;
    match (sandbox.state, sandbox.reason) {
        (SandboxState::Killing, None) => format!("sandbox {id} is being destroyed"),
        (SandboxState::Creating, _) => format!("sandbox {id} is not ready yet; try again"),
        (_, Some(reason)) => format!("sandbox {id} has ended ({reason})"),
        (_, None) => format!("sandbox {id} has ended"),
    }
}
