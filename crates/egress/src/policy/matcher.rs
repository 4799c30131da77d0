//! A rule in the form in which it is matched: what it left unsaid is filled in.

use std::fmt::{self, Write as _};

use courier_types::egress::{Action, Destination, Method, PathPattern, PortRange, Protocol, Rule};

/// What bytes on a connection turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP in clear.
    Http,
    /// TLS.
    Https,
    /// Anything else.
    Opaque,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Opaque];

    /// How a rule names it; `tcp` names all kinds.
    const fn protocol(self) -> Protocol {
        match self {
            Self::Http => Protocol::Http,
            Self::Https => Protocol::Https,
            Self::Opaque => Protocol::Tcp,
        }
    }

    /// The port on which a rule that allows a host and names no port speaks it.
    const fn default_port(self) -> Option<PortRange> {
        match self {
            Self::Http => PortRange::one(80),
            Self::Https => PortRange::one(443),
            Self::Opaque => None,
        }
    }
}

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    rule: Rule,
    /// For each [`Kind`] in the order of its variants the ports; empty where it is not spoken.
    ports: [Vec<PortRange>; 3],
}

impl Matcher {
    pub(super) fn new(rule: Rule) -> Self {
        let ports = Kind::ALL.map(|kind| ports_of(&rule, kind));
        Self { rule, ports }
    }

    pub(super) const fn rule(&self) -> &Rule {
        &self.rule
    }

    pub(super) const fn action(&self) -> Action {
        self.rule.action
    }

    /// True when it looks at requests.
    pub(super) const fn is_bound(&self) -> bool {
        self.rule.is_about_requests()
    }

    /// On which ports it is about bytes of that kind.
    pub(super) fn ports(&self, kind: Kind) -> &[PortRange] {
        let [http, https, opaque] = &self.ports;
        match kind {
            Kind::Http => http,
            Kind::Https => https,
            Kind::Opaque => opaque,
        }
    }

    /// True when it is about bytes of that kind on that port.
    pub(super) fn speaks(&self, kind: Kind, port: u16) -> bool {
        self.ports(kind).iter().any(|range| range.contains(port))
    }

    /// True when it is about every byte to its destination.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_bound() && self.ports.iter().all(|ports| ports.contains(&PortRange::ALL))
    }

    /// True when it is about any kind of bytes on that port.
    pub(super) fn is_about(&self, port: u16) -> bool {
        Kind::ALL.into_iter().any(|kind| self.speaks(kind, port))
    }

    /// True when the request is one of its; always, where it is not about requests.
    pub(super) fn takes(&self, method: &str, path: &str) -> bool {
        let Rule { methods, paths, .. } = &self.rule;
        (methods.is_empty() || methods.iter().any(|of| of.as_str() == method))
            && (paths.is_empty() || paths.iter().any(|of| of.matches(path)))
    }
}

/// On which ports the rule is about bytes of that kind. What an allow rule about a host leaves
/// unsaid is the least, what any other leaves unsaid is everything.
fn ports_of(rule: &Rule, kind: Kind) -> Vec<PortRange> {
    let narrow = rule.action == Action::Allow && matches!(rule.to, Destination::Host(_));
    let spoken = if rule.protocols.is_empty() {
        kind != Kind::Opaque || !(narrow || rule.is_about_requests())
    } else {
        rule.protocols.iter().any(|of| *of == Protocol::Tcp || *of == kind.protocol())
    };
    match (spoken, rule.ports.is_empty(), narrow) {
        (false, _, _) => Vec::new(),
        (true, false, _) => rule.ports.clone(),
        (true, true, true) => kind.default_port().into_iter().collect(),
        (true, true, false) => vec![PortRange::ALL],
    }
}

/// A rule as people read it.
pub(super) struct Words<'a>(pub(super) &'a Rule);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { action, to, ports, protocols, methods, paths } = self.0;
        let action = match action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        };
        write!(f, "{action} {to}")?;
        list(f, "ports", ports)?;
        let protocols = protocols.iter().map(|protocol| match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Tcp => "tcp",
        });
        list(f, "protocols", protocols)?;
        list(f, "methods", methods.iter().map(Method::as_str))?;
        list(f, "paths", paths.iter().map(PathPattern::to_string))
    }
}

/// Most entries of a list that are shown: a reason is a line, not a page.
const SHOWN_MAX: usize = 8;

fn list(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    entries: impl IntoIterator<Item = impl fmt::Display>,
) -> fmt::Result {
    let mut entries = entries.into_iter().peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    write!(f, ", {what}")?;
    for entry in entries.by_ref().take(SHOWN_MAX) {
        write!(f, " {entry}")?;
    }
    if entries.next().is_some() {
        f.write_char('…')?;
    }
    Ok(())
}
