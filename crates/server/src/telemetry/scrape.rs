//! `GET /metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use courier_protocol::e2b::ErrorBody;
use http::header;
use prometheus::{IntGauge, TEXT_FORMAT, TextEncoder};

use super::series::{ALIVE, NodeSeries, Series, alive_state};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, chain};

/// The server's figures in Prometheus' text format.
///
/// They are of the whole server, whichever project's key asks.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "CodeCourier",
    responses(
        (status = 200, description = "The figures", content_type = "text/plain", body = String),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    Caller(_any): Caller,
) -> Result<Response, ApiError> {
    read(&app).await?;
    let text = TextEncoder::new()
        .encode_to_string(&app.telemetry.series.registry.gather())
        .map_err(|error| ApiError::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// Reads what is, as against what has happened.
async fn read(app: &App) -> Result<(), ApiError> {
    let series = &app.telemetry.series;
    let mut states = BTreeMap::from(ALIVE.map(|state| (state, 0)));
    for row in app.store.list_alive().await? {
        if let Some(count) = alive_state(row.observed).and_then(|state| states.get_mut(state)) {
            *count += 1;
        }
    }
    for (state, count) in states {
        series.sandboxes.with_label_values(&[state]).set(count);
    }
    set(&series.builds_under_way, app.builds.sandboxes().len());
    node(app, &series.node);
    disk(app, series);
    Ok(())
}

fn node(app: &App, series: &NodeSeries) {
    match app.node.room() {
        Ok(room) => {
            set(&series.sandboxes, room.sandboxes);
            set(&series.sandboxes_max, room.sandboxes_max);
            set(&series.memory_limits, room.memory_limits_bytes);
            set(&series.memory_limits_max, room.memory_limits_max_bytes);
            set(&series.memory_available, room.memory_available_bytes);
            set(&series.memory_total, room.memory_total_bytes);
        }
        Err(error) => tracing::warn!(error = chain(&error), "the node does not say its room"),
    }
}

fn disk(app: &App, series: &Series) {
    match rustix::fs::statvfs(&app.data) {
        Ok(disk) => {
            set(&series.disk_free, disk.f_bavail.saturating_mul(disk.f_frsize));
            set(&series.disk_total, disk.f_blocks.saturating_mul(disk.f_frsize));
        }
        Err(error) => tracing::warn!(%error, "the disk of the data folder does not say its room"),
    }
}

fn set(gauge: &IntGauge, value: impl TryInto<i64>) {
    gauge.set(value.try_into().unwrap_or(i64::MAX));
}
