//! The HTTP API for the content of files: `GET` and `POST /files`, `POST /files/compose`.
//!
//! Tokens and signatures are checked on the host; here they are not looked at. A user is named by
//! the query, by Basic authorization, or is the default one.

mod compose;
mod conditions;
pub(crate) mod disposition;
pub(crate) mod download;
pub(crate) mod error;
mod gzip;
pub(crate) mod incoming;
pub(crate) mod metadata;
pub(crate) mod multipart;
pub(crate) mod query;
mod reader;
mod sink;
mod upload;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};

use crate::context::Context;
use crate::filesystem::error::FilesystemError;
use crate::http::{self as answers, Request, Response};
use crate::path;
use crate::rpc::basic_username;

use error::FilesError;
use incoming::Incoming;
use query::Query;

/// Path of downloads and uploads.
pub(crate) const FILES_PATH: &str = "/files";

/// Path of compositions.
pub(crate) const COMPOSE_PATH: &str = "/files/compose";

/// Answers a request to [`FILES_PATH`] or [`COMPOSE_PATH`].
pub(crate) async fn handle(context: &Context, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut incoming = Incoming::new(body);
    let allowed = match (head.uri.path(), &head.method) {
        (COMPOSE_PATH, &Method::POST)
        | (FILES_PATH, &Method::GET | &Method::HEAD | &Method::POST) => None,
        (COMPOSE_PATH, _) => Some("POST"),
        _ => Some("GET, HEAD, POST"),
    };
    if let Some(allowed) = allowed {
        let mut response =
            answers::error(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    match dispatch(context, &head, &mut incoming).await {
        Ok(response) => response,
        Err(error) => {
            if !matches!(error, FilesError::CutOff(_) | FilesError::Stalled) {
                incoming.drain().await;
            }
            error.answer()
        }
    }
}

async fn dispatch(
    context: &Context,
    head: &Parts,
    incoming: &mut Incoming,
) -> Result<Response, FilesError> {
    let query = query::parse(head.uri.query().unwrap_or_default())?;
    let username = query.username.clone().filter(|name| !name.is_empty());
    let username = username.or_else(|| basic_username(&head.headers));
    if head.uri.path() == COMPOSE_PATH {
        return compose::compose(context, username, incoming).await;
    }
    let user = context.user(username.as_deref())?;
    if head.method == Method::POST {
        return upload::upload(context, user, query, head, incoming).await;
    }
    let Query { path, .. } = query;
    let path =
        path::resolve(&path.unwrap_or_default(), &user.home).map_err(FilesystemError::from)?;
    download::download(path, &head.method, &head.headers).await
}

#[cfg(test)]
mod tests;
