//! Replacing a sandbox's network while it runs.
//!
//! ```text
//! database ─▶ node ─▶ in force
//!               └ refused ─▶ database as before
//! ```
//!
//! All of it is one task of its own: the client may go at any point, and what the database says is
//! what is in force. Only where the node does not answer in time, the database has what was asked
//! for, and the client is told to ask again.

use std::sync::Arc;
use std::time::Duration;

use courier_protocol::e2b::NetworkConfig;
use courier_protocol::node::NodeError;
use courier_store::{SandboxRow, StoreError};
use courier_types::egress::{Layer, LayerSource, NetworkSpec, Policy};

use super::layers::{Asked, EgressError, Resolved, check_ways, grant};
use crate::app::App;
use crate::e2b::network::Wanted;
use crate::http::{ApiError, chain};
use crate::sandboxes::{SealedSpec, SealedSpecError, secret_names};

/// How long a node may take to put a network in force: connections that it ends get a second.
const SET_NETWORK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a network was not replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceError {
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("the sandbox has just ended")]
    Gone,
    #[error(transparent)]
    Sealed(SealedSpecError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the node did not put the network in force; the one before stays")]
    Node(#[source] NodeError),
    #[error("the node did not put the network in force in time")]
    TooSlow,
    #[error("the work was interrupted")]
    Interrupted,
}

impl From<SealedSpecError> for ReplaceError {
    fn from(error: SealedSpecError) -> Self {
        match error {
            SealedSpecError::Gone { .. } => Self::Gone,
            SealedSpecError::Store(error) => Self::Store(error),
            SealedSpecError::Sealed { .. } | SealedSpecError::Content { .. } => Self::Sealed(error),
        }
    }
}

impl From<ReplaceError> for ApiError {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Egress(error) => error.into(),
            ReplaceError::Gone | ReplaceError::Node(NodeError::NotFound { .. }) => {
                Self::not_found("Sandbox not found: it has just ended")
            }
            ReplaceError::TooSlow => {
                tracing::error!("a node did not put a network in force in time");
                Self::gateway_timeout(format!("{error}: ask again"))
            }
            ReplaceError::Sealed(_)
            | ReplaceError::Store(_)
            | ReplaceError::Node(_)
            | ReplaceError::Interrupted => Self::internal(&error),
        }
    }
}

/// What is replaced.
#[derive(Debug)]
pub(crate) enum Change {
    /// The sandbox's own layer.
    Policy(Policy),
    /// All that E2B's wire replaces: layer, proxy and resolvers.
    E2b(Box<Wanted>),
}

/// Replaces the network of a usable sandbox; returns what is in force then. Dropping the future does
/// not stop the work.
pub(crate) async fn replace(
    app: &Arc<App>,
    row: SandboxRow,
    change: Change,
) -> Result<NetworkSpec, ReplaceError> {
    let own = Arc::clone(app);
    let work = app.work.spawn(async move { replace_to_the_end(&own, &row, change).await });
    work.await.map_err(|_join| ReplaceError::Interrupted)?
}

async fn replace_to_the_end(
    app: &App,
    row: &SandboxRow,
    change: Change,
) -> Result<NetworkSpec, ReplaceError> {
    let id = &row.spec.id;
    let _one_at_a_time = app.networks.lock(id).await;
    let old = SealedSpec::read(app, &row.project_id, id).await?;
    let new = changed(app, row, &old, change).await?;
    write(app, row, &new).await?;
    let put = app.node.set_network(id, new.network.clone());
    match tokio::time::timeout(SET_NETWORK_TIMEOUT, put).await {
        Ok(Ok(())) => Ok(new.network),
        Ok(Err(error)) => {
            write_back(app, row, &old).await;
            Err(ReplaceError::Node(error))
        }
        Err(_elapsed) => Err(ReplaceError::TooSlow),
    }
}

/// Writes down again what stays in force. Where even that fails, the next replacement mends it.
async fn write_back(app: &App, row: &SandboxRow, old: &SealedSpec) {
    if let Err(failure) = write(app, row, old).await {
        let (sandbox, error) = (&row.spec.id, chain(&failure));
        tracing::error!(%sandbox, error, "could not write down what stays in force");
    }
}

async fn write(app: &App, row: &SandboxRow, spec: &SealedSpec) -> Result<(), ReplaceError> {
    let id = &row.spec.id;
    let sealed = spec.seal(app, &row.project_id, id);
    let names = secret_names(&spec.network);
    if app.store.replace_sealed(id, &sealed, &names).await? {
        Ok(())
    } else {
        Err(ReplaceError::Gone)
    }
}

/// What a sandbox would be made with, had it been asked for like that. The template's layer stays
/// the one that it was made under; environment and files stay what they are.
async fn changed(
    app: &App,
    row: &SandboxRow,
    old: &SealedSpec,
    change: Change,
) -> Result<SealedSpec, EgressError> {
    let template = |layer: &&Layer| layer.source == LayerSource::Template;
    let bound = old.network.egress.0.iter().find(template);
    let bound = bound.map(|layer| Resolved::from(layer.policy.clone()));
    let mut new = old.clone();
    let asked = match change {
        Change::Policy(policy) => {
            // What E2B's wire would show of it is no longer true.
            new.asked.internet = None;
            if let Some(config) = &mut new.asked.config {
                *config = without_egress(config);
            }
            Asked::Whole(policy)
        }
        Change::E2b(wanted) => {
            let before = new.asked.config.take().unwrap_or_default();
            new.asked.internet = wanted.internet;
            new.asked.config = Some(NetworkConfig {
                allow_public_traffic: before.allow_public_traffic,
                mask_request_host: before.mask_request_host,
                https_ports: before.https_ports,
                ..wanted.shown
            });
            new.network.upstream_proxy = wanted.proxy;
            new.network.dns_servers = wanted.dns_servers;
            wanted.asked
        }
    };
    new.network.egress = grant(app, &row.project_id, bound, asked).await?.layers;
    check_ways(&new.network)?;
    Ok(new)
}

fn without_egress(config: &NetworkConfig) -> NetworkConfig {
    NetworkConfig { allow_out: None, deny_out: None, rules: None, ..config.clone() }
}
