//! Requests, counted and timed around the whole router.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, StatusCode};

use crate::app::App;

/// Counts and times a request, up to its answer's head.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = known(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().replace('{', ":").replace('}', ""));
    let response = next.run(request).await;
    let series = &app.telemetry.series;
    let status = response.status();
    series.requests.with_label_values(&[method, &route, status.as_str()]).inc();
    // A method that a route does not have is one counter, not a histogram of its own: there are many
    // of those, and anybody may ask with them.
    if status != StatusCode::METHOD_NOT_ALLOWED {
        let seconds = begun.elapsed().as_secs_f64();
        series.request_seconds.with_label_values(&[method, &route]).observe(seconds);
    }
    response
}

/// The method, where it is one that some route has: a client may invent others.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
