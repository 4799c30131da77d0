//! Query parameters and path segments, with our errors.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::http::ApiError;

/// Parsed query parameters.
#[derive(Debug)]
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let parsed: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, app).await;
        match parsed {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}

/// The one variable segment of the path, decoded.
#[derive(Debug)]
pub(crate) struct PathSegment(pub(crate) String);

impl FromRequestParts<Arc<App>> for PathSegment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let parsed: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, app).await;
        match parsed {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}

/// The two variable segments of the path, decoded.
#[derive(Debug)]
pub(crate) struct PathPair(pub(crate) String, pub(crate) String);

impl FromRequestParts<Arc<App>> for PathPair {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let parsed: Result<Path<(String, String)>, PathRejection> =
            Path::from_request_parts(parts, app).await;
        match parsed {
            Ok(Path((first, second))) => Ok(Self(first, second)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}
