//! `POST /v1/executions`: a fresh sandbox, one program, everything back.
//!
//! The whole of it is one task. The client's connection holds a guard; when it goes, the program is
//! given up. Whatever happens, the sandbox is killed at the end.

mod collect;
mod output;
mod perform;
mod plan;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use courier_protocol::e2b::ErrorBody;
use courier_protocol::v1::{ExecutionAnswer, ExecutionEvent, ExecutionRequest};
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::output::{Events, Kept};
use self::perform::perform;
use self::plan::Plan;
use super::NDJSON;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, LargeJsonBody, QueryParams};

/// Query of `POST /v1/executions`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExecutionQuery {
    /// True streams events as they happen, one JSON object per line; so does
    /// `Accept: application/x-ndjson`.
    stream: Option<bool>,
}

/// Run one program in a fresh sandbox and give everything back.
///
/// The sandbox is destroyed at the end, or when the client hangs up.
#[utoipa::path(
    post,
    path = "/v1/executions",
    tag = "CodeCourier",
    params(ExecutionQuery),
    request_body = ExecutionRequest,
    responses(
        (
            status = 200,
            description = "The program ran; `ended` says how it ended",
            content(
                (ExecutionAnswer = "application/json"),
                (ExecutionEvent = "application/x-ndjson"),
            )
        ),
        (status = "4XX", description = "Refused; nothing ran", body = ErrorBody),
        (status = "5XX", description = "Failed; nothing ran", body = ErrorBody),
    )
)]
pub(crate) async fn execute(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<ExecutionQuery>,
    headers: HeaderMap,
    LargeJsonBody(request): LargeJsonBody<ExecutionRequest>,
) -> Result<Response, ApiError> {
    let plan = Plan::new(&app, &project, request).await?;
    if query.stream.unwrap_or_else(|| accepts_ndjson(&headers)) {
        return stream::respond(&app, plan).await;
    }
    let gone = CancellationToken::new();
    let _until_answered = gone.clone().drop_guard();
    let own = Arc::clone(&app);
    let work =
        app.work.spawn(async move { perform(&own, plan, &gone, Kept::new(Events::Nobody)).await });
    let answer = work.await.map_err(|join| ApiError::internal(&join))??;
    Ok(Json(answer).into_response())
}

fn accepts_ndjson(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains(NDJSON))
}
