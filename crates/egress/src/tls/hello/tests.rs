use std::sync::Arc;

use proptest::prelude::*;
use rustls::crypto::ring::default_provider;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What rustls's client sends first.
fn real_hello(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A hello with these extensions, in one record.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, body) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(block16(body));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(block16(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(block16(&list));
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut message = vec![CLIENT_HELLO];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    records(&message, message.len())
}

/// The message in records of at most that many bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let mut record = vec![HANDSHAKE, 3, 1];
        record.extend(block16(piece));
        record
    };
    message.chunks(size).flat_map(record).collect()
}

fn block16(body: &[u8]) -> Vec<u8> {
    let mut block = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    block.extend(body);
    block
}

fn sni(names: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend(block16(name));
    }
    (SERVER_NAME, block16(&list))
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// What rustls reads as the server name; `None` when it takes the bytes for no hello.
fn name_by_rustls(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Some(accepted.client_hello().server_name().map(str::to_owned));
            }
            Ok(None) => {}
            Err(_) => return None,
        }
    }
    None
}

#[test]
fn a_real_hello_gives_its_name_and_protocols() {
    let bytes = real_hello("API.allowed.test", &[b"h2", b"http/1.1"]);
    let hello = parse(&bytes).unwrap().unwrap();
    assert_eq!(hello.server_name, Some(host("api.allowed.test")));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(!hello.hides_name);
}

#[test]
fn a_hello_to_an_address_has_no_name() {
    let hello = parse(&real_hello("192.0.2.7", &[])).unwrap().unwrap();
    assert_eq!((hello.server_name, hello.alpn.len()), (None, 0));
}

#[test]
fn every_beginning_of_a_hello_is_waited_for() {
    let bytes = real_hello("allowed.test", &[]);
    for len in 0..bytes.len() {
        assert_eq!(parse(&bytes[..len]), Ok(None), "{len}");
    }
}

#[test]
fn early_data_behind_the_hello_is_left_alone() {
    let mut bytes = real_hello("allowed.test", &[]);
    bytes.extend([23, 3, 3, 0, 1, 0]);
    assert!(parse(&bytes).unwrap().is_some());
}

#[test]
fn an_extension_that_hides_the_name_is_seen() {
    for kind in HIDING {
        let bytes = hello(&[sni(&[(0, b"allowed.test")]), (kind, vec![0])]);
        assert!(parse(&bytes).unwrap().unwrap().hides_name, "{kind:x}");
    }
}

#[test]
fn a_server_name_that_two_parsers_could_read_differently_is_refused() {
    let long = [b'a'; 300];
    for (what, extensions) in [
        ("two names", vec![sni(&[(0, b"allowed.test"), (0, b"evil.test")])]),
        ("two extensions", vec![sni(&[(0, b"allowed.test")]), sni(&[(0, b"evil.test")])]),
        ("another type first", vec![sni(&[(1, b"x"), (0, b"allowed.test")])]),
        ("another type", vec![sni(&[(1, b"allowed.test")])]),
        ("no name", vec![sni(&[])]),
        ("an empty name", vec![sni(&[(0, b"")])]),
        ("an empty extension", vec![(SERVER_NAME, vec![])]),
        ("a NUL", vec![sni(&[(0, b"allowed.test\0.evil.test")])]),
        ("a trailing dot", vec![sni(&[(0, b"allowed.test.")])]),
        ("an address", vec![sni(&[(0, b"192.0.2.1")])]),
        ("an IPv6 address", vec![sni(&[(0, b"::1")])]),
        ("a number", vec![sni(&[(0, b"0x7f000001")])]),
        ("a space", vec![sni(&[(0, b"allowed.test ")])]),
        ("a wildcard", vec![sni(&[(0, b"*.allowed.test")])]),
        ("no ASCII", vec![sni(&[(0, "b\u{fc}cher.test".as_bytes())])]),
        ("no UTF-8", vec![sni(&[(0, b"\xff.test")])]),
        ("a long name", vec![sni(&[(0, &long)])]),
        ("a byte too many", vec![(SERVER_NAME, [sni(&[(0, b"a.test")]).1, vec![0]].concat())]),
    ] {
        assert!(parse(&hello(&extensions)).is_err(), "{what}");
    }
}

