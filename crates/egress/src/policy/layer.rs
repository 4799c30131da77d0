//! One layer of a sandbox's policies: which of its rules decides.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::slice;

use courier_types::egress::{
    Action, Credential, Destination, HostName, Layer, LayerSource, TunnelName,
};
use ipnet::Ipv4Net;

use super::index::{Index, Looked, Places, Target};
use super::matcher::{Kind, Matcher, Words};
use super::ports::PortSet;
use super::{CompileError, Question, Reason, Scheme, Verdict};

/// Networks that no sandbox ever reaches, so that a rule that allows a part of one is a mistake:
/// "this" network, loopback, link-local with the metadata services, multicast, reserved (RFC 6890
/// and RFC 5771).
const UNREACHABLE: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Ports on which a connection is always looked at.
const LOOKED_AT: [u16; 2] = [80, 443];

/// One layer.
#[derive(Debug, Clone)]
pub(super) struct CompiledLayer {
    source: LayerSource,
    rules: Vec<Matcher>,
    index: Index,
    pub(super) credentials: Vec<Credential>,
    pub(super) tunnels: Vec<TunnelName>,
    pub(super) learn: bool,
}

/// What one layer says, and by which rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    rule: Option<usize>,
}

impl Outcome {
    const NO_RULE: Self = Self { verdict: Verdict::Deny, rule: None };

    const fn of(place: usize, action: Action) -> Self {
        let verdict = match action {
            Action::Allow => Verdict::Allow,
            Action::Deny => Verdict::Deny,
        };
        Self { verdict, rule: Some(place) }
    }
}

impl CompiledLayer {
    pub(super) fn new(layer: &Layer) -> Result<Self, CompileError> {
        let Layer { source: of, policy } = layer;
        policy.check().map_err(|source| CompileError::Policy { layer: *of, source })?;
        if let Some(preset) = policy.presets.first() {
            return Err(CompileError::Preset { layer: *of, preset: preset.clone() });
        }
        for (place, rule) in policy.rules.iter().enumerate() {
            if let (Action::Allow, Destination::Net(network)) = (rule.action, &rule.to)
                && is_unreachable(*network)
            {
                let (rule, text) = (place, Words(rule).to_string());
                return Err(CompileError::Unreachable {
                    layer: *of,
                    rule,
                    text,
                    network: *network,
                });
            }
        }
        let rules: Vec<Matcher> = policy.rules.iter().cloned().map(Matcher::new).collect();
        Ok(Self {
            source: *of,
            index: Index::new(&rules),
            rules,
            credentials: policy.credentials.clone(),
            tunnels: policy.tunnels.clone(),
            learn: policy.learn,
        })
    }

    pub(super) fn outcome(&self, question: &Question<'_>) -> Outcome {
        match question {
            Question::Name { host } => self.name(host),
            Question::Connection { address, names } => {
                let target = Target { hosts: names, address: Some(*address.ip()) };
                self.connection(target, address.port())
            }
            Question::Opaque { address, names } => {
                let target = Target { hosts: names, address: Some(*address.ip()) };
                self.kind(target, Kind::Opaque, address.port())
            }
            Question::Tls { address, host } => {
                self.kind(target(*host, *address.ip()), Kind::Https, address.port())
            }
            Question::Request { scheme, address, host, method, path } => {
                let kind = match scheme {
                    Scheme::Http => Kind::Http,
                    Scheme::Https => Kind::Https,
                };
                let looked = Looked::Request(kind, address.port(), path);
                let places = self.index.matching(target(*host, *address.ip()), looked);
                self.first(places, |rule| {
                    rule.speaks(kind, address.port()) && rule.takes(method, path)
                })
            }
        }
    }

    /// True when TLS to that address passes by the address alone and no rule denies a name there:
    /// then it makes no difference which name it asks for.
    pub(super) fn passes_any_name(&self, address: SocketAddrV4) -> bool {
        let outcome = self.kind(target(None, *address.ip()), Kind::Https, address.port());
        let denies_name = |matcher: &Matcher| {
            matcher.action() == Action::Deny
                && matches!(matcher.rule().to, Destination::Host(_))
                && matcher.speaks(Kind::Https, address.port())
        };
        outcome.verdict == Verdict::Allow && !self.rules.iter().any(denies_name)
    }

    /// True when some rule is about a network with that address, other than one with all.
    pub(super) fn names_network_of(&self, address: Ipv4Addr) -> bool {
        self.index.nets().any(|place| {
            self.rules.get(place).is_some_and(|matcher| match &matcher.rule().to {
                Destination::Net(net) => net.prefix_len() > 0 && net.contains(&address),
                Destination::Host(_) | Destination::Internet => false,
            })
        })
    }

