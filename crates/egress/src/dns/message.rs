//! Questions of a guest's as bytes, and our answers.
//!
//! Only what a stub resolver sends is read: one question, no answers, at most an OPT record. The
//! counts of the header are bounded before anything is allocated for them.

use std::net::Ipv4Addr;

use courier_types::egress::HostName;
use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// Longest question in bytes: a name of 255, an OPT record and its padding to the next 128 (RFC
/// 8467, section 4.1).
const QUERY_MAX: usize = 512;
/// Most additional records: OPT, and one that is ignored.
const ADDITIONALS_MAX: u16 = 2;
/// Longest answer in bytes where the question has no OPT record (RFC 1035, section 4.2.1). Ours are
/// never longer: see [`ADDRESSES_MAX`].
pub(crate) const ANSWER_MAX: usize = 512;
/// Most addresses of an answer: with the longest name and an OPT record, 8 of 16 bytes each are
/// below [`ANSWER_MAX`].
pub(crate) const ADDRESSES_MAX: usize = 8;
/// The size that our OPT record says (RFC 9715, section 3.1): more than we ever send or take.
const PAYLOAD: u16 = 1_232;

/// Why bytes are no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nothing that may be answered: too short, too long, or an answer itself.
    Silent,
    /// Answered with an error.
    Answered(Vec<u8>),
}

/// What is asked for, as far as it makes a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The IPv4 addresses.
    Address,
    /// What no name has here: IPv6 addresses, and service bindings (RFC 9460), which would give
    /// the guest ECH keys and protocols other than TCP.
    Absent,
    /// The name of an address.
    Reverse,
    /// Anything else, which is no way out.
    Odd,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// The name is there and has no such record.
    NoData,
    /// No such name.
    NoName,
    /// That is not answered here.
    Refused,
    /// Not now.
    Failed,
}

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    metadata: Metadata,
    query: Query,
    edns: Option<Edns>,
}

impl Asked {
    /// Reads a question.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unread> {
        if bytes.len() > QUERY_MAX {
            return Err(Unread::Silent);
        }
        let header = Header::read(&mut BinDecoder::new(bytes)).map_err(|_short| Unread::Silent)?;
        let (metadata, counts) = (header.metadata, header.counts);
        if metadata.message_type != MessageType::Query {
            return Err(Unread::Silent);
        }
        let answered = |code| Unread::Answered(error(&metadata, code));
        if metadata.op_code != OpCode::Query {
            return Err(answered(ResponseCode::NotImp));
        }
        let plain = counts.queries == 1
            && counts.answers == 0
            && counts.authorities == 0
            && counts.additionals <= ADDITIONALS_MAX;
        if !plain {
            return Err(answered(ResponseCode::FormErr));
        }
        let mut decoder = BinDecoder::new(bytes);
        let message = Message::read(&mut decoder).ok().filter(|_| decoder.is_empty());
        let message = message.ok_or_else(|| answered(ResponseCode::FormErr))?;
        let query = message.queries.into_iter().next();
        let query = query.ok_or_else(|| answered(ResponseCode::FormErr))?;
        let asked = Self { metadata, query, edns: message.edns };
        // RFC 6891, section 6.1.3: a version that we do not know.
        if asked.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            let bytes = asked.encode(ResponseCode::BADVERS, &[], 0);
            return Err(bytes.map_or(Unread::Silent, Unread::Answered));
        }
        Ok(asked)
    }

    /// The name in its canonical form; `None` where it is no host name. No byte of a label is
    /// anything but itself: there are no escapes here that a second reader could undo.
    pub(crate) fn host(&self) -> Option<HostName> {
        let mut name = Vec::new();
        for label in self.query.name().iter() {
            if label.contains(&b'.') {
                return None;
            }
            if !name.is_empty() {
                name.push(b'.');
            }
            name.extend_from_slice(label);
        }
        std::str::from_utf8(&name).ok()?.parse().ok()
    }

    /// What is asked for.
    pub(crate) fn kind(&self) -> Kind {
        let kind = self.query.query_type();
        if self.query.query_class() != DNSClass::IN {
            Kind::Odd
        } else if kind == RecordType::A {
            Kind::Address
        } else if [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB].contains(&kind) {
            Kind::Absent
        } else if kind == RecordType::PTR {
            Kind::Reverse
        } else {
            Kind::Odd
        }
    }

    /// The record type and class as text, e.g. `A` or `CH TYPE65280`.
    pub(crate) fn record(&self) -> String {
        let kind = match self.query.query_type() {
            RecordType::Unknown(number) => format!("TYPE{number}"),
            kind => kind.to_string(),
        };
        match self.query.query_class() {
            DNSClass::IN => kind,
            class => format!("CLASS{} {kind}", u16::from(class)),
        }
    }

    /// The answer in bytes; `None` where there is no way to write one.
    pub(crate) fn answer(&self, reply: &Reply) -> Option<Vec<u8>> {
        match reply {
            Reply::Addresses(addresses, ttl) => self.encode(ResponseCode::NoError, addresses, *ttl),
            Reply::NoData => self.encode(ResponseCode::NoError, &[], 0),
            Reply::NoName => self.encode(ResponseCode::NXDomain, &[], 0),
            Reply::Refused => self.encode(ResponseCode::Refused, &[], 0),
            Reply::Failed => self.encode(ResponseCode::ServFail, &[], 0),
        }
    }

    fn encode(&self, code: ResponseCode, addresses: &[Ipv4Addr], ttl: u32) -> Option<Vec<u8>> {
        let mut message = response(&self.metadata, code);
        message.add_query(self.query.clone());
        let name = self.query.name();
        for address in addresses.iter().take(ADDRESSES_MAX) {
            message.add_answer(Record::from_rdata(name.clone(), ttl, RData::A(A(*address))));
        }
        if let Some(asked) = &self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
            edns.set_rcode_high(code.high());
            message.set_edns(edns);
        }
        message.to_vec().ok().filter(|bytes| bytes.len() <= ANSWER_MAX)
    }
}

fn response(asked: &Metadata, code: ResponseCode) -> Message {
    let mut message = Message::response(asked.id, asked.op_code);
    message.metadata.recursion_desired = asked.recursion_desired;
    message.metadata.checking_disabled = asked.checking_disabled;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message
}

/// An answer without a question: a header, and nothing that could fail to be written.
fn error(asked: &Metadata, code: ResponseCode) -> Vec<u8> {
    response(asked, code).to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests;
