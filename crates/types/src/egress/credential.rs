//! Credentials: which secret is added where, on the way out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::object::Object;
use super::{HostPattern, Method, NameError, PathPattern, PortRange, Rule, SecretName};

/// Longest header name in characters (the E2B API's limit).
const HEADER_NAME_MAX: usize = 64;
/// Longest header template in characters (the E2B API's limit).
const TEMPLATE_MAX: usize = 2_048;
/// How a secret is written in a template.
const OPEN: &str = "${secrets.";

/// Headers that a credential may not set: they decide what a request asks for, where it goes or
/// where it ends. A method or path that some server takes from a header would be none that any rule
/// has judged.
const FORBIDDEN_HEADERS: [&str; 18] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Why a credential is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not a header's name, or of a header that a credential may not set.
    #[error("a credential cannot set header {name:?}: {why}")]
    Header {
        /// The refused name, cut to 64 characters.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Not a template.
    #[error("the header value is no template: {why}")]
    Template {
        /// What is wrong.
        why: &'static str,
    },
    /// A user name that cannot be in a basic credential.
    #[error("a basic credential's user name has no ':' and no control characters")]
    Username,
    /// A secret's name.
    #[error(transparent)]
    Secret(#[from] NameError),
    /// `secret` beside a header template, or none where one is needed.
    #[error("{why}")]
    Shape {
        /// What would be right.
        why: &'static str,
    },
}

/// A header's value with secrets in it: text in which `${secrets.NAME}` stands for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Vec<TemplatePart>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// This text: visible ASCII, spaces and tabs.
    Text(String),
    /// The value of this secret.
    Secret(SecretName),
}

impl Template {
    /// Its pieces, in order.
    #[must_use]
    pub fn parts(&self) -> &[TemplatePart] {
        &self.0
    }

    /// The secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().filter_map(|part| match part {
            TemplatePart::Secret(name) => Some(name),
            TemplatePart::Text(_) => None,
        })
    }
}

impl FromStr for Template {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let refused = |why| CredentialError::Template { why };
        if text.len() > TEMPLATE_MAX {
            return Err(refused("it is longer than 2,048 characters"));
        }
        if !text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            return Err(refused("it has characters that a header cannot carry"));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (name, behind) =
                after.split_once('}').ok_or_else(|| refused("a '${secrets.' has no '}'"))?;
            if !before.is_empty() {
                parts.push(TemplatePart::Text(before.to_owned()));
            }
            parts.push(TemplatePart::Secret(name.parse()?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl TryFrom<String> for Template {
    type Error = CredentialError;

    fn try_from(text: String) -> Result<Self, CredentialError> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => f.write_str(text),
            TemplatePart::Secret(name) => write!(f, "{OPEN}{name}}}"),
        })
    }
}

/// How a secret gets into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Injection {
    /// This header gets this value; what the guest had put there is dropped.
    Header {
        /// Its name, in lower case.
        name: String,
        /// Its value.
        value: Template,
    },
    /// `Authorization: Bearer VALUE`.
    Bearer {
        /// Whose value.
        secret: SecretName,
    },
    /// `Authorization: Basic base64(USERNAME:VALUE)`.
    Basic {
        /// The user name before the colon.
        username: String,
        /// Whose value comes after it.
        secret: SecretName,
    },
    /// A short-lived token that the guest holds is exchanged for the value, in header values and in
    /// basic credentials.
    Placeholder {
        /// Whose value.
        secret: SecretName,
    },
}

impl Injection {
    /// The secrets in it.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretName> {
        match self {
            Self::Header { value, .. } => value.secrets().collect(),
            Self::Bearer { secret } | Self::Basic { secret, .. } | Self::Placeholder { secret } => {
                vec![secret]
            }
        }
    }
}

/// One credential: where, and what is added there. It grants nothing: the policy's rules must allow
/// the request as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Object<CredentialBody>", into = "CredentialBody")]
pub struct Credential {
    /// At which hosts.
    pub host: HostPattern,
    /// On which ports; none means 443 (an HTTP request in clear never gets a credential).
    pub ports: Vec<PortRange>,
    /// To requests of these methods; none means all.
    pub methods: Vec<Method>,
    /// To requests of these paths; none means all.
    pub paths: Vec<PathPattern>,
    /// What is added.
    pub injection: Injection,
}

