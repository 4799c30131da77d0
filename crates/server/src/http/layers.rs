//! Layers around every handler: a panic becomes an answer, and nothing takes for ever.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use crate::http::ApiError;

/// Longest time until an answer begins. Beyond the longest create and the longest body together;
/// executions bound themselves by their own timeout.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);

/// Answers 500 where a handler panics. The panic hook has logged it by then.
pub(crate) async fn catch_panics(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_panic| ApiError::panicked().into_response())
}

/// Answers 504 where a handler has not begun its answer in time.
pub(crate) async fn limit_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await.unwrap_or_else(|_elapsed| {
        ApiError::gateway_timeout("the request took too long; whether it took effect is unknown")
            .into_response()
    })
}
