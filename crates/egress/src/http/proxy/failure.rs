//! Why a request has no answer of the upstream's.

use http::StatusCode;

use super::super::outside::ConnectError;
use super::super::refusal::Refusal;
use crate::broker::BrokerError;

/// Why there is no answer to pass on.
pub(super) enum Failure {
    /// A fence refused.
    Refused(Refusal),
    /// The outside failed.
    Upstream(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error.refusal {
            Some(refusal) => {
                let fence = fence(&refusal.fence);
                Self::Refused(Refusal::new(StatusCode::BAD_GATEWAY, fence, refusal.why))
            }
            None => Self::Upstream(error.text),
        }
    }
}

/// The fence's name as a constant.
fn fence(name: &str) -> &'static str {
    ["address", "upstream_tls", "limit", "budget"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("policy")
}

pub(super) fn misplaced_token() -> Refusal {
    let why = "it carries a token that is not for this host, method and path";
    Refusal::new(StatusCode::FORBIDDEN, "token", why)
}

pub(super) fn refused_by_broker(error: &BrokerError) -> Refusal {
    let (status, fence) = match error {
        BrokerError::TokenMisplaced | BrokerError::TooManyTokens | BrokerError::Token(_) => {
            (StatusCode::FORBIDDEN, "token")
        }
        BrokerError::Secret { .. }
        | BrokerError::Value { .. }
        | BrokerError::Header { .. }
        | BrokerError::Redactor(_) => (StatusCode::BAD_GATEWAY, "credential"),
    };
    Refusal::new(status, fence, error.to_string())
}
