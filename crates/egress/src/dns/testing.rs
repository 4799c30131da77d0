//! A DNS server in the test's own process, that says what it was asked.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::Resolver;

/// What is at a name.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Addresses, each answer the next list of them, the last one for ever; with this TTL.
    Addresses(Vec<Vec<Ipv4Addr>>, u32),
    /// Another name.
    Alias(&'static str),
    /// Nothing is answered.
    Silence,
    /// `SERVFAIL`.
    Failure,
}

#[derive(Debug, Default)]
struct State {
    zone: HashMap<String, Entry>,
    asked: Vec<(String, RecordType)>,
}

/// The server. It ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct TestServer {
    pub(crate) at: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl TestServer {
    /// Starts it with these names.
    pub(crate) async fn start<const N: usize>(zone: [(&str, Entry); N]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let zone = zone.into_iter().map(|(name, entry)| (format!("{name}."), entry)).collect();
        let state = Arc::new(Mutex::new(State { zone, asked: Vec::new() }));
        let server = Self { at: socket.local_addr().unwrap(), state };
        let serving = server.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 2_048];
            loop {
                let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
                if let Some(answer) = serving.answer(&bytes[..len]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        server
    }

    /// A resolver that asks it.
    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::with_servers(&[self.at]).unwrap()
    }

    /// The names that it was asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.asked.iter().map(|(name, _)| name.trim_end_matches('.').to_owned()).collect()
    }

    /// The record types that it was asked for, in order.
    pub(crate) fn asked_types(&self) -> Vec<RecordType> {
        self.state.lock().unwrap().asked.iter().map(|(_, kind)| *kind).collect()
    }

    fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(bytes).unwrap();
        let query = question.queries[0].clone();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let mut state = self.state.lock().unwrap();
        state.asked.push((query.name().to_ascii(), query.query_type()));
        if !state.fill(&mut answer, &query) {
            return None;
        }
        Some(answer.to_vec().unwrap())
    }
}

impl State {
    /// False where there is no answer at all.
    fn fill(&mut self, answer: &mut Message, query: &Query) -> bool {
        let mut name = query.name().clone();
        loop {
            let Some(entry) = self.zone.get_mut(&name.to_ascii()) else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                return true;
            };
            match entry {
                Entry::Silence => return false,
                Entry::Failure => {
                    answer.metadata.response_code = ResponseCode::ServFail;
                    return true;
                }
                Entry::Alias(target) => {
                    let target = Name::from_ascii(format!("{target}.")).unwrap();
                    let data = RData::CNAME(CNAME(target.clone()));
                    answer.add_answer(Record::from_rdata(name, 60, data));
                    name = target;
                }
                Entry::Addresses(lists, ttl) => {
                    let list = if lists.len() > 1 { lists.remove(0) } else { lists[0].clone() };
                    for address in list {
                        let data = RData::A(A(address));
                        answer.add_answer(Record::from_rdata(name.clone(), *ttl, data));
                    }
                    return true;
                }
            }
        }
    }
}

/// The same addresses each time, for a minute.
pub(crate) fn at<const N: usize>(addresses: [&str; N]) -> Entry {
    Entry::Addresses(vec![list(&addresses)], 60)
}

/// Other addresses each time, never to be kept.
pub(crate) fn flipping<const N: usize>(addresses: [&[&str]; N]) -> Entry {
    Entry::Addresses(addresses.into_iter().map(list).collect(), 0)
}

fn list(addresses: &[&str]) -> Vec<Ipv4Addr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}
