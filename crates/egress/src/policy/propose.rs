//! Learn mode's proposal: the smallest rules that would allow what the policy refused.
//!
//! Only what no rule was about is proposed. What a rule names and denies was meant, and what another
//! fence refused no rule could allow. Hosts and paths come from the guest: a proposal is there to be
//! read before it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::slice;

use courier_types::egress::{
    Action, Destination, Flow, FlowEvent, HostName, HostPattern, Layer, LayerSource, Layers,
    Method, PathPattern, Policy, PortRange, Protocol, Rule, Transport, TunnelName,
};
use ipnet::Ipv4Net;

use super::{Compiled, Question, Scheme, Verdict};

/// The fence whose refusals can be met by rules.
const FENCE: &str = "policy";

/// Most destinations of one proposal: nobody reads more, and a guest can name as many as it likes.
const DESTINATIONS_MAX: usize = 512;

/// Most ports, methods or paths of one rule: as many as a rule has room for. Of ports and methods
/// the others are left out; with more paths than that, all are allowed.
const LIST_MAX: usize = Rule::LIST_MAX;

/// What a name ends with that is a private tunnel's.
const TUNNELS: [&str; 2] = ["tunnel", "internal"];

/// The current policy with rules for what it refused: before the first rule that denies everything,
/// or at the end. Without anything to add it is the current policy.
#[must_use]
pub fn propose(flows: &[Flow], current: &Policy) -> Policy {
    let mut proposed = current.clone();
    let resolved = Policy { presets: Vec::new(), ..current.clone() };
    let layer = Layer { source: LayerSource::Sandbox, policy: resolved };
    // A policy that cannot decide refuses everything, by no rule.
    let compiled =
        Compiled::new(&Layers(vec![layer])).unwrap_or_else(|_undecided| Compiled::deny_all());
    let mut seen: BTreeMap<Target, Wanted> = BTreeMap::new();
    for observed in flows.iter().filter_map(Observed::of) {
        if let Some(tunnel) = observed.tunnel() {
            if !proposed.tunnels.contains(&tunnel) {
                proposed.tunnels.push(tunnel);
            }
            continue;
        }
        let is_room = seen.len() < DESTINATIONS_MAX || seen.contains_key(&observed.target());
        if is_room && !observed.was_meant(&compiled, current) {
            observed.add_to(seen.entry(observed.target()).or_default());
        }
    }
    let rules: Vec<Rule> = seen.iter().flat_map(|(target, wanted)| wanted.rules(target)).collect();
    let everything = |rule: &Rule| {
        let all = match &rule.to {
            Destination::Internet => true,
            Destination::Net(net) => net.prefix_len() == 0,
            Destination::Host(_) => false,
        };
        all && rule.action == Action::Deny
    };
    let end = proposed.rules.len();
    let at = proposed.rules.iter().position(everything).unwrap_or(end);
    proposed.rules.splice(at..at, rules);
    proposed
}

/// Something that was refused.
struct Observed<'f> {
    host: Option<&'f HostName>,
    address: SocketAddrV4,
    /// `None` where it was a DNS question.
    protocol: Option<Protocol>,
    /// Method and path, where both were seen.
    request: Option<(&'f str, &'f str)>,
}

/// Where it was about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Host(HostName),
    Address(Ipv4Addr),
}

impl<'f> Observed<'f> {
    fn of(flow: &'f Flow) -> Option<Self> {
        let FlowEvent::Refused {
            transport, host, address, protocol, method, path, refusal, ..
        } = &flow.event
        else {
            return None;
        };
        if refusal.fence != FENCE {
            return None;
        }
        let host = host.as_ref();
        match transport {
            Transport::Dns => {
                let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                host.map(|host| Self { host: Some(host), address, protocol: None, request: None })
            }
            Transport::Tcp => {
                let address = (*address).filter(|address| {
                    address.port() > 0 && (host.is_some() || !is_made_up(*address.ip()))
                })?;
                let protocol = Some(protocol.unwrap_or(match address.port() {
                    80 => Protocol::Http,
                    443 => Protocol::Https,
                    _ => Protocol::Tcp,
                }));
                let request = method.as_deref().zip(path.as_deref());
                Some(Self { host, address, protocol, request })
            }
            Transport::Udp | Transport::Icmp | Transport::Ipv6 | Transport::Other => None,
        }
    }

    fn target(&self) -> Target {
        match self.host {
            Some(host) => Target::Host(host.clone()),
            None => Target::Address(*self.address.ip()),
        }
    }

    /// The tunnel that the name is of.
    fn tunnel(&self) -> Option<TunnelName> {
        let labels: Vec<&str> = self.host?.labels().collect();
        let (name, suffix) = labels.split_first()?;
        (suffix == TUNNELS).then(|| name.parse().ok()).flatten()
    }

    /// True when the policy allows it by now, or has a rule that denies it by name.
    fn was_meant(&self, compiled: &Compiled, policy: &Policy) -> bool {
        let decision = compiled.decide(&self.question());
        if decision.verdict != Verdict::Deny {
            return true;
        }
        let mut denying = decision.reasons.iter().filter_map(|reason| reason.rule);
        denying.any(|place| {
            policy.rules.get(place).is_some_and(|rule| match &rule.to {
                Destination::Host(_) => true,
                Destination::Net(net) => net.prefix_len() > 0,
                Destination::Internet => false,
            })
        })
    }

