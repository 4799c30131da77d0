//! Connections to ports of a sandbox, byte by byte.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use courier_protocol::e2b::ErrorBody;
use courier_protocol::node::{ByteStream, NodeError};
use courier_protocol::v1::PORT_PROTOCOL;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, chain};
use crate::sandboxes::find_usable;

/// How long a connection may take to leave HTTP once it was told to.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes under way in each direction.
const BUFFER_BYTES: usize = 64 * 1_024;

/// Seconds after which it may be worth to ask again where there is no room.
const FULL_RETRY_SECS: u16 = 1;

/// Connect to a port of a sandbox: for `courier sandbox open`.
///
/// The answer is 101, and then the connection's bytes are those to and from the server inside that
/// listens on that port of the loopback interface.
#[utoipa::path(
    get,
    path = "/v1/sandboxes/{id}/ports/{port}",
    tag = "CodeCourier",
    params(("id" = String, Path), ("port" = u16, Path)),
    responses(
        (status = 101, description = "The bytes go through"),
        (status = 502, description = "Nothing listens on the port", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let Path((id, port)) = path.map_err(|wrong| ApiError::bad_request(wrong.body_text()))?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| ApiError::bad_request("port must be 1 to 65535"))?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| wants_upgrade(request.headers())).ok_or_else(|| {
        ApiError::bad_request(format!(
            "ask over HTTP/1.1, with Connection: upgrade and Upgrade: {PORT_PROTOCOL}"
        ))
    })?;
    let row = find_usable(&app, &project, &id).await?;
    let stream = app.node.connect(&row.spec.id, port).await.map_err(node_error)?;
    let stop = app.stop.clone();
    app.loops.spawn(async move {
        let _stopped = stop.run_until_cancelled(pass(upgrade, stream)).await;
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(PORT_PROTOCOL)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// True where the request asks for our protocol and for no other.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::UPGRADE).iter();
    let wanted = values
        .next()
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PORT_PROTOCOL.as_bytes()));
    wanted && values.next().is_none()
}

/// Lets bytes through until both directions have ended, or either side breaks off.
async fn pass(upgrade: OnUpgrade, server: Box<dyn ByteStream>) {
    let Ok(Ok(client)) = tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await else { return };
    let (mut client, mut server) = (TokioIo::new(client), server.compat());
    // An error breaks both off: they are dropped.
    let passed = tokio::io::copy_bidirectional_with_sizes(
        &mut client,
        &mut server,
        BUFFER_BYTES,
        BUFFER_BYTES,
    );
    if let Err(error) = passed.await {
        tracing::debug!(%error, "a connection to a port broke off");
    }
}

fn node_error(error: NodeError) -> ApiError {
    match error {
        NodeError::NotFound { .. } | NodeError::NotStarted { .. } => {
            ApiError::not_found("Sandbox not found: it has just ended")
        }
        NodeError::PortClosed { .. } => ApiError::port_closed(error.to_string()),
        NodeError::Full { what } => ApiError::too_many(what, FULL_RETRY_SECS),
        NodeError::Guest { .. } => ApiError::guest_failed(chain(&error)),
        NodeError::UnknownBuild { .. } | NodeError::Network { .. } | NodeError::Node(_) => {
            ApiError::internal(&error)
        }
    }
}
