//! Why something may or may not be reached: the questions that the proxies would ask, asked of the
//! same function in the same order.

use std::net::{Ipv4Addr, SocketAddrV4};

use courier_types::egress::{
    Action, Destination, ExplainRequest, ExplainStep, Explanation, HostError, HostName,
    HostPattern, PortRange, Protocol, Rule, SecretName,
};
use ipnet::Ipv4Net;

use super::path::{self, PathError};
use super::{Compiled, Decision, Question, Scheme, Verdict};

/// Why nothing can be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Not a host.
    #[error("the host is neither a name nor an IPv4 address")]
    Host(#[from] HostError),
    /// Port 0.
    #[error("there is no port 0")]
    Port,
    /// A method that no request can have.
    #[error("{method:?} is no method that a request can have")]
    Method {
        /// The refused text, cut to 64 characters.
        method: String,
    },
    /// A path that no request can have.
    #[error("no request with that path goes out")]
    Path(#[from] PathError),
    /// A method or path of something that has none.
    #[error("a method or path is of http and https only")]
    NoRequests,
}

/// Addresses that stand for the one that a name will have (RFC 5737: they are nobody's).
const STAND_INS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(203, 0, 113, 1)];

/// Explains. A name's addresses are not looked up: rules about networks count for it only where they
/// are about every address.
///
/// # Errors
/// The request is about nothing that could be asked.
pub fn explain(compiled: &Compiled, request: &ExplainRequest) -> Result<Explanation, ExplainError> {
    let asked = Asked::parse(compiled, request)?;
    let mut course = Course { compiled, steps: Vec::new(), credentials: Vec::new() };
    let allowed = asked.walk(&mut course);
    let would_allow = (!allowed).then(|| asked.rule());
    Ok(Explanation { allowed, steps: course.steps, credentials: course.credentials, would_allow })
}

/// What is asked about, in types that cannot be wrong.
struct Asked {
    host: Option<HostName>,
    address: SocketAddrV4,
    protocol: Protocol,
    /// As it was given; `None` where neither method nor path was.
    request: Option<(String, String)>,
    /// Which of the two were given.
    method: Option<String>,
    path: Option<String>,
}

/// The questions asked so far.
struct Course<'c> {
    compiled: &'c Compiled,
    steps: Vec<ExplainStep>,
    credentials: Vec<SecretName>,
}

impl Course<'_> {
    fn ask(&mut self, asked: String, question: &Question<'_>) -> Verdict {
        let Decision { verdict, reasons, credentials } = self.compiled.decide(question);
        for name in credentials.iter().flat_map(|credential| credential.injection.secrets()) {
            if !self.credentials.contains(name) {
                self.credentials.push(name.clone());
            }
        }
        let reasons = reasons.into_iter().map(|reason| reason.text).collect();
        let word = match verdict {
            Verdict::Deny => "deny",
            Verdict::Allow => "allow",
            Verdict::Inspect => "inspect",
        };
        self.steps.push(ExplainStep { asked, verdict: word.to_owned(), reasons });
        verdict
    }
}

impl Asked {
    fn parse(compiled: &Compiled, request: &ExplainRequest) -> Result<Self, ExplainError> {
        let ExplainRequest { host, port, protocol, method, path } = request;
        let protocol = protocol.unwrap_or(Protocol::Https);
        let port = port.unwrap_or(match protocol {
            Protocol::Http => 80,
            Protocol::Https | Protocol::Tcp => 443,
        });
        if port == 0 {
            return Err(ExplainError::Port);
        }
        if protocol == Protocol::Tcp && (method.is_some() || path.is_some()) {
            return Err(ExplainError::NoRequests);
        }
        let method = method.as_deref().map(parse_method).transpose()?;
        let path = path.as_deref().map(path::canonical).transpose()?;
        let given = method.is_some() || path.is_some();
        let text = |of: &Option<String>, default: &str| of.as_deref().unwrap_or(default).to_owned();
        let pair = (text(&method, "GET"), text(&path, "/"));
        let (host, ip) = match host.parse::<Ipv4Addr>() {
            Ok(ip) => (None, ip),
            Err(_no_address) => (Some(host.parse()?), stand_in(compiled)),
        };
        let address = SocketAddrV4::new(ip, port);
        Ok(Self { host, address, protocol, request: given.then_some(pair), method, path })
    }

