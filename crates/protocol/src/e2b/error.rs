//! The body of every error.

use serde::{Deserialize, Serialize};

/// What every answer with a status of 400 or more carries. The JavaScript SDK decides by
/// [`Self::code`], not by the HTTP status, so an error never goes without this body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The HTTP status again.
    pub code: u16,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// A stable name of the error, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}
