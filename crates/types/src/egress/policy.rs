//! Egress policies as they are written: ordered rules, first match wins, default deny.
//!
//! How a policy decides is in crate `courier-egress`; here is only what a valid one is.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::object::Object;
use super::{Credential, HostError, HostPattern, PresetName, TunnelName};

/// Most rules of one policy.
pub(crate) const RULES_MAX: usize = 20_000;
/// Most credentials, presets or tunnels of one policy.
pub(crate) const EXTRAS_MAX: usize = 256;
/// Most ports, protocols, methods or paths of one rule.
pub(crate) const LIST_MAX: usize = 64;
/// Longest path pattern in characters.
const PATH_MAX: usize = 1_024;

/// Why a policy is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A destination that is neither a name, nor a network, nor `internet`.
    #[error(
        "{text:?} is no destination: write a host name, *.NAME, an IPv4 address or network, or \"internet\""
    )]
    Destination {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// An IPv6 address or network.
    #[error("{text:?}: sandboxes have no IPv6; only IPv4 addresses and networks can be named")]
    Ipv6 {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// A network with host bits.
    #[error("{text:?} has bits set behind its prefix: write {network}")]
    HostBits {
        /// The refused text, cut to 64 characters.
        text: String,
        /// What was probably meant.
        network: Ipv4Net,
    },
    /// A host name or pattern.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Not a port or range.
    #[error("{text:?} is no port or range of ports: write 1 to 65535, or \"8000-8010\"")]
    Port {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// Not a method.
    #[error("{text:?} is no HTTP method")]
    Method {
        /// The refused text, cut to 64 characters.
        text: String,
    },
    /// Not a path pattern.
    #[error("{text:?} is no path pattern: {why}")]
    Path {
        /// The refused text, cut to 64 characters.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A rule that both allows and denies, or neither.
    #[error("a rule has either \"allow\" or \"deny\"")]
    Action,
    /// A combination that cannot be enforced.
    #[error("{why}")]
    Shape {
        /// What would be right.
        why: &'static str,
    },
    /// A list that is too long.
    #[error("a policy has at most {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets it pass.
    Allow,
    /// Refuses it.
    Deny,
}

/// Where a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Names, and the addresses that our own DNS answers gave for them.
    Host(HostPattern),
    /// Addresses, whatever name led there.
    Net(Ipv4Net),
    /// Every public address and name.
    Internet,
}

impl FromStr for Destination {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text == "internet" {
            return Ok(Self::Internet);
        }
        if text.contains(':') {
            return Err(PolicyError::Ipv6 { text: cut(text) });
        }
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'/') {
            let net = text
                .parse::<Ipv4Net>()
                .ok()
                .or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
                .ok_or_else(|| PolicyError::Destination { text: cut(text) })?;
            return if net.trunc() == net {
                Ok(Self::Net(net))
            } else {
                Err(PolicyError::HostBits { text: cut(text), network: net.trunc() })
            };
        }
        Ok(Self::Host(text.parse()?))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern) => pattern.fmt(f),
            Self::Net(net) if net.prefix_len() == 32 => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Internet => f.write_str("internet"),
        }
    }
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

/// Ports from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "PortBody", into = "PortBody")]
pub struct PortRange {
    first: u16,
    last: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PortBody {
    One(u16),
    Range(String),
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 1, last: u16::MAX };

    /// One port; `None` for 0.
    #[must_use]
    pub const fn one(port: u16) -> Option<Self> {
        if port == 0 { None } else { Some(Self { first: port, last: port }) }
    }

    /// The first port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// True for a port in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl TryFrom<PortBody> for PortRange {
    type Error = PolicyError;

    fn try_from(body: PortBody) -> Result<Self, PolicyError> {
        let refused = |text: &str| PolicyError::Port { text: cut(text) };
        match body {
            PortBody::One(port) => Self::one(port).ok_or_else(|| refused(&port.to_string())),
            PortBody::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((&text, &text));
                let port = |text: &str| {
                    let digits = text.bytes().all(|b| b.is_ascii_digit());
                    text.parse().ok().filter(|port: &u16| digits && *port > 0)
                };
                let (first, last) = port(first).zip(port(last)).ok_or_else(|| refused(&text))?;
                if first > last { Err(refused(&text)) } else { Ok(Self { first, last }) }
            }
        }
    }
}

impl From<PortRange> for PortBody {
    fn from(range: PortRange) -> Self {
        if range.first == range.last {
            Self::One(range.first)
        } else {
            Self::Range(range.to_string())
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// An HTTP method, in capitals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(String);

impl Method {
    /// Longest method in characters.
    const MAX: usize = 32;

    /// The method as it is on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let name = text.to_ascii_uppercase();
        let ok = |b: u8| b.is_ascii_uppercase() || b == b'-';
        // CONNECT would open what no rule has judged.
        let refused = name.is_empty() || name.len() > Self::MAX || name == "CONNECT";
        if refused || !name.bytes().all(ok) {
            return Err(PolicyError::Method { text: cut(text) });
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for Method {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.0
    }
}

/// Which paths: one, or everything below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PathPattern {
    /// `/a/b`: this path only.
    Exact(String),
    /// `/a/*`: every path that begins with `/a/`; kept with its trailing slash.
    Below(String),
}

impl PathPattern {
    /// True when the pattern is about that path. The path must be canonical: see
    /// `courier-egress`, which makes it so or refuses it.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Below(prefix) => path.starts_with(prefix.as_str()),
        }
    }

    /// True when everything that `other` matches, this matches too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(path)) => self.matches(path),
            (Self::Below(prefix), Self::Below(other)) => other.starts_with(prefix.as_str()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl FromStr for PathPattern {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let refused = |why| PolicyError::Path { text: cut(text), why };
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (format!("{path}/"), true),
            None => (text.to_owned(), false),
        };
        if !path.starts_with('/') || path.len() > PATH_MAX {
            return Err(refused("it begins with '/' and has at most 1,024 characters"));
        }
        // The unreserved and sub-delimiter characters of RFC 3986 that no encoding changes.
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@".contains(&b);
        if !path.bytes().all(ok) {
            return Err(refused(
                "'*' stands last, after '/'; no query, no percent-encoding, no spaces",
            ));
        }
        if path.contains("//") || path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(refused("it has an empty or dot segment"));
        }
        Ok(if below { Self::Below(path) } else { Self::Exact(path) })
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
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
            if len > LIST_MAX {
                return Err(PolicyError::TooMany { what, max: LIST_MAX });
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
