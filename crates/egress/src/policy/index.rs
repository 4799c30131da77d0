//! Finds the rules that may match, without looking at the others.
//!
//! Rules are kept by destination: by exact name, by parent name, by network and prefix length, and
//! those about `internet`; many of one destination also by port and by path. A look-up gives their
//! places in ascending order, so that the first that matches is the one that decides.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::slice;

use courier_types::egress::{Destination, HostName, HostPattern, PathPattern, PortRange};

use super::matcher::{Kind, Matcher};

/// What is known of where something goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// The names; none where it is an address alone.
    pub(super) hosts: &'a [HostName],
    /// The address, where there is one yet.
    pub(super) address: Option<Ipv4Addr>,
}

/// Which rules are looked for. What a look-up gives is not filtered by it, only shortened where that
/// is quick.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looked<'a> {
    /// All.
    All,
    /// Those about a port, whatever is spoken.
    Port(u16),
    /// Those about this kind of bytes on a port.
    Kind(Kind, u16),
    /// Those about this kind of bytes on a port, and that path.
    Request(Kind, u16, &'a str),
}

/// The places of one layer's rules, by destination.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    exact: HashMap<Box<str>, Bucket>,
    below: HashMap<Box<str>, Bucket>,
    /// Bit n is set when `below` has a name of n labels.
    depths: u128,
    nets: HashMap<(u8, Ipv4Addr), Bucket>,
    /// Bit n is set when `nets` has a network with a prefix of n bits.
    lengths: u64,
    internet: Bucket,
}

/// Most rules of one destination that are read one by one. Tests have few rules and try both ways.
const FEW: usize = if cfg!(test) { 1 } else { 16 };

/// The rules of one destination: every list in ascending order.
#[derive(Debug, Clone, Default)]
struct Bucket {
    all: Vec<usize>,
    /// The same rules by port and path, where they are many.
    sorted: Option<Box<Sorted>>,
}

/// Many rules of one destination.
#[derive(Debug, Clone, Default)]
struct Sorted {
    /// All of them, for each [`Kind`].
    by_port: [ByPort; 3],
    /// Those without paths, for each [`Kind`].
    pathless: [ByPort; 3],
    exact_paths: HashMap<Box<str>, Vec<usize>>,
    /// By the prefix, with its trailing slash.
    below_paths: HashMap<Box<str>, Vec<usize>>,
    /// The longest key of `below_paths` in bytes.
    below_max: usize,
}

/// The rules about one kind of bytes.
#[derive(Debug, Clone, Default)]
struct ByPort {
    single: HashMap<u16, Vec<usize>>,
    ranged: Vec<usize>,
}

impl ByPort {
    fn insert(&mut self, place: usize, ports: &[PortRange]) {
        if ports.iter().any(|range| range.first() != range.last()) {
            self.ranged.push(place);
            return;
        }
        for port in ports {
            self.single.entry(port.first()).or_default().push(place);
        }
    }

    fn collect<'i>(&'i self, port: u16, lists: &mut Vec<&'i [usize]>) {
        lists.push(&self.ranged);
        lists.extend(self.single.get(&port).map(Vec::as_slice));
    }
}

/// The entry of a kind.
const fn of<T>(kinds: &[T; 3], kind: Kind) -> &T {
    let [http, https, opaque] = kinds;
    match kind {
        Kind::Http => http,
        Kind::Https => https,
        Kind::Opaque => opaque,
    }
}

impl Sorted {
    fn insert(&mut self, place: usize, rule: &Matcher) {
        let paths = &rule.rule().paths;
        for (kind, by_port) in Kind::ALL.into_iter().zip(&mut self.by_port) {
            by_port.insert(place, rule.ports(kind));
        }
        for (kind, pathless) in Kind::ALL.into_iter().zip(&mut self.pathless) {
            if paths.is_empty() {
                pathless.insert(place, rule.ports(kind));
            }
        }
        for path in paths {
            let list = match path {
                PathPattern::Exact(path) => self.exact_paths.entry(path.as_str().into()),
                PathPattern::Below(prefix) => {
                    self.below_max = self.below_max.max(prefix.len());
                    self.below_paths.entry(prefix.as_str().into())
                }
            };
            list.or_default().push(place);
        }
    }

    fn collect_path<'i>(&'i self, path: &str, lists: &mut Vec<&'i [usize]>) {
        lists.extend(self.exact_paths.get(path).map(Vec::as_slice));
        let prefixes = path.match_indices('/').map(|(at, _)| at.saturating_add(1));
        for end in prefixes.take_while(|end| *end <= self.below_max) {
            let list = path.get(..end).and_then(|prefix| self.below_paths.get(prefix));
            lists.extend(list.map(Vec::as_slice));
        }
    }
}

