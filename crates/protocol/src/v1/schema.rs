//! Egress policies in the OpenAPI document. The types that are parsed are in `courier-types`, which
//! knows no documents; these only describe their JSON.

use serde::Serialize;
use utoipa::ToSchema;

/// What may be reached. The empty policy allows nothing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Policy {
    /// The rules, in order: the first match decides; what none matches is refused.
    pub rules: Option<Vec<Rule>>,
    /// Rules for package managers, made from the node's own configuration; they come after `rules`.
    pub presets: Option<Vec<String>>,
    /// What is added to requests that the rules allow. Grants nothing by itself.
    pub credentials: Option<Vec<Credential>>,
    /// Private tunnels that may be used: names of `GET /v1/tunnels`.
    pub tunnels: Option<Vec<String>>,
    /// True: what is refused is recorded in more detail, for a proposal.
    pub learn: Option<bool>,
}

/// One rule: either `allow` or `deny`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = EgressRule)]
pub struct Rule {
    /// A host name, `*.NAME`, an IPv4 address or network, or `internet`.
    pub allow: Option<String>,
    /// The same.
    pub deny: Option<String>,
    /// Ports and ranges: `443`, `"8000-8010"`.
    #[schema(value_type = Option<Vec<Value>>)]
    pub ports: Option<Vec<String>>,
    /// `http`, `https`, `tcp`.
    pub protocols: Option<Vec<String>>,
    /// Methods of HTTP.
    pub methods: Option<Vec<String>>,
    /// Paths: `/a/b`, or `/a/*` for everything below.
    pub paths: Option<Vec<String>>,
}

/// One credential.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = EgressCredential)]
pub struct Credential {
    /// A host name, or `*.NAME`.
    pub host: String,
    /// Ports; 443 when absent.
    #[schema(value_type = Option<Vec<Value>>)]
    pub ports: Option<Vec<String>>,
    /// To requests of these methods only.
    pub methods: Option<Vec<String>>,
    /// To requests of these paths only.
    pub paths: Option<Vec<String>>,
    /// Name of the secret; not with `header`, whose value names its secrets.
    pub secret: Option<String>,
    /// How it is added: one of `{"bearer": {}}`, `{"basic": {"username": "…"}}`,
    /// `{"header": {"name": "…", "value": "… ${secrets.NAME} …"}}`, `{"placeholder": {}}`.
    #[schema(value_type = Object)]
    pub r#as: String,
}

/// One policy of several that all must allow.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = EgressLayer)]
pub struct Layer {
    /// Who laid it down: `template` or `sandbox`.
    pub source: String,
    /// What it says.
    pub policy: Policy,
}

/// What somebody wants to know.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ExplainRequest {
    /// A host name or an IPv4 address.
    pub host: String,
    /// The port; absent: 80 for `http`, else 443.
    pub port: Option<u16>,
    /// `http`, `https` (when absent) or `tcp`.
    pub protocol: Option<String>,
    /// The method of a request.
    pub method: Option<String>,
    /// The path of a request.
    pub path: Option<String>,
}

/// What the sandbox's proxies would decide, and why.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Explanation {
    /// True when all of it may be reached.
    pub allowed: bool,
    /// The questions that the proxies would ask, in order, to the first that is denied.
    pub steps: Vec<ExplainStep>,
    /// Secrets that would be added, by name.
    pub credentials: Vec<String>,
    /// The smallest rule that would allow it, where the policy does not.
    pub would_allow: Option<Rule>,
}

/// One question of several.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ExplainStep {
    /// The question in words.
    pub asked: String,
    /// `allow`, `deny` or `inspect`.
    pub verdict: String,
    /// The deciding rule of each layer, in words.
    pub reasons: Vec<String>,
}

/// Some records of the flow log, in order.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FlowPage {
    /// The records, oldest first: `seq`, `at`, `event` and what belongs to that event.
    #[schema(value_type = Vec<Object>)]
    pub flows: Vec<String>,
    /// How many fell out of the log's bound before the first of them.
    pub missed: u64,
}
