//! Why something may or may not be reached.

use serde::{Deserialize, Serialize};

use super::{Protocol, Rule, SecretName};

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// A host name or an IPv4 address, as a user writes it.
    pub host: String,
    /// The port; absent: 80 for `http`, else 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What would be spoken; absent: `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The method of a request; absent: `GET` where a path is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// The answer: what the proxies would decide, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// True when all of it may be reached.
    pub allowed: bool,
    /// The questions that the proxies would ask, in order, to the first that is denied.
    pub steps: Vec<ExplainStep>,
    /// Secrets that would be added, by name.
    pub credentials: Vec<SecretName>,
    /// The smallest rule that would allow it, where the policy does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<Rule>,
}

/// One question of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainStep {
    /// The question in words.
    pub asked: String,
    /// `allow`, `deny` or `inspect`.
    pub verdict: String,
    /// The deciding rule of each layer, in words.
    pub reasons: Vec<String>,
}
