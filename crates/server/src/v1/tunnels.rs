//! Private tunnels: which there are, and the door for connectors.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use courier_protocol::e2b::ErrorBody;
use courier_protocol::node::{ConnectorError, OfferedTunnel, ReserveError, TunnelKind, TunnelSlot};
use courier_protocol::v1::{CONNECTOR_PROTOCOL, TUNNEL_DOMAIN, Tunnel, TunnelBy, TunnelList};
use courier_types::egress::TunnelName;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, PathSegment, QueryParams, chain};

/// How long a connection may take to become a connector's once it was told to.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds after which it may be worth to ask again where there is no room.
const FULL_RETRY_SECS: u16 = 30;

/// Query of a connector.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectorQuery {
    port: u16,
}

/// The private tunnels that a policy may name.
#[utoipa::path(
    get,
    path = "/v1/tunnels",
    tag = "CodeCourier",
    responses((status = 200, description = "All of them", body = TunnelList))
)]
pub(crate) async fn list(State(app): State<Arc<App>>, Caller(project): Caller) -> Json<TunnelList> {
    let offered = app.tunnels.offered(&project.id).into_iter();
    Json(TunnelList { tunnels: offered.map(shown).collect() })
}

/// Take a name and serve it: for `courier connector`.
///
/// The answer is 101, and then the server sends HTTP/2 requests on the same connection: one CONNECT
/// for every connection of a sandbox. One connector has a name at a time.
#[utoipa::path(
    post,
    path = "/v1/tunnels/{name}/connector",
    tag = "CodeCourier",
    params(
        ("name" = String, Path),
        ("port" = u16, Query, description = "The port under which it is reachable inside"),
    ),
    responses(
        (status = 101, description = "The roles turn round"),
        (status = 409, description = "The name is taken", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn connector(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(name): PathSegment,
    QueryParams(query): QueryParams<ConnectorQuery>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let name: TunnelName =
        name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    if query.port == 0 {
        return Err(ApiError::bad_request("port must be 1 to 65535"));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| wants_upgrade(request.headers())).ok_or_else(|| {
        ApiError::bad_request(format!(
            "a connector asks over HTTP/1.1, with Connection: upgrade and Upgrade: \
             {CONNECTOR_PROTOCOL}"
        ))
    })?;
    if app.is_draining() {
        return Err(ApiError::unavailable("the server is shutting down", 1));
    }
    let slot = app.tunnels.reserve(&project.id, &name, query.port).map_err(refused)?;
    let stop = app.stop.clone();
    app.loops.spawn(async move {
        let served = serve(&name, upgrade, slot);
        let _stopped = stop.run_until_cancelled(served).await;
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(CONNECTOR_PROTOCOL)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// True where the request asks for our protocol and for no other.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::UPGRADE).iter();
    let wanted = values
        .next()
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(CONNECTOR_PROTOCOL.as_bytes()));
    wanted && values.next().is_none()
}

/// How a connector went.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("its connection did not turn into the protocol's")]
    Upgrade(#[from] hyper::Error),
    #[error("its connection did not turn into the protocol's in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error(transparent)]
    Connector(#[from] ConnectorError),
}

/// Serves a connector until it goes.
async fn serve(name: &TunnelName, upgrade: OnUpgrade, slot: Box<dyn TunnelSlot>) {
    let lost = lead(upgrade, slot).await.err();
    let error = lost.map(|lost| chain(&lost));
    tracing::info!(tunnel = %name, error, "a connector has gone");
}

async fn lead(upgrade: OnUpgrade, slot: Box<dyn TunnelSlot>) -> Result<(), Lost> {
    let upgraded = tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await??;
    slot.serve(Box::new(TokioIo::new(upgraded).compat())).await?;
    Ok(())
}

fn refused(error: ReserveError) -> ApiError {
    let text = error.to_string();
    match error {
        ReserveError::Operators { .. } | ReserveError::Connected { .. } => ApiError::conflict(text),
        ReserveError::Full { .. } => ApiError::too_many(text, FULL_RETRY_SECS),
    }
}

fn shown(tunnel: OfferedTunnel) -> Tunnel {
    let (kind, connected, since) = match tunnel.kind {
        TunnelKind::Node => (TunnelBy::Node, true, None),
        TunnelKind::Connector { connected, since } => {
            (TunnelBy::Connector, connected, Some(since.to_rfc3339()))
        }
    };
    let host = format!("{}.{TUNNEL_DOMAIN}", tunnel.name);
    Tunnel { name: tunnel.name.to_string(), host, port: tunnel.port, kind, connected, since }
}