    /// The first of the rules that fits decides.
    fn first(&self, places: Places<'_>, fits: impl Fn(&Matcher) -> bool) -> Outcome {
        let mut fitting = places.filter_map(|place| Some((place, self.rules.get(place)?)));
        let found = fitting.find(|(_, rule)| fits(rule));
        found.map_or(Outcome::NO_RULE, |(place, rule)| Outcome::of(place, rule.action()))
    }

    /// What becomes of bytes of that kind before their requests are known: `Inspect` where a rule
    /// about requests comes before the one that decides, and some request could be allowed.
    fn kind(&self, target: Target<'_>, kind: Kind, port: u16) -> Outcome {
        let mut looks = false;
        for place in self.index.matching(target, Looked::Kind(kind, port)) {
            let Some(rule) = self.rules.get(place).filter(|rule| rule.speaks(kind, port)) else {
                continue;
            };
            looks |= rule.is_bound();
            match rule.action() {
                Action::Allow if looks => {
                    return Outcome { verdict: Verdict::Inspect, rule: Some(place) };
                }
                Action::Deny if rule.is_bound() => {}
                action => return Outcome::of(place, action),
            }
        }
        Outcome::NO_RULE
    }

    fn connection(&self, target: Target<'_>, port: u16) -> Outcome {
        let opaque = self.kind(target, Kind::Opaque, port);
        let about_port = self.index.matching(target, Looked::Port(port));
        let first = self.first(about_port, |rule| rule.is_about(port));
        if opaque.verdict == Verdict::Allow {
            // Any rule before the one about any bytes sees TLS or HTTP otherwise than that one.
            let plain = opaque.rule == first.rule && !LOOKED_AT.contains(&port);
            let verdict = if plain { Verdict::Allow } else { Verdict::Inspect };
            return Outcome { verdict, rule: opaque.rule };
        }
        // Each name by itself; without any, the address alone.
        let alone = target.hosts.is_empty().then_some(target.hosts);
        for hosts in target.hosts.iter().map(slice::from_ref).chain(alone) {
            for kind in [Kind::Https, Kind::Http] {
                let outcome = self.kind(Target { hosts, ..target }, kind, port);
                if outcome.verdict != Verdict::Deny {
                    return Outcome { verdict: Verdict::Inspect, ..outcome };
                }
            }
        }
        first_denial(first)
    }

    /// A name may be resolved when something of it could be allowed: when a rule allows bytes that
    /// no earlier rule denies as a whole.
    fn name(&self, host: &HostName) -> Outcome {
        let target = Target { hosts: slice::from_ref(host), address: None };
        let mut denied: [PortSet; 3] = Default::default();
        let mut first = Outcome::NO_RULE;
        for place in self.index.matching(target, Looked::All) {
            let Some(rule) = self.rules.get(place) else { continue };
            let mut kinds = Kind::ALL.into_iter().zip(&mut denied);
            match rule.action() {
                Action::Allow => {
                    let leaves = |(kind, denied): (Kind, &mut PortSet)| {
                        rule.ports(kind).iter().any(|range| !denied.has_all(*range))
                    };
                    if kinds.any(leaves) {
                        return Outcome::of(place, Action::Allow);
                    }
                }
                Action::Deny if rule.is_bound() => {}
                Action::Deny if rule.is_whole() => {
                    first.rule = first.rule.or(Some(place));
                    return first;
                }
                Action::Deny => {
                    kinds.for_each(|(kind, denied)| denied.extend(rule.ports(kind)));
                    first.rule = first.rule.or(Some(place));
                }
            }
        }
        first
    }

    pub(super) fn reason(&self, outcome: Outcome, question: &Question<'_>) -> Reason {
        let layer = self.source;
        let rule = outcome.rule.and_then(|place| Some((place, self.rules.get(place)?)));
        let text = match rule {
            Some((place, rule)) => format!("rule {place} of the {layer}: {}", Words(rule.rule())),
            None => format!("no rule of the {layer} matches {question}"),
        };
        Reason { layer, rule: outcome.rule, text }
    }
}

/// The reason of a connection that nothing on it could pass: the first rule about it where that
/// denies.
const fn first_denial(first: Outcome) -> Outcome {
    match first.verdict {
        Verdict::Deny => first,
        Verdict::Allow | Verdict::Inspect => Outcome::NO_RULE,
    }
}

fn target<'a>(host: Option<&'a HostName>, address: Ipv4Addr) -> Target<'a> {
    Target { hosts: host.map(slice::from_ref).unwrap_or_default(), address: Some(address) }
}

fn is_unreachable(network: Ipv4Net) -> bool {
    UNREACHABLE.iter().any(|(address, length)| {
        Ipv4Net::new(*address, *length).is_ok_and(|never| never.contains(&network))
    })
}
