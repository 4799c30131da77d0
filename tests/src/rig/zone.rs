//! What the names of the test internet mean; a test can change it at any time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::svcb::{EchConfigList, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, SVCB, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// TTL of records that do not say otherwise, in seconds.
pub const TTL: u32 = 60;
/// Longest chain of aliases that one answer tells.
const CHAIN: usize = 20;

/// The answers for one name and type.
#[derive(Debug, Clone)]
struct Entry {
    ttl: u32,
    /// One per question, over and over.
    turns: Vec<Vec<RData>>,
    asked: usize,
}

type Key = (String, RecordType);

/// All names. Names are kept in lower case without the last dot; `*.` stands for any labels.
#[derive(Debug, Default)]
pub struct Zone {
    entries: Mutex<HashMap<Key, Entry>>,
    /// Records that come along unasked with answers about a name.
    extras: Mutex<HashMap<String, Vec<Record>>>,
}

impl Zone {
    /// Gives a name these addresses, both families, instead of what it had.
    pub fn address(&self, name: &str, addresses: &[&str]) {
        self.turns(name, TTL, &[addresses]);
    }

    /// Gives a name these addresses with a TTL, one list per question, over and over.
    pub fn turns(&self, name: &str, ttl: u32, turns: &[&[&str]]) {
        let all: Vec<Vec<IpAddr>> = turns.iter().map(|turn| parse(turn)).collect();
        let of = |wanted: fn(&IpAddr) -> bool| -> Vec<Vec<RData>> {
            let turn = |turn: &Vec<IpAddr>| turn.iter().filter(|a| wanted(a)).map(record).collect();
            all.iter().map(turn).collect()
        };
        self.put(name, RecordType::A, Entry { ttl, turns: of(IpAddr::is_ipv4), asked: 0 });
        self.put(name, RecordType::AAAA, Entry { ttl, turns: of(IpAddr::is_ipv6), asked: 0 });
    }

    /// Makes a name an alias of another.
    pub fn alias(&self, name: &str, target: &str) {
        self.forget(name);
        self.one(name, RData::CNAME(CNAME(parse_name(target))));
    }

    /// Gives a name a text.
    pub fn text(&self, name: &str, text: &str) {
        self.one(name, RData::TXT(TXT::new(vec![text.to_owned()])));
    }

    /// Gives a name an `HTTPS` record that offers an encrypted hello with this configuration.
    pub fn encrypted_hello(&self, name: &str, configuration: &[u8]) {
        let ech = SvcParamValue::EchConfigList(EchConfigList(configuration.to_vec()));
        let parameters = vec![(SvcParamKey::EchConfigList, ech)];
        self.one(name, RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), parameters))));
    }

    /// Lets answers about `name` bring an address of another name along.
    pub fn extra(&self, name: &str, other: &str, address: &str) {
        let address: IpAddr = address.parse().expect("a test writes addresses well");
        let record = Record::from_rdata(parse_name(other), TTL, record(&address));
        self.extras.lock().expect("nothing panics with the lock").insert(lower(name), vec![record]);
    }

    /// Takes a name away.
    pub fn forget(&self, name: &str) {
        let name = lower(name);
        let mut entries = self.entries.lock().expect("nothing panics with the lock");
        entries.retain(|(known, _kind), _entry| *known != name);
    }

    fn one(&self, name: &str, data: RData) {
        let entry = Entry { ttl: TTL, turns: vec![vec![data.clone()]], asked: 0 };
        self.put(name, data.record_type(), entry);
    }

    fn put(&self, name: &str, kind: RecordType, entry: Entry) {
        let mut entries = self.entries.lock().expect("nothing panics with the lock");
        entries.insert((lower(name), kind), entry);
    }

    /// The first address of a name, of either family.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<IpAddr> {
        let name = Name::from_ascii(name).ok()?;
        [RecordType::A, RecordType::AAAA].into_iter().find_map(|kind| {
            let (records, _known) = self.chain(&name, kind);
            records.iter().find_map(|record| record.data.ip_addr())
        })
    }

    /// The answer to a question.
    #[must_use]
    pub fn answer(&self, question: &Message) -> Message {
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_queries(question.queries.iter().cloned());
        let Some(asked) = question.queries.first() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        };
        let (records, known) = self.chain(asked.name(), asked.query_type());
        if !known {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        answer.add_answers(records);
        let extras = self.extras.lock().expect("nothing panics with the lock");
        if let Some(extra) = extras.get(&lower(&asked.name().to_ascii())) {
            answer.add_answers(extra.iter().cloned());
        }
        answer
    }

    /// The records of a name, through its aliases, and whether the name is known at all.
    fn chain(&self, name: &Name, kind: RecordType) -> (Vec<Record>, bool) {
        let mut entries = self.entries.lock().expect("nothing panics with the lock");
        let (mut records, mut name, mut known) = (Vec::new(), name.clone(), false);
        for _link in 0..CHAIN {
            let Some(owner) = owner(&entries, &lower(&name.to_ascii())) else { break };
            known = true;
            let alias = entries.contains_key(&(owner.clone(), RecordType::CNAME));
            let kind = if alias { RecordType::CNAME } else { kind };
            let Some(entry) = entries.get_mut(&(owner, kind)) else { break };
            let turn = entry.turns.get(entry.asked % entry.turns.len().max(1));
            let found = turn.cloned().unwrap_or_default();
            entry.asked += 1;
            let ttl = entry.ttl;
            let next = found.iter().find_map(|data| match data {
                RData::CNAME(CNAME(target)) if alias => Some(target.clone()),
                _other => None,
            });
            records
                .extend(found.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)));
            match next {
                Some(target) => name = target,
                None => break,
            }
        }
        (records, known)
    }
}

