//! How long one decision takes under a policy of many rules, beside reading the rules one by one.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::slice;
use std::time::{Duration, Instant};

use anyhow::bail;
use courier_egress::policy::{Compiled, Question, Scheme, Verdict};
use courier_types::egress::{
    Action, Destination, HostName, Layer, LayerSource, Layers, Policy, Rule,
};
use serde_json::{Value, json};

use crate::bench::samples::{Results, Samples};

/// Rules of the policy.
const RULES: u32 = 10_000;
/// Decisions that are timed together: one alone is near the clock's own cost.
const DECISIONS: u32 = 1_000;
/// One question in so many is about a host that no rule names.
const UNKNOWN_EACH: u32 = 10;

/// A request about which a decision is asked.
struct Asked {
    host: HostName,
    address: SocketAddrV4,
    path: String,
}

impl Asked {
    fn request(&self) -> Question<'_> {
        Question::Request {
            scheme: Scheme::Https,
            address: self.address,
            host: Some(&self.host),
            method: "GET",
            path: &self.path,
        }
    }

    fn connection(&self) -> Question<'_> {
        Question::Connection { address: self.address, names: slice::from_ref(&self.host) }
    }
}

/// Measures them.
///
/// # Errors
/// The two ways of deciding differ.
pub(super) fn measure(runs: u32, results: &mut Results) -> anyhow::Result<()> {
    let policy = policy()?;
    let layers = Layers(vec![Layer { source: LayerSource::Sandbox, policy: policy.clone() }]);
    let compiled = Compiled::new(&layers)?;
    let asked: Vec<Asked> = (0..DECISIONS).map(question).collect::<Result<_, _>>()?;
    for asked in &asked {
        let ours = compiled.decide(&asked.request()).verdict == Verdict::Allow;
        if ours != scan(&policy.rules, asked) {
            bail!("the decision about {} is not what its rules say", asked.host);
        }
    }
    let (mut scans, mut requests, mut connections) =
        (Samples::default(), Samples::default(), Samples::default());
    for _run in 0..runs {
        scans.add(time(&asked, |asked| scan(&policy.rules, asked)));
        requests.add(time(&asked, |asked| compiled.decide(&asked.request())));
        connections.add(time(&asked, |asked| compiled.decide(&asked.connection())));
    }
    let floor = "1,000 requests, 10,000 rules read in turn";
    results.add(floor, &scans, &[]);
    results.add("1,000 decisions about requests", &requests, &[floor]);
    results.add("1,000 decisions about connections", &connections, &[floor]);
    Ok(())
}

fn time<T>(asked: &[Asked], decide: impl Fn(&Asked) -> T) -> Duration {
    let started = Instant::now();
    for asked in asked {
        black_box(decide(black_box(asked)));
    }
    started.elapsed()
}

/// Rules of every kind: hosts, their subdomains, requests of hosts, networks.
fn policy() -> anyhow::Result<Policy> {
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    Ok(serde_json::from_value(json!({ "rules": rules }))?)
}

fn rule(n: u32) -> Value {
    match n % 4 {
        0 => json!({ "allow": host(n) }),
        1 => json!({ "allow": format!("*.{}", host(n)) }),
        2 => json!({ "allow": host(n), "methods": ["GET"], "paths": [format!("/of/{n}/*")] }),
        _ => json!({ "allow": format!("{}/32", network(n)), "protocols": ["tcp"] }),
    }
}

fn host(n: u32) -> String {
    format!("h{n}.example{}.com", n % 97)
}

/// An address in 20.0.0.0/8, which is public.
fn network(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((20 << 24) | n)
}

/// Questions that meet rules all over the policy.
fn question(n: u32) -> anyhow::Result<Asked> {
    let rule = n * (RULES / DECISIONS) + n % 4;
    let (host, address) = match rule % 4 {
        _ if n.is_multiple_of(UNKNOWN_EACH) => {
            ("nobody.example.net".to_owned(), network(RULES + n))
        }
        1 => (format!("deep.down.{}", host(rule)), network(RULES + n)),
        3 => ("nobody.example.org".to_owned(), network(rule)),
        _ => (host(rule), network(RULES + n)),
    };
    let (address, path) = (SocketAddrV4::new(address, 443), format!("/of/{rule}/one"));
    Ok(Asked { host: host.parse()?, address, path })
}

/// The first rule that fits, read one after the other: only as much of the language as the rules
/// here use.
fn scan(rules: &[Rule], asked: &Asked) -> bool {
    let fits = |rule: &&Rule| {
        let to = match &rule.to {
            Destination::Host(pattern) => pattern.matches(&asked.host),
            Destination::Net(net) => net.contains(asked.address.ip()),
            Destination::Internet => true,
        };
        let methods = || rule.methods.iter().any(|method| method.as_str() == "GET");
        let paths = || rule.paths.iter().any(|path| path.matches(&asked.path));
        to && (rule.methods.is_empty() || methods()) && (rule.paths.is_empty() || paths())
    };
    rules.iter().find(fits).is_some_and(|rule| rule.action == Action::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_meet_rules_of_every_kind_and_none() {
        let policy = policy().unwrap();
        let allowed = |n| scan(&policy.rules, &question(n).unwrap());
        assert_eq!((0..DECISIONS).filter(|n| !allowed(*n)).count(), 100);
        let first = |n| {
            let asked = question(n).unwrap();
            policy.rules.iter().position(|rule| scan(slice::from_ref(rule), &asked))
        };
        let kinds: std::collections::BTreeSet<usize> =
            (0..DECISIONS).filter_map(first).map(|place| place % 4).collect();
        assert_eq!(kinds.len(), 4);
    }
}