    /// Asks until something is denied or nothing is left to ask.
    fn walk(&self, course: &mut Course<'_>) -> bool {
        let (address, names) = (self.address, self.names());
        if let Some(host) = &self.host {
            let asked = format!("may the name {host} be resolved?");
            if course.ask(asked, &Question::Name { host }) == Verdict::Deny {
                return false;
            }
        }
        let place = self.place();
        let asked = format!("may a connection to {place} be opened?");
        let verdict = course.ask(asked, &Question::Connection { address, names });
        match (verdict, self.protocol) {
            (Verdict::Deny, _) => false,
            (Verdict::Allow, _) => true,
            (Verdict::Inspect, Protocol::Tcp) => {
                let asked = format!("may any bytes go to {place}?");
                course.ask(asked, &Question::Opaque { address, names }) == Verdict::Allow
            }
            (Verdict::Inspect, Protocol::Http) => self.ask_request(course, Scheme::Http),
            (Verdict::Inspect, Protocol::Https) => {
                let host = self.host.as_ref();
                let asked = format!("may TLS go to {place}, or is it opened?");
                match course.ask(asked, &Question::Tls { address, host }) {
                    Verdict::Deny => false,
                    Verdict::Allow => true,
                    Verdict::Inspect => self.ask_request(course, Scheme::Https),
                }
            }
        }
    }

    fn ask_request(&self, course: &mut Course<'_>, scheme: Scheme) -> bool {
        let default = ("GET".to_owned(), "/".to_owned());
        let (method, path) = self.request.as_ref().unwrap_or(&default);
        let asked = format!("may {method} {path} go to {}?", self.place());
        let (address, host) = (self.address, self.host.as_ref());
        let question = Question::Request { scheme, address, host, method, path };
        course.ask(asked, &question) == Verdict::Allow
    }

    fn names(&self) -> &[HostName] {
        self.host.as_slice()
    }

    fn place(&self) -> String {
        match &self.host {
            Some(host) => format!("{host}:{}", self.address.port()),
            None => self.address.to_string(),
        }
    }

    /// The smallest rule that would allow it, if it stood first.
    fn rule(&self) -> Rule {
        let to = match &self.host {
            Some(host) => Destination::Host(HostPattern::Exact(host.clone())),
            None => Destination::Net(Ipv4Net::from(*self.address.ip())),
        };
        let default = match self.protocol {
            Protocol::Http => Some(80),
            Protocol::Https => Some(443),
            Protocol::Tcp => None,
        };
        let mut rule = Rule::new(Action::Allow, to);
        rule.protocols = vec![self.protocol];
        if self.host.is_none() || default != Some(self.address.port()) {
            rule.ports.extend(PortRange::one(self.address.port()));
        }
        rule.methods.extend(self.method.as_ref().and_then(|method| method.parse().ok()));
        rule.paths.extend(self.path.as_ref().and_then(|path| path.parse().ok()));
        rule
    }
}

/// A method as it would be on the wire.
fn parse_method(text: &str) -> Result<String, ExplainError> {
    let method: Result<courier_types::egress::Method, _> = text.parse();
    match method {
        Ok(method) => Ok(method.as_str().to_owned()),
        Err(_no_method) => Err(ExplainError::Method { method: text.chars().take(64).collect() }),
    }
}

/// An address that no network of the policy has, but those that have all.
fn stand_in(compiled: &Compiled) -> Ipv4Addr {
    let [first, ..] = STAND_INS;
    let free = |address: &Ipv4Addr| !compiled.names_network_of(*address);
    STAND_INS.into_iter().find(free).unwrap_or(first)
}
