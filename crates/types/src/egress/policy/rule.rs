//! One rule.

use serde::{Deserialize, Serialize};

use super::error::PolicyError;
use super::{Destination, Method, PathPattern, PortRange};
use crate::egress::object::Object;

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets it pass.
    Allow,
    /// Refuses it.
    Deny,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP in clear, with the `Host` of an allowed name.
    Http,
    /// TLS with the server name of an allowed name; HTTP inside where it is opened.
    Https,
    /// Any bytes.
    Tcp,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Object<RuleBody>", into = "RuleBody")]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Where it is about.
    pub to: Destination,
    /// Which ports; none means: 80 for `http` and 443 for `https` where a host is allowed, else all.
    pub ports: Vec<PortRange>,
    /// What is spoken; none means: `http` and `https` where a host is allowed or there are methods
    /// or paths, else anything.
    pub protocols: Vec<Protocol>,
    /// Requests of these methods; none means all.
    pub methods: Vec<Method>,
    /// Requests of these paths; none means all.
    pub paths: Vec<PathPattern>,
}

/// A rule as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deny: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    protocols: Vec<Protocol>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<Method>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    paths: Vec<PathPattern>,
}

impl Rule {
    /// Most ports, protocols, methods or paths of one rule, or of one credential.
    pub const LIST_MAX: usize = 64;

    /// A rule about a destination, with nothing more said.
    #[must_use]
    pub const fn new(action: Action, to: Destination) -> Self {
        Self {
            action,
            to,
            ports: Vec::new(),
            protocols: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// True when the rule looks at requests, not only at connections.
    #[must_use]
    pub const fn is_about_requests(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty()
    }
}

impl TryFrom<Object<RuleBody>> for Rule {
    type Error = PolicyError;

    fn try_from(Object(body): Object<RuleBody>) -> Result<Self, PolicyError> {
        let (action, to) = match (body.allow, body.deny) {
            (Some(to), None) => (Action::Allow, to.parse()?),
            (None, Some(to)) => (Action::Deny, to.parse()?),
            (Some(_), Some(_)) | (None, None) => return Err(PolicyError::Action),
        };
        let RuleBody { ports, protocols, methods, paths, .. } = body;
        for (what, len) in [
            ("ports in one rule", ports.len()),
            ("protocols in one rule", protocols.len()),
            ("methods in one rule", methods.len()),
            ("paths in one rule", paths.len()),
        ] {
            if len > Rule::LIST_MAX {
                return Err(PolicyError::TooMany { what, max: Rule::LIST_MAX });
            }
        }
        let rule = Self { action, to, ports, protocols, methods, paths };
        if rule.is_about_requests() && rule.protocols.contains(&Protocol::Tcp) {
            let why = "methods and paths are of HTTP: a rule with them cannot be about \"tcp\"";
            return Err(PolicyError::Shape { why });
        }
        let allows_host = action == Action::Allow && matches!(rule.to, Destination::Host(_));
        if allows_host && rule.protocols.contains(&Protocol::Tcp) && rule.ports.is_empty() {
            return Err(PolicyError::Shape {
                why: "a rule that allows a host \"tcp\" names its \"ports\"",
            });
        }
        Ok(rule)
    }
}

impl From<Rule> for RuleBody {
    fn from(rule: Rule) -> Self {
        let to = Some(rule.to.to_string());
        let (allow, deny) = match rule.action {
            Action::Allow => (to, None),
            Action::Deny => (None, to),
        };
        let Rule { ports, protocols, methods, paths, .. } = rule;
        Self { allow, deny, ports, protocols, methods, paths }
    }
}
