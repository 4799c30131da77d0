//! Layers of policies, ready to decide.

use std::net::Ipv4Addr;
use std::slice;

use courier_types::egress::{
    Action, Credential, Destination, HostName, Layer, LayerSource, Layers, PolicyError, PortRange,
    PresetName, TunnelName,
};
use ipnet::Ipv4Net;

use super::index::{Index, Places, Target};
use super::matcher::{Kind, Matcher, Words};
use super::{Decision, Question, Reason, Scheme, Verdict};

/// Why layers cannot decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A policy with too many parts.
    #[error("the policy of the {layer} is too large")]
    Policy {
        /// Whose.
        layer: LayerSource,
        /// What is wrong.
        #[source]
        source: PolicyError,
    },
    /// A preset whose rules are not there.
    #[error("preset {preset:?} of the {layer} has not been resolved into rules", preset = preset.as_str())]
    Preset {
        /// Whose.
        layer: LayerSource,
        /// Which.
        preset: PresetName,
    },
    /// A rule that allows what no policy can open.
    #[error(
        "rule {rule} of the {layer} ({text}) can never be reached: {network} is never routed out of a sandbox"
    )]
    Unreachable {
        /// Whose.
        layer: LayerSource,
        /// The rule's place, from 0.
        rule: usize,
        /// The rule in words.
        text: String,
        /// What it names.
        network: Ipv4Net,
    },
}

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

/// The policies of one sandbox, ready to decide.
#[derive(Debug, Clone)]
pub struct Compiled {
    layers: Vec<CompiledLayer>,
}

/// One layer.
#[derive(Debug, Clone)]
struct CompiledLayer {
    source: LayerSource,
    rules: Vec<Matcher>,
    index: Index,
    credentials: Vec<Credential>,
    tunnels: Vec<TunnelName>,
    learn: bool,
}

/// What one layer says, and by which rule.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    verdict: Verdict,
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

impl Compiled {
    /// Makes layers ready to decide. Presets must have been resolved before.
    ///
    /// # Errors
    /// A policy is too large, has an unresolved preset, or allows what can never be reached.
    pub fn new(layers: &Layers) -> Result<Self, CompileError> {
        let layers = layers.0.iter().map(CompiledLayer::new).collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    /// Allows nothing.
    #[must_use]
    pub const fn deny_all() -> Self {
        Self { layers: Vec::new() }
    }

    /// Decides.
    #[must_use]
    pub fn decide<'p>(&'p self, question: &Question<'_>) -> Decision<'p> {
        let mut reasons = Vec::with_capacity(self.layers.len());
        let mut verdict = Verdict::Allow;
        for layer in &self.layers {
            let outcome = layer.outcome(question);
            reasons.push(layer.reason(outcome, question));
            match outcome.verdict {
                Verdict::Deny => return denied(reasons),
                Verdict::Inspect => verdict = Verdict::Inspect,
                Verdict::Allow => {}
            }
        }
        if self.layers.is_empty() {
            let text = "there is no policy: nothing is allowed".to_owned();
            return denied(vec![Reason { layer: LayerSource::Sandbox, rule: None, text }]);
        }
        if self.must_open(question) {
            verdict = Verdict::Inspect;
        }
        Decision { verdict, reasons, credentials: self.credentials_for(question) }
    }

    /// True when a layer wants what is refused to be recorded, for a proposal.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.layers.iter().any(|layer| layer.learn)
    }

    /// The tunnels that every layer names.
    pub fn tunnels(&self) -> impl Iterator<Item = &TunnelName> {
        let first = self.layers.first().into_iter().flat_map(|layer| &layer.tunnels);
        first.filter(|name| self.allows_tunnel(name))
    }