impl Bucket {
    fn sort(&mut self, rules: &[Matcher]) {
        if self.all.len() <= FEW {
            return;
        }
        let mut sorted = Sorted::default();
        for place in &self.all {
            if let Some(rule) = rules.get(*place) {
                sorted.insert(*place, rule);
            }
        }
        self.sorted = Some(Box::new(sorted));
    }

    /// Adds the lists with the rules that may match.
    fn collect<'i>(&'i self, looked: Looked<'_>, lists: &mut Vec<&'i [usize]>) {
        let Some(sorted) = &self.sorted else {
            lists.push(&self.all);
            return;
        };
        match looked {
            Looked::All => lists.push(&self.all),
            Looked::Port(port) => {
                sorted.by_port.iter().for_each(|by_port| by_port.collect(port, lists));
            }
            Looked::Kind(kind, port) => of(&sorted.by_port, kind).collect(port, lists),
            Looked::Request(kind, port, path) => {
                of(&sorted.pathless, kind).collect(port, lists);
                sorted.collect_path(path, lists);
            }
        }
    }
}

impl Index {
    pub(super) fn new(rules: &[Matcher]) -> Self {
        let mut index = Self::default();
        for (place, rule) in rules.iter().map(Matcher::rule).enumerate() {
            index.bucket(&rule.to).all.push(place);
        }
        let by_name = index.exact.values_mut().chain(index.below.values_mut());
        let buckets = by_name.chain(index.nets.values_mut()).chain([&mut index.internet]);
        buckets.for_each(|bucket| bucket.sort(rules));
        index
    }

    fn bucket(&mut self, to: &Destination) -> &mut Bucket {
        match to {
            Destination::Host(HostPattern::Exact(name)) => {
                self.exact.entry(name.as_str().into()).or_default()
            }
            Destination::Host(HostPattern::Below(parent)) => {
                self.depths |= depth_bit(parent.labels().count());
                self.below.entry(parent.as_str().into()).or_default()
            }
            Destination::Net(net) => {
                self.lengths |= 1 << net.prefix_len();
                self.nets.entry((net.prefix_len(), net.network())).or_default()
            }
            Destination::Internet => &mut self.internet,
        }
    }

    /// The places of the rules whose destination matches, in ascending order: all that are looked
    /// for, and perhaps others.
    pub(super) fn matching(&self, target: Target<'_>, looked: Looked<'_>) -> Places<'_> {
        let mut lists = Vec::new();
        for host in target.hosts {
            self.collect_host(host, looked, &mut lists);
        }
        if let Some(address) = target.address {
            self.collect_nets(address, looked, &mut lists);
        }
        self.internet.collect(looked, &mut lists);
        Places(lists.into_iter().map(<[usize]>::iter).collect())
    }

    /// The places of all rules about networks, in no order.
    pub(super) fn nets(&self) -> impl Iterator<Item = usize> {
        self.nets.values().flat_map(|bucket| bucket.all.iter().copied())
    }

    fn collect_host<'i>(
        &'i self,
        host: &HostName,
        looked: Looked<'_>,
        lists: &mut Vec<&'i [usize]>,
    ) {
        if let Some(bucket) = self.exact.get(host.as_str()) {
            bucket.collect(looked, lists);
        }
        let mut depth = host.labels().count();
        let mut name = host.as_str();
        while let Some((_, parent)) = name.split_once('.') {
            (name, depth) = (parent, depth.saturating_sub(1));
            if self.depths & depth_bit(depth) == 0 {
                continue;
            }
            if let Some(bucket) = self.below.get(parent) {
                bucket.collect(looked, lists);
            }
        }
    }

    fn collect_nets<'i>(
        &'i self,
        address: Ipv4Addr,
        looked: Looked<'_>,
        lists: &mut Vec<&'i [usize]>,
    ) {
        for length in (0..=32_u8).filter(|length| self.lengths & (1 << length) != 0) {
            let mask = u32::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0);
            let network = Ipv4Addr::from_bits(address.to_bits() & mask);
            if let Some(bucket) = self.nets.get(&(length, network)) {
                bucket.collect(looked, lists);
            }
        }
    }
}

/// The bit of a number of labels; a name of 253 characters has at most 127.
fn depth_bit(labels: usize) -> u128 {
    u32::try_from(labels).ok().and_then(|labels| 1_u128.checked_shl(labels)).unwrap_or(0)
}

/// Places of rules in ascending order, each once.
#[derive(Debug)]
pub(super) struct Places<'i>(Vec<slice::Iter<'i, usize>>);

impl Iterator for Places<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let head = |list: &slice::Iter<'_, usize>| list.as_slice().first().copied();
        let least = self.0.iter().filter_map(head).min()?;
        for list in &mut self.0 {
            if head(list) == Some(least) {
                list.next();
            }
        }
        Some(least)
    }
}