#[test]
fn whatever_is_no_hello_is_refused_at_once() {
    let good = hello(&[sni(&[(0, b"allowed.test")])]);
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    for (what, bytes) in [
        ("an alert", changed(0, 21)),
        ("application data", changed(0, 23)),
        ("SSL 2", vec![0x80, 0x2e, 1]),
        ("a major version", changed(1, 2)),
        ("a minor version", changed(2, 4)),
        ("a ServerHello", changed(5, 2)),
        ("an endless message", vec![HANDSHAKE, 3, 1, 0, 4, CLIENT_HELLO, 1, 0, 0]),
        ("an oversized record", vec![HANDSHAKE, 3, 1, 0xff, 0xff]),
        ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0]),
        ("a longer record", changed(4, good[4] + 1).into_iter().chain([0]).collect()),
        ("a shorter list of extensions", changed(5 + 4 + 2 + 32 + 1 + 4 + 2 + 1, 0)),
        (
            "no compression",
            framed(&[3, 3].into_iter().chain([0; 33]).chain([0; 5]).collect::<Vec<_>>()),
        ),
    ] {
        assert!(parse(&bytes).is_err(), "{what}");
    }
}

#[test]
fn a_hello_in_too_many_records_is_refused_before_it_is_whole() {
    let bytes = hello(&[sni(&[(0, b"allowed.test")])]);
    let message = &bytes[RECORD_HEADER..];
    assert!(parse(&records(message, message.len().div_ceil(30))).unwrap().is_some());
    assert_eq!(parse(&records(message, 1)), Err(TooLarge("records")));
}

#[test]
fn a_record_that_claims_more_than_the_hello_has_is_refused_before_it_comes() {
    let message = hello(&[sni(&[(0, b"allowed.test")])]).split_off(RECORD_HEADER);
    let mut bytes = records(&message[..20], 20);
    assert_eq!(parse(&bytes), Ok(None));
    bytes.extend([HANDSHAKE, 3, 1, 0x40, 0]);
    assert_eq!(parse(&bytes), Err(FOLLOWED));
}

#[test]
fn too_many_extensions_or_protocols_are_refused() {
    let many: Vec<_> = (0x1000..0x1041).map(|kind| (kind, vec![])).collect();
    assert_eq!(parse(&hello(&many)), Err(TooLarge("extensions")));
    let protocols = (APPLICATION_PROTOCOLS, block16(&[1, b'x'].repeat(33)));
    assert_eq!(parse(&hello(&[protocols])), Err(TooLarge("application protocols")));
}

#[test]
fn a_whole_hello_never_has_more_bytes_than_are_kept() {
    let filler = vec![0; HELLO_MAX - 100];
    let bytes = hello(&[sni(&[(0, b"allowed.test")]), (0x1234, filler)]);
    let split = records(&bytes[RECORD_HEADER..], HELLO_MAX / (RECORDS_MAX - 1));
    assert!(parse(&split).unwrap().is_some() && split.len() <= BYTES_MAX);
}

proptest! {
    #[test]
    fn how_a_hello_is_cut_into_records_changes_nothing(size in 12_usize..600) {
        let whole = real_hello("allowed.test", &[b"h2"]);
        let message = &whole[RECORD_HEADER..];
        prop_assume!(message.len().div_ceil(size) <= RECORDS_MAX);
        prop_assert_eq!(parse(&records(message, size)), parse(&whole));
    }

    #[test]
    fn what_is_accepted_reads_the_same_by_another_parser(
        changes in prop::collection::vec((0_usize..400, any::<u8>()), 0..4),
        insert in prop::option::of((0_usize..400, any::<u8>())),
    ) {
        let mut bytes = real_hello("allowed.test", &[b"h2"]);
        for (at, to) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
        }
        if let Some((at, byte)) = insert {
            bytes.insert(at.min(bytes.len()), byte);
        }
        if let Ok(Some(hello)) = parse(&bytes)
            && let Some(theirs) = name_by_rustls(&bytes)
        {
            prop_assert_eq!(hello.server_name.map(|name| name.to_string()), theirs);
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if parse(&bytes).is_err() {
            let longer = [bytes, vec![0]].concat();
            prop_assert!(parse(&longer).is_err());
        }
    }
}
