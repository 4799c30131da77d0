//! The HTTP API that E2B's code-interpreter SDKs speak.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::context::Execution;
use crate::contexts::{Context, ContextError, Contexts, CreateError, NotFound};
use crate::environment::{Variables, VariablesError};
use crate::language::{Language, UnknownLanguage};
use crate::output::output;

/// The largest request, in bytes: code with data in it.
const LARGEST_REQUEST: usize = 64 * 1024 * 1024;

/// The API over these contexts.
pub(crate) fn router(contexts: Arc<Contexts>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/execute", post(execute))
        .route("/contexts", get(list).post(create))
        .route("/contexts/{id}/restart", post(restart))
        .route("/contexts/{id}", delete(remove))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .with_state(contexts)
}

/// Answers once the kernels do: whoever waits for this template asks once, and not again and again.
async fn health(State(contexts): State<Arc<Contexts>>) -> Json<&'static str> {
    contexts.started().await;
    Json("OK")
}

/// Clients send `null` for what they leave out.
#[derive(Debug, Deserialize)]
struct ExecuteBody {
    code: String,
    context_id: Option<String>,
    language: Option<String>,
    env_vars: Option<BTreeMap<String, String>>,
}

async fn execute(
    State(contexts): State<Arc<Contexts>>,
    Json(body): Json<ExecuteBody>,
) -> Result<Response, Refusal> {
    let (language, handle) = match (body.context_id, body.language) {
        (Some(_), Some(_)) => return Err(Refusal::Both),
        (Some(id), None) => contexts.find(&id)?,
        (None, language) => {
            let language = Language::parse(language.as_deref().unwrap_or("python"))?;
            (language, contexts.default_of(language).await?)
        }
    };
    let variables = Variables::parse(body.env_vars.unwrap_or_default(), language)?;
    let (output, lines) = output();
    handle.execute(Execution { code: body.code, variables, output })?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

#[derive(Debug, Deserialize)]
struct CreateBody {
    language: Option<String>,
    cwd: Option<String>,
}

async fn create(
    State(contexts): State<Arc<Contexts>>,
    Json(body): Json<CreateBody>,
) -> Result<Json<Context>, Refusal> {
    let language = Language::parse(body.language.as_deref().unwrap_or("python"))?;
    // A task of its own: a client that goes away leaves no context half made.
    let made = tokio::spawn(async move { contexts.create(language, body.cwd).await });
    Ok(Json(made.await.map_err(|_panicked| Refusal::Internal)??))
}

async fn list(State(contexts): State<Arc<Contexts>>) -> Json<Vec<Context>> {
    Json(contexts.list().await)
}

async fn restart(
    State(contexts): State<Arc<Contexts>>,
    Path(id): Path<String>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(contexts.restart(&id).await?))
}

async fn remove(
    State(contexts): State<Arc<Contexts>>,
    Path(id): Path<String>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(contexts.remove(&id)?))
}

/// Why a request is refused. Clients show the text.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("Only one of context_id or language can be provided")]
    Both,
    #[error("{0}")]
    Language(#[from] UnknownLanguage),
    #[error("{0}")]
    Variables(#[from] VariablesError),
    #[error("{0}")]
    NotFound(#[from] NotFound),
    #[error("{0}")]
    Busy(#[from] crate::context::Busy),
    #[error("{0}")]
    Create(#[from] CreateError),
    #[error("{0}")]
    Context(#[from] ContextError),
    #[error("the request could not be served")]
    Internal,
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Both
            | Self::Language(_)
            | Self::Variables(_)
            | Self::Create(CreateError::NoFolder(_)) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) | Self::Context(ContextError::NotFound(_)) => StatusCode::NOT_FOUND,
            Self::Busy(_) | Self::Create(CreateError::TooMany) => StatusCode::TOO_MANY_REQUESTS,
            Self::Create(CreateError::Start(_))
            | Self::Context(ContextError::Restart(_))
            | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}
