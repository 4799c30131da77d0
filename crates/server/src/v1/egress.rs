//! What one sandbox may reach: see it, replace it, ask why, and have a policy proposed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use courier_egress::policy::propose;
use courier_protocol::e2b::ErrorBody;
use courier_protocol::node::NodeError;
use courier_protocol::v1::{Egress, Proposal, Proxy, schema};
use courier_store::ProjectRow;
use courier_types::SandboxId;
use courier_types::egress::{ExplainRequest, Explanation, Flow, LayerSource, NetworkSpec, Policy};

use crate::app::App;
use crate::auth::Caller;
use crate::egress::{Change, replace};
use crate::http::{ApiError, JsonBody, PathSegment, chain};
use crate::sandboxes::{SealedSpec, SealedSpecError, find_usable};

/// Records that are read of the flow log at once.
const FLOWS_AT_ONCE: usize = 1_000;

/// Most records that a proposal looks at: more than a node keeps of one sandbox.
const FLOWS_MAX: usize = 20_000;

/// How long a node may take to say what it sees or would decide.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a sandbox may reach, as it is in force.
#[utoipa::path(
    get,
    path = "/v1/sandboxes/{id}/egress",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "What is in force", body = Egress),
        (status = 404, description = "No such sandbox, or it has ended", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
) -> Result<Json<Egress>, ApiError> {
    let (_id, network) = network(&app, &project, &id).await?;
    Ok(Json(shown(network)))
}

/// Replace what a running sandbox may reach.
///
/// The policy takes the place of the sandbox's own; the template's stays above it, and what that does
/// not allow is refused. Connections that the new policy would not allow end within a second. Of
/// presets, the rules and credentials count at once; their environment and files are only there from
/// a create on.
#[utoipa::path(
    put,
    path = "/v1/sandboxes/{id}/egress",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    request_body = schema::Policy,
    responses(
        (status = 200, description = "What is in force now", body = Egress),
        (status = "4XX", description = "Refused; what was in force stays", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    body: JsonBody<Policy>,
) -> Result<Json<Egress>, ApiError> {
    let row = find_usable(&app, &project, &id).await?;
    let network = replace(&app, row, Change::Policy(body.value)).await?;
    Ok(Json(shown(network)))
}

/// Say what the sandbox's proxies would decide, and which rules do.
#[utoipa::path(
    post,
    path = "/v1/sandboxes/{id}/egress/explain",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    request_body = schema::ExplainRequest,
    responses(
        (status = 200, description = "What they would decide", body = schema::Explanation),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    body: JsonBody<ExplainRequest>,
) -> Result<Json<Explanation>, ApiError> {
    let row = find_usable(&app, &project, &id).await?;
    let asked = app.node.explain(&row.spec.id, body.value);
    let explained = tokio::time::timeout(ASK_TIMEOUT, asked).await.map_err(late)?;
    explained.map(Json).map_err(|error| match error {
        // The question itself: a name that is none, for instance.
        NodeError::Network { ref source, .. } => {
            ApiError::bad_request(format!("it cannot be explained: {}", chain(&**source)))
        }
        other => node_error(other),
    })
}

/// Propose the smallest policy that would have allowed what was refused so far.
///
/// Set `learn` in the policy first, so that more is recorded. Nothing is changed by this.
#[utoipa::path(
    get,
    path = "/v1/sandboxes/{id}/egress/proposal",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The proposal", body = Proposal),
        (status = 404, description = "No such sandbox, or it has ended", body = ErrorBody),
    )
)]
pub(crate) async fn proposal(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
) -> Result<Json<Proposal>, ApiError> {
    let (id, network) = network(&app, &project, &id).await?;
    let (flows, missed) = all_flows(&app, &id).await?;
    let policy = propose(&flows, &innermost(network));
    Ok(Json(Proposal { policy, missed }))
}

/// The network of a usable sandbox.
async fn network(
    app: &App,
    project: &ProjectRow,
    id: &str,
) -> Result<(SandboxId, NetworkSpec), ApiError> {
    let row = find_usable(app, project, id).await?;
    match SealedSpec::read(app, &row.project_id, &row.spec.id).await {
        Ok(sealed) => Ok((row.spec.id, sealed.network)),
        Err(error @ SealedSpecError::Gone { .. }) => Err(ApiError::not_found(error.to_string())),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// The policy that a proposal adds to: the sandbox's own, or else the template's.
fn innermost(network: NetworkSpec) -> Policy {
    let mut layers = network.egress.0;
    let own = layers.iter().position(|layer| layer.source == LayerSource::Sandbox);
    match own.or_else(|| layers.len().checked_sub(1)) {
        Some(at) => layers.swap_remove(at).policy,
        None => Policy::default(),
    }
}

async fn all_flows(app: &App, id: &SandboxId) -> Result<(Vec<Flow>, u64), ApiError> {
    let (mut flows, mut missed, mut after) = (Vec::new(), 0_u64, 0);
    while flows.len() < FLOWS_MAX {
        let asked = app.node.flows(id, after, FLOWS_AT_ONCE, Duration::ZERO);
        let page = tokio::time::timeout(ASK_TIMEOUT, asked).await.map_err(late)?;
        let page = page.map_err(node_error)?;
        missed = missed.saturating_add(page.missed);
        let Some(last) = page.flows.last() else { break };
        after = last.seq;
        flows.extend(page.flows);
    }
    Ok((flows, missed))
}

fn late(_elapsed: tokio::time::error::Elapsed) -> ApiError {
    ApiError::gateway_timeout("the node did not answer in time")
}

/// What a node's failure is to a client that asks about a running sandbox.
pub(super) fn node_error(error: NodeError) -> ApiError {
    match error {
        NodeError::NotFound { .. } => ApiError::not_found("Sandbox not found: it has just ended"),
        NodeError::UnknownBuild { .. }
        | NodeError::Full { .. }
        | NodeError::NotStarted { .. }
        | NodeError::Guest { .. }
        | NodeError::PortClosed { .. }
        | NodeError::Network { .. }
        | NodeError::Node(_) => ApiError::internal(&error),
    }
}

/// Without the proxy's password and the token.
fn shown(network: NetworkSpec) -> Egress {
    Egress {
        layers: network.egress,
        upstream_proxy: network.upstream_proxy.map(|proxy| Proxy {
            tls: proxy.tls.is_some(),
            address: proxy.address,
            username: proxy.username,
        }),
        dns_servers: network.dns_servers,
    }
}
