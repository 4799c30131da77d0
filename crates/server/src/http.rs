//! What every handler shares: errors, bodies, query parameters, layers.

mod base;
mod body;
mod error;
mod layers;
mod query;

pub(crate) use base::base_url;
pub(crate) use body::{JsonBody, LargeJsonBody, OptionalJsonBody};
pub(crate) use error::{ApiError, chain};
pub(crate) use layers::{ANSWER_TIMEOUT, catch_panics, limit_time};
pub(crate) use query::{PathPair, PathSegment, QueryParams};
