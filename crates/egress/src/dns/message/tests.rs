use hickory_proto::rr::Name;

use super::*;

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn read(message: &Message) -> Result<Asked, Unread> {
    Asked::read(&message.to_vec().unwrap())
}

/// The code of the answer that a message gets without being read.
#[track_caller]
fn refusal(bytes: &[u8]) -> ResponseCode {
    match Asked::read(bytes) {
        Err(Unread::Answered(answer)) => {
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.metadata.message_type, MessageType::Response);
            answer.metadata.response_code
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_has_the_questions_number_case_and_flags() {
    let asked = read(&question("Api.EXAMPLE.com.", RecordType::A)).unwrap();
    assert_eq!(asked.host().unwrap().as_str(), "api.example.com");
    let address = Ipv4Addr::new(203, 0, 113, 1);
    let bytes = asked.answer(&Reply::Addresses(vec![address], 30)).unwrap();
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(answer.metadata.id, 0x1234);
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    assert_eq!(answer.queries[0].name().to_ascii(), "Api.EXAMPLE.com.");
    assert_eq!(answer.answers[0].name.to_ascii(), "Api.EXAMPLE.com.");
    assert_eq!((answer.answers[0].ttl, &answer.answers[0].data), (30, &RData::A(A(address))));
    assert!(answer.edns.is_none() && answer.authorities.is_empty());
}

#[test]
fn an_opt_record_is_answered_with_a_small_one_of_our_own() {
    let mut message = question("a.test.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(65_535).set_dnssec_ok(true);
    message.set_edns(edns.clone());
    let bytes = read(&message).unwrap().answer(&Reply::NoData).unwrap();
    let answered = Message::from_vec(&bytes).unwrap().edns.unwrap();
    assert_eq!((answered.max_payload(), answered.version()), (PAYLOAD, 0));
    assert!(answered.flags().dnssec_ok && answered.options().as_ref().is_empty());
    edns.set_version(1);
    message.set_edns(edns);
    // 16, which the library calls BADSIG where it reads it: they share the number.
    let code = refusal(&message.to_vec().unwrap());
    assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn what_is_no_plain_question_is_refused_without_being_read() {
    let plain = question("a.test.", RecordType::A);
    let mut two = plain.clone();
    two.add_query(two.queries[0].clone());
    assert_eq!(refusal(&two.to_vec().unwrap()), ResponseCode::FormErr);
    let mut none = plain.clone();
    none.queries.clear();
    assert_eq!(refusal(&none.to_vec().unwrap()), ResponseCode::FormErr);
    let mut answering = plain.clone();
    let name = answering.queries[0].name().clone();
    answering.add_answer(Record::from_rdata(name, 1, RData::A(A(Ipv4Addr::LOCALHOST))));
    assert_eq!(refusal(&answering.to_vec().unwrap()), ResponseCode::FormErr);
    let mut update = plain.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(refusal(&update.to_vec().unwrap()), ResponseCode::NotImp);
    let mut trailing = plain.to_vec().unwrap();
    trailing.push(0);
    assert_eq!(refusal(&trailing), ResponseCode::FormErr);
    let counts_only = [0, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refusal(&counts_only), ResponseCode::FormErr);
    let points_at_itself = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1];
    assert_eq!(refusal(&points_at_itself), ResponseCode::FormErr);
}

#[test]
fn what_may_start_a_loop_or_is_no_message_is_not_answered() {
    let plain = question("a.test.", RecordType::A).to_vec().unwrap();
    let mut response = plain.clone();
    response[2] |= 0x80;
    for bytes in [&[][..], &plain[..11], &response, &[0; QUERY_MAX + 1]] {
        assert_eq!(Asked::read(bytes).unwrap_err(), Unread::Silent, "{} bytes", bytes.len());
    }
}

#[test]
fn only_host_names_are_hosts_whatever_bytes_the_labels_have() {
    for (labels, host) in [
        (&[&b"a"[..], b"TEST"][..], Some("a.test")),
        (&[b"a.b", b"test"], None),
        (&[b"a\\046b", b"test"], None),
        (&[b"a\0", b"test"], None),
        (&[b"b\xc3\xbccher", b"test"], None),
        (&[b"*", b"test"], None),
        (&[b"127", b"0", b"0", b"1"], None),
        (&[], None),
    ] {
        let name = Name::from_labels(labels.iter().copied()).unwrap();
        let mut message = Message::query();
        message.add_query(Query::query(name, RecordType::A));
        let asked = read(&message).unwrap();
        assert_eq!(asked.host().map(String::from).as_deref(), host, "{labels:?}");
    }
}

#[test]
fn kinds_of_records_are_told_apart() {
    for (kind, expected, text) in [
        (RecordType::A, Kind::Address, "A"),
        (RecordType::AAAA, Kind::Absent, "AAAA"),
        (RecordType::HTTPS, Kind::Absent, "HTTPS"),
        (RecordType::SVCB, Kind::Absent, "SVCB"),
        (RecordType::PTR, Kind::Reverse, "PTR"),
        (RecordType::TXT, Kind::Odd, "TXT"),
        (RecordType::ANY, Kind::Odd, "ANY"),
        (RecordType::NULL, Kind::Odd, "NULL"),
        (RecordType::Unknown(65_280), Kind::Odd, "TYPE65280"),
    ] {
        let asked = read(&question("a.test.", kind)).unwrap();
        assert_eq!((asked.kind(), asked.record().as_str()), (expected, text));
    }
    let mut chaos = question("version.bind.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let asked = read(&chaos).unwrap();
    assert_eq!((asked.kind(), asked.record().as_str()), (Kind::Odd, "CLASS3 A"));
}

#[test]
fn the_longest_answer_fits_into_the_smallest_message() {
    let label = "x".repeat(63);
    let name = format!("{label}.{label}.{label}.{}.", "x".repeat(61));
    let mut message = question(&name, RecordType::A);
    message.set_edns(Edns::new());
    let asked = read(&message).unwrap();
    let addresses = (1..=20).map(|n| Ipv4Addr::new(203, 0, 113, n)).collect();
    let answer = asked.answer(&Reply::Addresses(addresses, u32::MAX)).unwrap();
    assert!(answer.len() <= ANSWER_MAX, "{}", answer.len());
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), ADDRESSES_MAX);
}
