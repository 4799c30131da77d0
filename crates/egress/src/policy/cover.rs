//! Whether one policy allows everything that another one allows.
//!
//! The answer errs on one side only: what is called covered is, and what is covered in a way that
//! is too intricate to see is called uncovered. Names are compared as names: that two of them may
//! share an address is left to the decision itself.

use std::slice;

use courier_types::egress::{
    Action, Destination, HostName, HostPattern, Method, PathPattern, Policy, PortRange, PresetName,
    TunnelName,
};

use super::index::{Index, Looked, Target};
use super::matcher::{Kind, Matcher, Words};
use super::ports::PortSet;

/// Most comparisons of two rules: some tenths of a second. Policies that differ need far fewer,
/// since rules about one name are found by it.
const COMPARISONS_MAX: u32 = 20_000_000;

/// What a policy allows that its bound does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uncovered {
    /// A rule.
    #[error("rule {rule} ({text}) allows more than it may: {why}")]
    Rule {
        /// Its place, from 0.
        rule: usize,
        /// The rule in words.
        text: String,
        /// What of the bound is in the way.
        why: String,
    },
    /// A tunnel.
    #[error("tunnel {} is not one of those that may be used", name.as_str())]
    Tunnel {
        /// Its name.
        name: TunnelName,
    },
    /// A preset that neither has been resolved nor is one of the bound's.
    #[error("preset {} is not one of those that may be used", name.as_str())]
    Preset {
        /// Its name.
        name: PresetName,
    },
    /// Policies that are too large to be compared.
    #[error("the policies are too large to be compared: write less, or the bound's own rules")]
    TooLarge,
}

/// Checks that `bound` allows whatever `asked` allows. Both have their presets resolved.
///
/// # Errors
/// The first rule, tunnel or preset of `asked` that `bound` does not allow as a whole.
pub fn covers(bound: &Policy, asked: &Policy) -> Result<(), Uncovered> {
    if let Some(name) = asked.tunnels.iter().find(|name| !bound.tunnels.contains(name)) {
        return Err(Uncovered::Tunnel { name: name.clone() });
    }
    if let Some(name) = asked.presets.iter().find(|name| !bound.presets.contains(name)) {
        return Err(Uncovered::Preset { name: name.clone() });
    }
    // What both begin with is allowed by the same rules, with the same ones before them.
    let same = bound.rules.iter().zip(&asked.rules).take_while(|(bound, asked)| bound == asked);
    let same = same.count();
    let asked: Vec<Matcher> = asked.rules.iter().cloned().map(Matcher::new).collect();
    let mut bound = Bound::new(bound, &asked);
    for (rule, matcher) in asked.iter().enumerate().skip(same) {
        if matcher.action() == Action::Allow {
            bound.check(rule, matcher)?;
        }
    }
    Ok(())
}

/// A part of a rule that one other rule either covers or does not.
#[derive(Clone, Copy)]
struct Part<'r> {
    to: &'r Destination,
    kind: Kind,
    ports: PortRange,
    /// One method; `None` is all.
    method: Option<&'r Method>,
    /// One path pattern; `None` is all.
    path: Option<&'r PathPattern>,
}

struct Bound<'a> {
    rules: Vec<Matcher>,
    index: Index,
    /// Places of the rules that deny.
    denies: Vec<usize>,
    /// Places of those that deny networks: any name may lead into one.
    denied_nets: Vec<usize>,
    asked: &'a [Matcher],
    comparisons: u32,
}

impl<'a> Bound<'a> {
    fn new(policy: &Policy, asked: &'a [Matcher]) -> Self {
        let rules: Vec<Matcher> = policy.rules.iter().cloned().map(Matcher::new).collect();
        let index = Index::new(&rules);
        let is_denial =
            |place: &usize| rules.get(*place).map(Matcher::action) == Some(Action::Deny);
        let denies = (0..rules.len()).filter(is_denial).collect();
        let denied_nets = index.nets().filter(is_denial).collect();
        Self { rules, index, denies, denied_nets, asked, comparisons: 0 }
    }