    /// True when every layer names the tunnel.
    #[must_use]
    pub fn allows_tunnel(&self, name: &TunnelName) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| layer.tunnels.contains(name))
    }

    /// True when TLS to that name could be opened, at some address of its.
    #[must_use]
    pub fn may_open(&self, host: &HostName, port: u16) -> bool {
        let bound = |matcher: &Matcher| {
            let here = match &matcher.rule().to {
                Destination::Host(pattern) => pattern.matches(host),
                Destination::Net(_) | Destination::Internet => true,
            };
            here && matcher.is_bound() && matcher.speaks(Kind::Https, port)
        };
        self.has_credential(host, port) || self.layers.iter().any(|l| l.rules.iter().any(bound))
    }

    /// True when some rule is about a network with that address, other than one with all.
    pub(super) fn names_network_of(&self, address: Ipv4Addr) -> bool {
        let mut rules = self.layers.iter().flat_map(|layer| &layer.rules);
        rules.any(|matcher| match &matcher.rule().to {
            Destination::Net(net) => net.prefix_len() > 0 && net.contains(&address),
            Destination::Host(_) | Destination::Internet => false,
        })
    }

    fn all_credentials(&self) -> impl Iterator<Item = &Credential> {
        self.layers.iter().flat_map(|layer| &layer.credentials)
    }

    fn has_credential(&self, host: &HostName, port: u16) -> bool {
        self.all_credentials().any(|credential| is_at(credential, host, port))
    }

    /// True when a credential could have to be added to what comes on that connection.
    fn must_open(&self, question: &Question<'_>) -> bool {
        match question {
            Question::Connection { address, names } => {
                names.iter().any(|name| self.has_credential(name, address.port()))
            }
            Question::Tls { address, host: Some(host) } => {
                self.has_credential(host, address.port())
            }
            Question::Tls { host: None, .. }
            | Question::Name { .. }
            | Question::Opaque { .. }
            | Question::Request { .. } => false,
        }
    }

    /// What is added to a request.
    fn credentials_for(&self, question: &Question<'_>) -> Vec<&Credential> {
        let Question::Request { scheme: Scheme::Https, address, host: Some(host), method, path } =
            question
        else {
            return Vec::new();
        };
        let wanted = |credential: &&Credential| {
            is_at(credential, host, address.port())
                && (credential.methods.is_empty()
                    || credential.methods.iter().any(|of| of.as_str() == *method))
                && (credential.paths.is_empty()
                    || credential.paths.iter().any(|of| of.matches(path)))
        };
        self.all_credentials().filter(wanted).collect()
    }
}

/// A credential that names no port is for 443.
fn is_at(credential: &Credential, host: &HostName, port: u16) -> bool {
    let here = match credential.ports.as_slice() {
        [] => port == 443,
        ports => ports.iter().any(|range| range.contains(port)),
    };
    here && credential.host.matches(host)
}

const fn denied<'p>(reasons: Vec<Reason>) -> Decision<'p> {
    Decision { verdict: Verdict::Deny, reasons, credentials: Vec::new() }
}

impl CompiledLayer {
    fn new(layer: &Layer) -> Result<Self, CompileError> {
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

    fn outcome(&self, question: &Question<'_>) -> Outcome {
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
                let places = self.index.matching(target(*host, *address.ip()), Some(path));
                self.first(places, |rule| {
                    rule.speaks(kind, address.port()) && rule.takes(method, path)
                })
            }
        }
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
        for place in self.index.matching(target, None) {
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
        let first = self.first(self.index.matching(target, None), |rule| rule.is_about(port));
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
        let mut denied: Vec<&Matcher> = Vec::new();
        let mut first = Outcome::NO_RULE;
        for place in self.index.matching(target, None) {
            let Some(rule) = self.rules.get(place) else { continue };
            match rule.action() {
                Action::Allow if !is_denied(rule, &denied) => {
                    return Outcome::of(place, Action::Allow);
                }
                Action::Deny if !rule.is_bound() => {
                    denied.push(rule);
                    first.rule = first.rule.or(Some(place));
                }
                Action::Allow | Action::Deny => {}
            }
        }
        first
    }

    fn reason(&self, outcome: Outcome, question: &Question<'_>) -> Reason {
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

/// True when everything that the rule is about is denied by rules before it.
fn is_denied(rule: &Matcher, denied: &[&Matcher]) -> bool {
    Kind::ALL.into_iter().all(|kind| {
        rule.ports(kind).iter().all(|range| {
            let of_kind = denied.iter().flat_map(|deny| deny.ports(kind));
            is_covered(*range, of_kind.copied())
        })
    })
}

/// True when the ranges together have every port of the range.
pub(super) fn is_covered(range: PortRange, by: impl Iterator<Item = PortRange>) -> bool {
    let mut by: Vec<_> = by.collect();
    by.sort_unstable_by_key(|range| range.first());
    let mut next = u32::from(range.first());
    for range in by {
        if u32::from(range.first()) <= next {
            next = next.max(u32::from(range.last()) + 1);
        }
    }
    next > u32::from(range.last())
}
