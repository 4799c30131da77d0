//! `GET /v1/info`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::envd;
use courier_protocol::v1::Info;
use courier_types::Limits;

use crate::app::App;

/// What this installation is: version, isolation, ranges of the limits.
#[utoipa::path(
    get,
    path = "/v1/info",
    tag = "CodeCourier",
    responses((status = 200, description = "What it is", body = Info))
)]
pub(crate) async fn info(State(app): State<Arc<App>>) -> Json<Info> {
    let limits = [
        Limits::MEMORY_MIB,
        Limits::CPU_MILLIS,
        Limits::PIDS,
        Limits::DISK_MIB,
        Limits::OPEN_FILES,
    ];
    Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        isolation: app.node_info.isolation.to_string(),
        technology: app.node_info.technology.clone(),
        envd_version: envd::VERSION.to_owned(),
        domain: app.config.domain.clone(),
        limits: limits.into_iter().map(Into::into).collect(),
        timeout_ms_max: u64::try_from(app.config.timeout_max.as_millis()).unwrap_or(u64::MAX),
        sandboxes_max: app.config.sandboxes_max,
    })
}