    /// Checks one rule of the asked policy, which allows.
    fn check(&mut self, place: usize, rule: &Matcher) -> Result<(), Uncovered> {
        let candidates = self.candidates(&rule.rule().to);
        let (methods, paths) = (&rule.rule().methods, &rule.rule().paths);
        for kind in Kind::ALL {
            for ports in rule.ports(kind) {
                for method in each(methods) {
                    for path in each(paths) {
                        let (to, ports) = (&rule.rule().to, *ports);
                        let part = Part { to, kind, ports, method, path };
                        self.check_part(place, part, &candidates)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The places of the rules that a rule about that destination has to be compared with: those
    /// that could allow all of it, and those that could deny some of it.
    fn candidates(&self, to: &Destination) -> Vec<usize> {
        let child: HostName;
        let (hosts, address, denies) = match to {
            Destination::Host(HostPattern::Exact(name)) => {
                (slice::from_ref(name), None, &self.denied_nets)
            }
            Destination::Host(HostPattern::Below(parent)) => {
                // What allows all names below a name allows one of them.
                let Ok(name) = format!("x.{parent}").parse() else {
                    return (0..self.rules.len()).collect();
                };
                child = name;
                (slice::from_ref(&child), None, &self.denies)
            }
            Destination::Net(net) => (&[][..], Some(net.network()), &self.denies),
            Destination::Internet => (&[][..], None, &self.denies),
        };
        let target = Target { hosts, address };
        let mut places: Vec<usize> = self.index.matching(target, Looked::All).collect();
        places.extend(denies);
        places.sort_unstable();
        places.dedup();
        places
    }

    fn check_part(
        &mut self,
        place: usize,
        part: Part<'_>,
        candidates: &[usize],
    ) -> Result<(), Uncovered> {
        for of_bound in candidates {
            self.count()?;
            let Some(rule) = self.rules.get(*of_bound) else { continue };
            match rule.action() {
                Action::Allow if part.is_within(rule) => return Ok(()),
                Action::Deny if part.meets(rule) && !self.is_denied_before(place, *of_bound)? => {
                    let text = self.rules.get(*of_bound).map(|rule| Words(rule.rule()).to_string());
                    let text = text.unwrap_or_default();
                    let why = format!(
                        "rule {of_bound} of what it is bound to ({text}) denies some of it; write the same rule before it"
                    );
                    return Err(self.uncovered(place, why));
                }
                Action::Allow | Action::Deny => {}
            }
        }
        let why = "no rule of what it is bound to allows all of it".to_owned();
        Err(self.uncovered(place, why))
    }

    /// True when the asked policy itself denies, before the rule at that place, all that the
    /// bound's rule denies.
    fn is_denied_before(&mut self, place: usize, of_bound: usize) -> Result<bool, Uncovered> {
        let asked = self.asked;
        for rule in asked.iter().take(place).filter(|rule| rule.action() == Action::Deny) {
            self.count()?;
            if self.rules.get(of_bound).is_some_and(|denied| is_all_of(rule, denied)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count(&mut self) -> Result<(), Uncovered> {
        self.comparisons = self.comparisons.saturating_add(1);
        if self.comparisons > COMPARISONS_MAX { Err(Uncovered::TooLarge) } else { Ok(()) }
    }

    fn uncovered(&self, rule: usize, why: String) -> Uncovered {
        let text = self.asked.get(rule).map(|rule| Words(rule.rule()).to_string());
        Uncovered::Rule { rule, text: text.unwrap_or_default(), why }
    }
}

impl Part<'_> {
    /// True when all of it is the rule's.
    fn is_within(self, rule: &Matcher) -> bool {
        let of = rule.rule();
        let method_is = |method| of.methods.contains(method);
        let path_is = |path: &PathPattern| of.paths.iter().any(|wider| wider.covers(path));
        is_to_covered(&of.to, self.to)
            && PortSet::is_covered(self.ports, rule.ports(self.kind))
            && (of.methods.is_empty() || self.method.is_some_and(method_is))
            && (of.paths.is_empty() || self.path.is_some_and(path_is))
    }

    /// True when some of it is the rule's.
    fn meets(self, rule: &Matcher) -> bool {
        let of = rule.rule();
        let on_port = |range: &PortRange| {
            range.first() <= self.ports.last() && self.ports.first() <= range.last()
        };
        let method_is = |method| of.methods.contains(method);
        let path_is =
            |path: &PathPattern| of.paths.iter().any(|of| of.covers(path) || path.covers(of));
        (is_to_covered(&of.to, self.to)
            || is_to_covered(self.to, &of.to)
            || is_mixed(&of.to, self.to))
            && rule.ports(self.kind).iter().any(on_port)
            && (of.methods.is_empty() || self.method.is_none_or(method_is))
            && (of.paths.is_empty() || self.path.is_none_or(path_is))
    }
}

/// True when all of the second rule is the first one's.
fn is_all_of(wide: &Matcher, rule: &Matcher) -> bool {
    let (of, narrow) = (wide.rule(), rule.rule());
    let ports = |kind| {
        let mut ranges = rule.ports(kind).iter();
        ranges.all(|range| PortSet::is_covered(*range, wide.ports(kind)))
    };
    let path_is = |path: &PathPattern| of.paths.iter().any(|wider| wider.covers(path));
    is_to_covered(&of.to, &narrow.to)
        && Kind::ALL.into_iter().all(ports)
        && (of.methods.is_empty()
            || !narrow.methods.is_empty() && narrow.methods.iter().all(|m| of.methods.contains(m)))
        && (of.paths.is_empty() || !narrow.paths.is_empty() && narrow.paths.iter().all(path_is))
}

fn is_to_covered(wide: &Destination, narrow: &Destination) -> bool {
    match (wide, narrow) {
        (Destination::Internet, _) => true,
        (Destination::Host(wide), Destination::Host(narrow)) => wide.covers(narrow),
        (Destination::Net(wide), Destination::Net(narrow)) => wide.contains(narrow),
        (Destination::Host(_) | Destination::Net(_), _) => false,
    }
}

/// A name may have an address of any network.
const fn is_mixed(a: &Destination, b: &Destination) -> bool {
    matches!(
        (a, b),
        (Destination::Host(_), Destination::Net(_)) | (Destination::Net(_), Destination::Host(_))
    )
}

/// Each entry of a list; an empty one stands for all there is, as one.
fn each<T>(list: &[T]) -> impl Iterator<Item = Option<&T>> {
    list.is_empty().then_some(None).into_iter().chain(list.iter().map(Some))
}
