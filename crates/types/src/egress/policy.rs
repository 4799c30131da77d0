//! Egress policies as they are written: ordered rules, first match wins, default deny.
//!
//! How a policy decides is in crate `courier-egress`; here is only what a valid one is.

mod destination;
mod error;
mod port;
mod request;
mod rule;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::destination::Destination;
pub use self::error::PolicyError;
pub use self::port::PortRange;
pub use self::request::{Method, PathPattern};
pub use self::rule::{Action, Protocol, Rule};
use super::object::Object;
use super::{Credential, PresetName, TunnelName};

/// Most rules of one policy.
const RULES_MAX: usize = 20_000;
/// Most credentials, presets or tunnels of one policy.
const EXTRAS_MAX: usize = 256;

/// A policy as it is written. The empty one allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct Policy {
    /// The rules, the first match decides; what none matches is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Rules for package managers, made from the node's own configuration; they come after `rules`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<PresetName>,
    /// What is added to requests that the rules allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// Private tunnels that may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<TunnelName>,
    /// True: what is refused is recorded in more detail, so that an allow-list can be proposed.
    /// Nothing more is let through.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub learn: bool,
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(PolicyBody(policy)) = Object::deserialize(deserializer)?;
        Ok(policy)
    }
}

/// A policy as serde derives it.
struct PolicyBody(Policy);

impl<'de> Deserialize<'de> for PolicyBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Policy::deserialize(deserializer).map(Self)
    }
}

impl Policy {
    /// The policy that lets everything public through: E2B's default.
    #[must_use]
    pub fn internet() -> Self {
        let rules = vec![Rule::new(Action::Allow, Destination::Internet)];
        Self { rules, ..Self::default() }
    }

    /// Checks what no single part can: how many there are.
    ///
    /// # Errors
    /// A list is too long.
    pub fn check(&self) -> Result<(), PolicyError> {
        for (what, len, max) in [
            ("rules", self.rules.len(), RULES_MAX),
            ("presets", self.presets.len(), EXTRAS_MAX),
            ("credentials", self.credentials.len(), EXTRAS_MAX),
            ("tunnels", self.tunnels.len(), EXTRAS_MAX),
        ] {
            if len > max {
                return Err(PolicyError::TooMany { what, max });
            }
        }
        Ok(())
    }
}

/// Who laid down a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerSource {
    /// The template's build.
    Template,
    /// The sandbox: its create, or a later replacement, or the server's default.
    Sandbox,
}

impl fmt::Display for LayerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Template => "template",
            Self::Sandbox => "sandbox",
        })
    }
}

/// One policy of several that all must allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Whose it is.
    pub source: LayerSource,
    /// What it says, presets resolved into rules and credentials.
    pub policy: Policy,
}

/// Everything that decides for one sandbox: what every layer allows is allowed; without any layer,
/// nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Layers(pub Vec<Layer>);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_policy_survives_its_own_text() {
        let text = r#"{"rules":[{"allow":"api.example.com"},{"deny":"10.0.0.0/8"},{"allow":"8.8.8.8","ports":[53,"8000-8010"],"protocols":["tcp"]},{"allow":"*.example.com","methods":["GET"],"paths":["/a","/b/*"]},{"allow":"internet"}],"presets":["pypi"],"tunnels":["db"],"learn":true}"#;
        let policy = parse(text).unwrap();
        policy.check().unwrap();
        assert_eq!(serde_json::to_string(&policy).unwrap(), text);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            r#"{"rule":[]}"#,
            r#"[]"#,
            r#"[[{"allow":"internet"}]]"#,
            r#"{"rules":[["internet"]]}"#,
            r#"{"rules":[{}]}"#,
            r#"{"rules":[{"allow":"a.test","deny":"a.test"}]}"#,
            r#"{"rules":[{"allow":"a.test","port":1}]}"#,
            r#"{"rules":[{"allow":"*"}]}"#,
            r#"{"rules":[{"allow":"*.com"}]}"#,
            r#"{"rules":[{"allow":"::1"}]}"#,
            r#"{"rules":[{"allow":"::ffff:1.2.3.4"}]}"#,
            r#"{"rules":[{"allow":"10.0.0.1/8"}]}"#,
            r#"{"rules":[{"allow":"10.1"}]}"#,
            r#"{"rules":[{"allow":"010.0.0.1"}]}"#,
            r#"{"rules":[{"allow":"1.2.3.4/33"}]}"#,
            r#"{"rules":[{"allow":"a.test","ports":[0]}]}"#,
            r#"{"rules":[{"allow":"a.test","ports":["9-1"]}]}"#,
            r#"{"rules":[{"allow":"a.test","ports":["+1"]}]}"#,
            r#"{"rules":[{"allow":"a.test","methods":["CONNECT"]}]}"#,
            r#"{"rules":[{"allow":"a.test","paths":["/a/../b"]}]}"#,
            r#"{"rules":[{"allow":"a.test","paths":["/a%2fb"]}]}"#,
            r#"{"rules":[{"allow":"a.test","paths":["/a*"]}]}"#,
            r#"{"rules":[{"allow":"a.test","protocols":["tcp"]}]}"#,
            r#"{"rules":[{"allow":"a.test","protocols":["udp"]}]}"#,
            r#"{"rules":[{"allow":"1.1.1.1","protocols":["tcp"],"paths":["/"]}]}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let pattern: PathPattern = "/acme/*".parse().unwrap();
        assert!(pattern.matches("/acme/") && pattern.matches("/acme/x"));
        assert!(!pattern.matches("/acme") && !pattern.matches("/acme-evil/x"));
        assert!("/*".parse::<PathPattern>().unwrap().matches("/"));
    }
}
