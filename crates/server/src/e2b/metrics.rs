//! Samples of what sandboxes use.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{ErrorBody, SandboxMetric, SandboxesWithMetrics};
use courier_store::SandboxRow;
use serde::Deserialize;

use super::answers::cpu_count;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, PathSegment, QueryParams};
use crate::reconcile::Sample;
use crate::sandboxes::find_usable;

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// Most sandboxes of one request.
const IDS_MAX: usize = 100;

/// Query of `GET /sandboxes/{sandboxID}/metrics`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct RangeQuery {
    /// Unix seconds of the first sample wanted.
    start: Option<i64>,
    /// Unix seconds of the last sample wanted.
    end: Option<i64>,
}

/// Query of `GET /sandboxes/metrics`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct IdsQuery {
    /// Comma-separated sandbox ids.
    sandbox_ids: String,
}

/// The samples of one sandbox, oldest first: one every 5 seconds, the last hour's.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandboxID}/metrics",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path), RangeQuery),
    responses(
        (status = 200, description = "Its samples", body = Vec<SandboxMetric>),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn of_one(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    QueryParams(query): QueryParams<RangeQuery>,
) -> Result<Json<Vec<SandboxMetric>>, ApiError> {
    if let (Some(start), Some(end)) = (query.start, query.end)
        && start > end
    {
        return Err(ApiError::bad_request("start must not be after end"));
    }
    let row = find_usable(&app, &project, &id).await?;
    let within = |metric: &SandboxMetric| {
        query.start.is_none_or(|start| metric.timestamp_unix >= start)
            && query.end.is_none_or(|end| metric.timestamp_unix <= end)
    };
    let samples = app.samples.of(&row.spec.id);
    Ok(Json(samples.iter().map(|sample| metric(&row, *sample)).filter(within).collect()))
}

/// The newest sample of each of many sandboxes.
#[utoipa::path(
    get,
    path = "/sandboxes/metrics",
    tag = "E2B sandboxes",
    params(IdsQuery),
    responses(
        (status = 200, description = "The samples that there are", body = SandboxesWithMetrics),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn of_many(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<IdsQuery>,
) -> Result<Json<SandboxesWithMetrics>, ApiError> {
    let ids: Vec<&str> = query.sandbox_ids.split(',').filter(|id| !id.is_empty()).collect();
    if ids.len() > IDS_MAX {
        return Err(ApiError::bad_request(format!("sandbox_ids takes at most {IDS_MAX} ids")));
    }
    let mut answer = SandboxesWithMetrics::default();
    for row in app.store.list_alive_of(&project.id).await? {
        let id = row.spec.id.as_str();
        if let Some(sample) = app.samples.newest(&row.spec.id).filter(|_| ids.contains(&id)) {
            answer.sandboxes.insert(id.to_owned(), metric(&row, sample));
        }
    }
    Ok(Json(answer))
}

fn metric(row: &SandboxRow, sample: Sample) -> SandboxMetric {
    let limits = row.spec.limits;
    let limit_cores = f64::from(limits.cpu_millis()) / 1_000.0;
    SandboxMetric {
        timestamp: sample.at.to_rfc3339(),
        timestamp_unix: sample.at.as_micros().div_euclid(1_000_000),
        cpu_count: cpu_count(limits),
        cpu_used_pct: (sample.cores / limit_cores * 10_000.0).round() / 100.0,
        mem_used: sample.usage.memory_bytes,
        mem_total: u64::from(limits.memory_mib()).saturating_mul(MIB),
        mem_cache: 0,
        disk_used: sample.usage.disk_bytes,
        disk_total: u64::from(limits.disk_mib()).saturating_mul(MIB),
    }
}