    fn question(&self) -> Question<'_> {
        let (host, address) = (self.host, self.address);
        match (self.protocol, self.request, host) {
            (None, _, Some(host)) => Question::Name { host },
            (Some(Protocol::Https), Some((method, path)), _) => {
                Question::Request { scheme: Scheme::Https, address, host, method, path }
            }
            (Some(Protocol::Http), Some((method, path)), _) => {
                Question::Request { scheme: Scheme::Http, address, host, method, path }
            }
            (Some(Protocol::Http), None, _) => {
                let (scheme, method, path) = (Scheme::Http, "GET", "/");
                Question::Request { scheme, address, host, method, path }
            }
            (Some(Protocol::Https), None, _) => Question::Tls { address, host },
            (Some(Protocol::Tcp) | None, ..) => {
                let names = host.map(slice::from_ref).unwrap_or_default();
                Question::Opaque { address, names }
            }
        }
    }

    fn add_to(&self, wanted: &mut Wanted) {
        let Some(protocol) = self.protocol else { return };
        let on_port = wanted.0.entry((protocol, self.address.port())).or_default();
        match self.request {
            Some((method, path)) => {
                on_port.requests.entry(method.to_owned()).or_default().insert(path.to_owned());
            }
            None => on_port.all = true,
        }
    }
}

/// Addresses that this network's own DNS makes up (RFC 2544's block).
fn is_made_up(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [198, 18 | 19, ..])
}

/// What was refused of one destination; nothing where it was only its name.
#[derive(Default)]
struct Wanted(BTreeMap<(Protocol, u16), OnPort>);

#[derive(Default)]
struct OnPort {
    /// True when something was refused of which no request was seen.
    all: bool,
    /// Paths by method.
    requests: BTreeMap<String, BTreeSet<String>>,
}

impl Wanted {
    fn rules(&self, target: &Target) -> Vec<Rule> {
        let to = match target {
            Target::Host(host) => Destination::Host(HostPattern::Exact(host.clone())),
            Target::Address(address) => Destination::Net(Ipv4Net::from(*address)),
        };
        let whole = [(Protocol::Http, 80), (Protocol::Https, 443)];
        let is_whole = self.0.len() == whole.len()
            && whole.iter().all(|key| self.0.get(key).is_some_and(|on_port| on_port.all));
        if self.0.is_empty() || is_whole && matches!(to, Destination::Host(_)) {
            return vec![Rule::new(Action::Allow, to)];
        }
        let mut rules = Vec::new();
        for protocol in [Protocol::Http, Protocol::Https, Protocol::Tcp] {
            let ports = self.0.iter().filter(|((of, _), on_port)| *of == protocol && on_port.all);
            let ports: Vec<u16> = ports.map(|((_, port), _)| *port).take(LIST_MAX).collect();
            rules.extend(rule(&to, protocol, &ports));
            for ((_, port), on_port) in self.0.iter().filter(|((of, _), _)| *of == protocol) {
                rules.extend(on_port.rules(&to, protocol, *port));
            }
        }
        rules
    }
}

impl OnPort {
    /// Rules for the requests that were seen, where nothing else was.
    fn rules(&self, to: &Destination, protocol: Protocol, port: u16) -> Vec<Rule> {
        if self.all {
            return Vec::new();
        }
        // Methods with the same paths share a rule.
        let mut by_paths: BTreeMap<Vec<&str>, Vec<Method>> = BTreeMap::new();
        for (method, paths) in self.requests.iter().take(LIST_MAX) {
            if let Ok(method) = method.parse() {
                let paths = paths.iter().map(String::as_str).collect();
                by_paths.entry(paths).or_default().push(method);
            }
        }
        let rules = by_paths.into_iter().filter_map(|(paths, methods)| {
            let patterns: Vec<PathPattern> =
                paths.iter().filter_map(|path| path.parse().ok()).collect();
            // A path that no pattern can say, or too many of them: all paths.
            let exact = patterns.len() == paths.len() && paths.len() <= LIST_MAX;
            let paths = if exact { patterns } else { Vec::new() };
            rule(to, protocol, &[port]).map(|rule| Rule { methods, paths, ..rule })
        });
        rules.collect()
    }
}

/// A rule for a protocol on ports; ports that go without saying are left out.
fn rule(to: &Destination, protocol: Protocol, ports: &[u16]) -> Option<Rule> {
    let default = match protocol {
        Protocol::Http => Some(80),
        Protocol::Https => Some(443),
        Protocol::Tcp => None,
    };
    let is_default =
        matches!((to, ports, default), (Destination::Host(_), [port], Some(of)) if *port == of);
    let mut rule = Rule::new(Action::Allow, to.clone());
    rule.protocols = vec![protocol];
    if !is_default {
        rule.ports = ports.iter().filter_map(|port| PortRange::one(*port)).collect();
    }
    (!ports.is_empty()).then_some(rule)
}