/// The name in the table that speaks for `name`: itself, or the nearest wildcard above.
fn owner(entries: &HashMap<Key, Entry>, name: &str) -> Option<String> {
    let has = |name: &str| entries.keys().any(|(known, _kind)| known == name);
    if has(name) {
        return Some(name.to_owned());
    }
    let above = name.match_indices('.').filter_map(|(at, _dot)| name.get(at + 1..));
    above.map(|suffix| format!("*.{suffix}")).find(|wildcard| has(wildcard))
}

fn lower(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[track_caller]
fn parse_name(name: &str) -> Name {
    Name::from_ascii(format!("{}.", lower(name))).expect("a test writes names well")
}

#[track_caller]
fn parse(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|a| a.parse().expect("a test writes addresses well")).collect()
}

fn record(address: &IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(*address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::*;

    fn ask(zone: &Zone, name: &str, kind: RecordType) -> Message {
        let mut question = Message::query();
        question.add_query(Query::query(parse_name(name), kind));
        zone.answer(&question)
    }

    fn addresses(answer: &Message) -> Vec<String> {
        answer.answers.iter().filter_map(|r| Some(r.data.ip_addr()?.to_string())).collect()
    }

    #[test]
    fn a_name_can_answer_differently_at_each_question() {
        let zone = Zone::default();
        zone.turns("flip.test", 0, &[&["93.184.216.10"], &["10.0.0.5"]]);
        let asked = [(); 3].map(|()| addresses(&ask(&zone, "FLIP.test", RecordType::A)));
        assert_eq!(asked.concat(), ["93.184.216.10", "10.0.0.5", "93.184.216.10"]);
    }

    #[test]
    fn aliases_are_followed_and_wildcards_stand_for_any_labels() {
        let zone = Zone::default();
        zone.address("*.wide.test", &["1.1.1.1", "2001:db8::1"]);
        zone.alias("alias.test", "a.b.wide.test");
        let answer = ask(&zone, "alias.test", RecordType::AAAA);
        assert_eq!(answer.answers.len(), 2);
        assert_eq!(addresses(&answer), ["2001:db8::1"]);
        assert_eq!(zone.resolve("alias.test").unwrap().to_string(), "1.1.1.1");
    }

    #[test]
    fn an_unknown_name_does_not_exist_and_a_known_one_may_lack_a_type() {
        let zone = Zone::default();
        zone.address("known.test", &["1.1.1.1"]);
        let code = |name, kind| ask(&zone, name, kind).metadata.response_code;
        assert_eq!(code("unknown.test", RecordType::A), ResponseCode::NXDomain);
        assert_eq!(code("known.test", RecordType::MX), ResponseCode::NoError);
    }
}
