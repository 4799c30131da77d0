//! A streamed execution: one JSON object per line, as things happen.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use courier_protocol::v1::ExecutionEvent;
use futures_util::stream;
use http::{HeaderValue, header};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::NDJSON;
use super::output::{Events, Kept};
use super::perform::perform;
use super::plan::Plan;
use crate::app::App;
use crate::http::ApiError;

/// Events that wait for a slow client; then the program waits too.
const QUEUE: usize = 64;

/// Begins the execution and answers once the sandbox is there: a failure before that is a plain
/// error answer.
pub(super) async fn respond(app: &Arc<App>, plan: Plan) -> Result<Response, ApiError> {
    let (queue, mut events) = mpsc::channel(QUEUE);
    let gone = CancellationToken::new();
    let until_read = gone.clone().drop_guard();
    let own = Arc::clone(app);
    let (failure, failed) = tokio::sync::oneshot::channel();
    app.work.spawn(async move {
        let kept = Kept::new(Events::Client(queue.clone()));
        let last = match perform(&own, plan, &gone, kept).await {
            Ok(answer) => ExecutionEvent::Ended { answer: Box::new(answer) },
            Err(error) => {
                let event = ExecutionEvent::Failed { error: error.body() };
                let _already_streaming = failure.send(error);
                event
            }
        };
        let _gone = queue.send(last).await;
    });
    let first = match events.recv().await {
        Some(ExecutionEvent::Failed { .. }) | None => {
            return Err(failed.await.unwrap_or_else(|_dropped| ApiError::panicked()));
        }
        Some(first) => first,
    };
    let lines = stream::unfold((Some(first), events, until_read), |state| async {
        let (first, mut events, until_read) = state;
        let event = match first {
            Some(event) => event,
            None => events.recv().await?,
        };
        Some((line(&event), (None, events, until_read)))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(response)
}

fn line(event: &ExecutionEvent) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line.into())
}
