//! Layers around every handler: a panic becomes an answer, and nothing takes for ever.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{Request, State};
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
pub(crate) async fn limit_time(
    State(limit): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_elapsed| {
        ApiError::gateway_timeout("the request took too long; whether it took effect is unknown")
            .into_response()
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::{from_fn, from_fn_with_state};
    use axum::routing::get;
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::*;

    async fn status(path: &str) -> StatusCode {
        let router = Router::new()
            .route("/panic", get(|| async { panic!("a test asked for it") as &str }))
            .route("/hang", get(std::future::pending::<&str>))
            .route("/ok", get(|| async { "ok" }))
            .layer(from_fn_with_state(Duration::from_millis(20), limit_time))
            .layer(from_fn(catch_panics));
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_handler_that_panics_or_hangs_gets_an_answer_all_the_same() {
        assert_eq!(status("/panic").await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status("/hang").await, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(status("/ok").await, StatusCode::OK);
    }
}
