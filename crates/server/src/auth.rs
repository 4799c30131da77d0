//! Who asks: an API key in `X-API-Key` or as a bearer token. Everything that the router puts behind
//! [`authenticate`] has a [`Caller`].

use std::fmt;
use std::sync::Arc;

use ::http::request::Parts;
use ::http::{HeaderMap, header};
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use courier_store::{KeyHash, ProjectRow};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::http::ApiError;
use crate::random;

/// Header with the key.
const KEY_HEADER: &str = "x-api-key";

/// Longest key that is hashed, in bytes: ours have 44.
const KEY_LEN_MAX: usize = 256;

/// An API key: `e2b_` and 40 hexadecimal digits, the form that every version of the SDKs accepts.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a new key.
    pub(crate) fn generate() -> Self {
        Self(format!("e2b_{}", random::api_key_digits()))
    }

    /// The key itself, to show it to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store keeps of it.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        hash(&self.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

fn hash(key: &str) -> KeyHash {
    KeyHash::new(Sha256::digest(key.as_bytes()).into())
}

/// The project that the request's key belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) ProjectRow);

/// Lets only requests with a valid key through, and tells the handlers whose it is.
pub(crate) async fn authenticate(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&app, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

async fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let key = presented_key(headers).ok_or_else(|| {
        ApiError::unauthorized("no API key: send the header X-API-Key (E2B_API_KEY of the SDKs)")
    })?;
    app.store.project_of_key(&hash(key)).await?.map(Caller).ok_or_else(|| {
        ApiError::unauthorized(
            "the API key is wrong or revoked: the file `api-key` in the server's data folder has one",
        )
    })
}

/// The key of `X-API-Key`, or else of a bearer token. A header that is there twice counts as none:
/// whoever stands before us may have looked at the other one.
fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let single = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_first| values.next().is_none())?.to_str().ok()
    };
    let key = if headers.contains_key(KEY_HEADER) {
        single(KEY_HEADER)
    } else {
        let (scheme, token) = single(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    };
    key.filter(|key| !key.is_empty() && key.len() <= KEY_LEN_MAX)
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        _app: &Arc<App>,
    ) -> Result<Self, Self::Rejection> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::unauthorized("this request was not authenticated"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_the_form_that_old_sdks_check() {
        let key = ApiKey::generate();
        let digits = key.expose().strip_prefix("e2b_").unwrap();
        assert_eq!(digits.len(), 40);
        assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
    }

    #[test]
    fn a_key_is_taken_from_one_header_only_and_never_from_two_of_a_kind() {
        let key = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            presented_key(&map).map(str::to_owned)
        };
        assert_eq!(key(&[("x-api-key", "a")]).as_deref(), Some("a"));
        assert_eq!(key(&[("authorization", "Bearer a")]).as_deref(), Some("a"));
        assert_eq!(key(&[("x-api-key", "a"), ("authorization", "Bearer b")]).as_deref(), Some("a"));
        for headers in [
            &[("x-api-key", "a"), ("x-api-key", "a")][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("x-api-key", ""), ("authorization", "Bearer a")],
            &[("authorization", "Basic a")],
        ] {
            assert_eq!(key(headers), None, "{headers:?}");
        }
    }
}
