//! The flow log of a sandbox, as a page or as a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use courier_protocol::e2b::ErrorBody;
use courier_protocol::node::NodeError;
use courier_protocol::v1::{FlowLine, FlowNotice, schema};
use courier_types::SandboxId;
use courier_types::egress::FlowPage;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use serde::Deserialize;

use super::NDJSON;
use super::egress::node_error;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, PathSegment, QueryParams, chain};
use crate::sandboxes::find_made;

/// Records of a page when nobody says.
const LIMIT: usize = 100;

/// Most records of a page.
const LIMIT_MAX: usize = 1_000;

/// After how long without a record a stream says that it is still there: that is also when it
/// notices a client that has gone.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How much longer than that a node may take to say that there is nothing.
const GRACE: Duration = Duration::from_secs(10);

/// Query of `GET /v1/sandboxes/{id}/egress/flows`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FlowsQuery {
    /// Number of the last record that is known already; 0 when absent.
    after: u64,
    /// Records of a page, 1 to 1,000; 100 when absent.
    limit: Option<usize>,
    /// True streams records as they are written, one JSON object per line, until the sandbox ends.
    follow: bool,
}

/// What a sandbox reached, and what it was refused.
///
/// Every DNS question, connection, request and refusal. The log is bounded: `missed` says how many
/// records fell out of it unread.
#[utoipa::path(
    get,
    path = "/v1/sandboxes/{id}/egress/flows",
    tag = "CodeCourier",
    params(("id" = String, Path), FlowsQuery),
    responses(
        (
            status = 200,
            description = "Records, oldest first",
            content(
                (schema::FlowPage = "application/json"),
                (FlowLine = "application/x-ndjson"),
            )
        ),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn flows(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    QueryParams(query): QueryParams<FlowsQuery>,
) -> Result<Response, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(ApiError::bad_request(format!("limit must be 1 to {LIMIT_MAX}")));
    }
    // The logs of the sandboxes that ended last are there still.
    let row = find_made(&app, &project, &id).await?;
    let reader = Reader { app, id: row.spec.id, after: query.after, limit };
    if query.follow {
        return Ok(reader.follow());
    }
    Ok(Json(reader.read(Duration::ZERO).await?).into_response())
}

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
enum FlowsError {
    #[error("the node does not give the flow log")]
    Node(#[from] NodeError),
    #[error("the node did not give the flow log in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("a record is no JSON")]
    Json(#[from] serde_json::Error),
}

impl From<FlowsError> for ApiError {
    fn from(error: FlowsError) -> Self {
        match error {
            FlowsError::Node(error) => node_error(error),
            FlowsError::Late(_) => Self::gateway_timeout(error.to_string()),
            FlowsError::Json(_) => Self::internal(&error),
        }
    }
}

/// Reads on and on.
struct Reader {
    app: Arc<App>,
    id: SandboxId,
    after: u64,
    limit: usize,
}

impl Reader {
    /// The next records, for which the node waits so long where there are none.
    async fn read(&self, wait: Duration) -> Result<FlowPage, FlowsError> {
        let asked = self.app.node.flows(&self.id, self.after, self.limit, wait);
        Ok(tokio::time::timeout(wait.saturating_add(GRACE), asked).await??)
    }

    /// The stream. A failure cuts it off, which clients see; an end says so.
    fn follow(self) -> Response {
        let stop = self.app.stop.clone();
        let lines = stream::try_unfold(Some(self), |reader| async {
            let Some(mut reader) = reader else { return Ok(None) };
            let (bytes, more) = reader.lines().await.inspect_err(|error| {
                tracing::warn!(sandbox = %reader.id, error = chain(error), "a flow log broke off");
            })?;
            Ok::<_, FlowsError>(Some((bytes, more.then_some(reader))))
        });
        let lines = lines.take_until(stop.cancelled_owned());
        let mut response = Response::new(Body::from_stream(lines));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
        response
    }

    /// The next lines, at least one, and whether there may be more.
    async fn lines(&mut self) -> Result<(Bytes, bool), FlowsError> {
        let mut bytes = Vec::new();
        let page = match self.read(ALIVE_EVERY).await {
            Err(FlowsError::Node(NodeError::NotFound { .. })) => {
                write_line(&mut bytes, FlowLine::Notice(FlowNotice::Ended))?;
                return Ok((bytes.into(), false));
            }
            page => page?,
        };
        if page.missed > 0 {
            let missed = FlowNotice::Missed { count: page.missed };
            write_line(&mut bytes, FlowLine::Notice(missed))?;
        }
        for flow in page.flows {
            self.after = flow.seq;
            write_line(&mut bytes, FlowLine::Flow(flow))?;
        }
        if bytes.is_empty() {
            write_line(&mut bytes, FlowLine::Notice(FlowNotice::Alive))?;
        }
        Ok((bytes.into(), true))
    }
}

fn write_line(bytes: &mut Vec<u8>, line: FlowLine) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *bytes, &line)?;
    bytes.push(b'\n');
    Ok(())
}