/// A credential as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialBody {
    host: HostPattern,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<Method>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    paths: Vec<PathPattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SecretName>,
    r#as: AsBody,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AsBody {
    Header(Object<HeaderBody>),
    Bearer(Object<NothingBody>),
    Basic(Object<BasicBody>),
    Placeholder(Object<NothingBody>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderBody {
    name: String,
    value: Template,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicBody {
    username: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NothingBody {}

impl TryFrom<Object<CredentialBody>> for Credential {
    type Error = CredentialError;

    fn try_from(Object(body): Object<CredentialBody>) -> Result<Self, CredentialError> {
        let injection = match (body.r#as, body.secret) {
            (AsBody::Header(Object(HeaderBody { name, value })), None) => {
                Injection::Header { name: header_name(&name)?, value }
            }
            (AsBody::Header(_), Some(_)) => {
                let why =
                    "a header's secrets are in its value, as ${secrets.NAME}: leave out \"secret\"";
                return Err(CredentialError::Shape { why });
            }
            (AsBody::Bearer(_), Some(secret)) => Injection::Bearer { secret },
            (AsBody::Placeholder(_), Some(secret)) => Injection::Placeholder { secret },
            (AsBody::Basic(Object(BasicBody { username })), Some(secret)) => {
                if username.contains(':') || username.chars().any(char::is_control) {
                    return Err(CredentialError::Username);
                }
                Injection::Basic { username, secret }
            }
            (AsBody::Bearer(_) | AsBody::Placeholder(_) | AsBody::Basic(_), None) => {
                let why = "the credential needs a \"secret\"";
                return Err(CredentialError::Shape { why });
            }
        };
        let CredentialBody { host, ports, methods, paths, .. } = body;
        if ports.len().max(methods.len()).max(paths.len()) > Rule::LIST_MAX {
            let why = "a credential has at most 64 ports, methods or paths";
            return Err(CredentialError::Shape { why });
        }
        Ok(Self { host, ports, methods, paths, injection })
    }
}

impl From<Credential> for CredentialBody {
    fn from(credential: Credential) -> Self {
        let (r#as, secret) = match credential.injection {
            Injection::Header { name, value } => {
                (AsBody::Header(Object(HeaderBody { name, value })), None)
            }
            Injection::Bearer { secret } => (AsBody::Bearer(Object(NothingBody {})), Some(secret)),
            Injection::Basic { username, secret } => {
                (AsBody::Basic(Object(BasicBody { username })), Some(secret))
            }
            Injection::Placeholder { secret } => {
                (AsBody::Placeholder(Object(NothingBody {})), Some(secret))
            }
        };
        let Credential { host, ports, methods, paths, .. } = credential;
        Self { host, ports, methods, paths, secret, r#as }
    }
}

/// The canonical name of a header that a credential may set.
fn header_name(text: &str) -> Result<String, CredentialError> {
    let refused = |why| CredentialError::Header { name: text.chars().take(64).collect(), why };
    let name = text.to_ascii_lowercase();
    // RFC 9110, section 5.6.2.
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > HEADER_NAME_MAX || !name.bytes().all(token) {
        return Err(refused("a header's name has 1 to 64 letters, digits and '-'"));
    }
    // To servers that hand headers on as variables, '-' and '_' are one.
    if FORBIDDEN_HEADERS.contains(&name.replace('_', "-").as_str()) {
        return Err(refused("it decides what a request asks for, where it goes or where it ends"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Credential, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_credential_survives_its_own_text() {
        for text in [
            r#"{"host":"api.example.com","secret":"a","as":{"bearer":{}}}"#,
            r#"{"host":"*.example.com","ports":[8443],"methods":["GET"],"paths":["/v1/*"],"secret":"a","as":{"basic":{"username":"x"}}}"#,
            r#"{"host":"api.example.com","as":{"header":{"name":"x-key","value":"k ${secrets.a}.${secrets.b}"}}}"#,
            r#"{"host":"api.example.com","secret":"a","as":{"placeholder":{}}}"#,
        ] {
            assert_eq!(serde_json::to_string(&parse(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn a_credential_cannot_move_a_request_or_its_end() {
        for name in [
            "Host",
            "Content-Length",
            "transfer-encoding",
            "Transfer_Encoding",
            "X-HTTP-Method-Override",
            "x_original-url",
            "a b",
            "",
        ] {
            let text = format!(
                r#"{{"host":"a.test","as":{{"header":{{"name":{name:?},"value":"${{secrets.a}}"}}}}}}"#
            );
            assert!(parse(&text).is_err(), "{name}");
        }
    }

    #[test]
    fn a_list_has_an_end() {
        let text = |count: usize| {
            let ports = vec!["8080"; count].join(",");
            format!(r#"{{"host":"a.test","secret":"a","ports":[{ports}],"as":{{"bearer":{{}}}}}}"#)
        };
        assert!(parse(&text(Rule::LIST_MAX)).is_ok());
        assert!(parse(&text(Rule::LIST_MAX + 1)).is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            r#"{"host":"a.test","secret":"a","as":{"bearer":{}},"hosts":[]}"#,
            r#"{"host":"a.test","as":{"bearer":{}}}"#,
            r#"{"host":"a.test","secret":"a","as":{"bearer":[]}}"#,
            r#"{"host":"a.test","secret":"a","as":{"basic":["x"]}}"#,
            r#"{"host":"a.test","secret":"a","as":{"header":{"name":"x","value":"${secrets.a}"}}}"#,
            r#"{"host":"a.test","as":{"header":{"name":"x","value":"${secrets.a"}}}"#,
            r#"{"host":"a.test","as":{"header":{"name":"x","value":"a\r\nb"}}}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
