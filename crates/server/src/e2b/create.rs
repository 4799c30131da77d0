//! `POST /v2/sandboxes` and its deprecated sister.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{ErrorBody, NetworkConfig, NewSandbox, Sandbox};
use courier_protocol::v1::{EnvSecret, EnvValue, TOKEN_TTL_SECS_MAX};
use courier_types::egress::NameError;
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};

use super::network::{PublicTraffic, Wanted};
use super::{TIMEOUT_SECS, TIMEOUT_SECS_V1, answers};
use crate::app::App;
use crate::auth::Caller;
use crate::egress::{EgressError, check_ways};
use crate::http::{ApiError, JsonBody};
use crate::random;
use crate::sandboxes::{
    self, AdmissionError, AskedNetwork, CreateOrder, DataPlane, IdempotencyKey,
};

/// How a secret is written in an environment.
const SECRET: &str = "${e2b.secrets.";

/// Make a sandbox and return when it can be used.
///
/// It reaches nothing unless the request, the template or the operator says so. With an
/// `Idempotency-Key` the same request gives the same sandbox for 24 hours.
#[utoipa::path(
    post,
    path = "/v2/sandboxes",
    tag = "E2B sandboxes",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters of a-z, 0-9 and '-'")),
    request_body = NewSandbox,
    responses(
        (status = 201, description = "The sandbox runs", body = Sandbox),
        (status = "4XX", description = "Refused; nothing was made", body = ErrorBody),
        (status = "5XX", description = "Failed; nothing is left", body = ErrorBody),
    )
)]
pub(crate) async fn create_v2(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    headers: HeaderMap,
    body: JsonBody<NewSandbox>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    let key = idempotency_key(&headers, &body.bytes)?;
    let mut order = order(&app, &project, body.value, TIMEOUT_SECS).await?;
    order.idempotency = key;
    create(&app, order).await
}

/// Make a sandbox and return when it can be used (deprecated: use `/v2/sandboxes`).
///
/// The default timeout is 15 seconds, and the data plane is open unless `secure` is true.
#[utoipa::path(
    post,
    path = "/sandboxes",
    tag = "E2B sandboxes",
    request_body = NewSandbox,
    responses(
        (status = 201, description = "The sandbox runs", body = Sandbox),
        (status = "4XX", description = "Refused; nothing was made", body = ErrorBody),
        (status = "5XX", description = "Failed; nothing is left", body = ErrorBody),
    )
)]
pub(crate) async fn create_v1(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    body: JsonBody<NewSandbox>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    let guarded = body.value.secure == Some(true);
    let mut order = order(&app, &project, body.value, TIMEOUT_SECS_V1).await?;
    order.data_plane = if guarded { DataPlane::Guarded } else { DataPlane::Open };
    create(&app, order).await
}

async fn create(
    app: &Arc<App>,
    order: CreateOrder,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    let row = sandboxes::create(app, order).await.map_err(|error| ApiError::from(&*error))?;
    Ok((StatusCode::CREATED, Json(answers::sandbox(app, &row).await?)))
}

async fn order(
    app: &App,
    project: &courier_store::ProjectRow,
    request: NewSandbox,
    default_timeout_secs: i64,
) -> Result<CreateOrder, ApiError> {
    if let Some(field) = request.first_unmet() {
        return Err(ApiError::not_in_this_version(&format!("what {field:?} asks for")));
    }
    let timeout = seconds(request.timeout.unwrap_or(default_timeout_secs))?;
    let wanted = Wanted::of_create(request.network, request.allow_internet_access)?;
    let env = request.env_vars.unwrap_or_default().into_iter().map(env_value);
    let env = env.collect::<Result<_, ApiError>>()?;
    let order = CreateOrder::new(app, project, &request.template_id, timeout)
        .await?
        .with_egress(app, wanted.asked.clone())
        .await?
        .with_env(app, env)
        .await?
        .with_metadata(request.metadata.unwrap_or_default())?
        .with_volumes(app, &request.volume_mounts.unwrap_or_default())
        .await?;
    Ok(with_network(order, wanted)?)
}

/// Gives an order what else was asked of its network.
fn with_network(mut order: CreateOrder, wanted: Wanted) -> Result<CreateOrder, EgressError> {
    let network = &mut order.sealed.network;
    network.upstream_proxy = wanted.proxy;
    network.dns_servers = wanted.dns_servers;
    network.mask_request_host = wanted.mask_request_host;
    network.https_ports = wanted.https_ports;
    network.traffic_token = match wanted.public_traffic {
        PublicTraffic::Guarded => Some(random::access_token()),
        PublicTraffic::Open => None,
    };
    let config = Some(wanted.shown).filter(|shown| *shown != NetworkConfig::default());
    order.sealed.asked = AskedNetwork { config, internet: wanted.internet };
    check_ways(&order.sealed.network)?;
    Ok(order)
}

/// A variable of the environment. What stands for a secret and nothing else becomes a token, which
/// lives as long as any token may: it ends with its sandbox anyway, and this wire has no way to say.
fn env_value((variable, text): (String, String)) -> Result<(String, EnvValue), ApiError> {
    let name = text.strip_prefix(SECRET).and_then(|rest| rest.strip_suffix('}'));
    let Some(name) = name else { return Ok((variable, EnvValue::Text(text))) };
    let secret = name
        .parse()
        .map_err(|error: NameError| ApiError::bad_request(format!("envVars: {error}")))?;
    Ok((variable, EnvValue::Secret(EnvSecret { secret, ttl_seconds: Some(TOKEN_TTL_SECS_MAX) })))
}

/// A span from the wire's seconds; zero and less is refused as zero is.
pub(crate) fn seconds(seconds: i64) -> Result<Duration, AdmissionError> {
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or(AdmissionError::TimeoutZero)
}

fn idempotency_key(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, AdmissionError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map_err(|_not_ascii| AdmissionError::IdempotencyKey)?;
    IdempotencyKey::parse(key, random::hex(&Sha256::digest(body))).map(Some)
}
