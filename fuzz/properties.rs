//! What must hold of every parser of hostile bytes, whatever the bytes are.
//!
//! Each function takes arbitrary bytes and panics where the property does not hold. The fuzz
//! targets beside this file call them with bytes that grow towards new code; the test
//! `parsers` calls them with random bytes in every test run.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use bytes::{Bytes, BytesMut};
use courier_archive::{Bounds, EntryPath, Header, Kind as EntryKind, Reader, Writer};
use courier_protocol::e2b::{Cursor, MetadataFilter, Order, TemplateRef};
use courier_protocol::envd::connect::{
    Codec, Envelope, EnvelopeError, EnvelopeParser, decode, encode,
};
use courier_protocol::envd::filesystem::ListDirRequest;
use courier_protocol::envd::process::StartRequest;
use courier_protocol::envd::signature::{Grant, Operation, SignatureError, sign, verify};
use courier_types::egress::{HostName, HostPattern, Layer, LayerSource, Layers, Policy};
use courier_types::{AccessToken, Timestamp};

/// The guest daemon's parsers; it is a binary, so its files are taken as they are.
#[path = "../crates/guest/src"]
mod guest {
    pub(crate) mod path;

    #[path = "files"]
    pub(crate) mod files {
        pub(crate) mod disposition;
        pub(crate) mod multipart;
        pub(crate) mod query;
    }
}

/// The parser of a guest's DNS questions, which its crate shows to nobody.
#[path = "../crates/egress/src/dns"]
mod dns {
    pub(crate) mod message;
}

/// The judge of a guest's HTTP/1 requests, which its crate shows to nobody.
#[expect(dead_code, reason = "the proxy behind it uses the rest")]
#[path = "../crates/egress/src/http/guard"]
mod guard {
    pub(crate) mod authority;
    pub(crate) mod framing;
    pub(crate) mod head;
    pub(crate) mod violation;
}

/// The parser of a guest's TLS hellos, which its crate shows to nobody.
#[path = "../crates/egress/src/tls"]
mod tls {
    pub(crate) mod hello;
}

/// The policy's decision function; its crate brings all that enforces it.
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "it is public in its crate, which uses the rest"
)]
#[path = "../crates/egress/src"]
mod egress {
    pub(crate) mod policy;
}

/// What takes values out of answers, which its crate shows to nobody.
#[cfg_attr(not(test), expect(dead_code, reason = "the broker uses the rest"))]
#[path = "../crates/egress/src/broker"]
mod broker {
    pub(crate) mod redactor;
}

/// The parser of Dockerfiles; it is in a binary.
#[expect(unused_imports, reason = "the commands use the rest")]
#[path = "../crates/courier/src/template"]
mod template {
    pub(crate) mod dockerfile;
}

use broker::redactor::{Redactor, Searches};
use dns::message::{ADDRESSES_MAX, ANSWER_MAX, Asked, Kind, Reply, Unread};
use egress::policy::path::canonical;
use egress::policy::{Compiled, Question, Scheme, Verdict, covers};
use guard::framing::{Framer, Progress};
use guard::head::{HEAD_MAX, HEADERS_MAX, Origin};
use guard::violation::Violation;
use guest::files::multipart::{Event, Multipart, MultipartError};
use guest::files::query;
use guest::path;

/// Text of arbitrary bytes.
fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// Takes the first byte off, as a number from 1 to 256.
fn size(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((1, data), |(first, rest)| (usize::from(*first) + 1, rest))
}

/// Envelopes cut into pieces of any size are the same envelopes, and the same error.
pub(crate) fn connect_envelopes(data: &[u8]) {
    let (piece, body) = size(data);
    for parser in [EnvelopeParser::of_request, EnvelopeParser::of_response] {
        let whole = envelopes(parser(), body.chunks(body.len().max(1)));
        let pieces = envelopes(parser(), body.chunks(piece));
        assert_eq!(whole, pieces);
    }
}

fn envelopes<'a>(
    mut parser: EnvelopeParser,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Envelope>, Result<(), EnvelopeError>) {
    let mut seen = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next_envelope() {
                Ok(Some(envelope)) => seen.push(envelope),
                Ok(None) => break,
                Err(error) => return (seen, Err(error)),
            }
        }
    }
    let end = parser.finish();
    (seen, end)
}

/// A message that is accepted survives its own encoding, in either codec.
pub(crate) fn connect_messages(data: &[u8]) {
    for codec in [Codec::Json, Codec::Proto] {
        if let Ok(message) = decode::<StartRequest>(codec, data) {
            let again = decode::<StartRequest>(codec, &encode(codec, &message));
            assert_eq!(again.ok(), Some(message));
        }
        if let Ok(message) = decode::<ListDirRequest>(codec, data) {
            let again = decode::<ListDirRequest>(codec, &encode(codec, &message));
            assert_eq!(again.ok(), Some(message));
        }
    }
}

/// Only the signature of exactly this grant and token is valid.
pub(crate) fn signatures(data: &[u8]) {
    let text = text(data);
    let mut parts = text.splitn(4, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (path, username, candidate, secret) = (part(), part(), part(), part());
    let token = AccessToken::new(secret.to_owned());
    let grant = Grant { path, operation: Operation::Read, username, expiration: None };
    let now = Timestamp::from_micros(0);
    let right = sign(&token, &grant);
    assert_eq!(verify(&token, &grant, Some(&right), now), Ok(()));
    assert_eq!(verify(&token, &grant, None, now), Err(SignatureError::Missing));
    if candidate != right {
        assert_eq!(verify(&token, &grant, Some(candidate), now), Err(SignatureError::Invalid));
    }
    let writing = Grant { operation: Operation::Write, ..grant };
    assert_eq!(verify(&token, &writing, Some(&right), now), Err(SignatureError::Invalid));
}

/// Query parameters of lists: what is accepted is bounded, and reads back.
pub(crate) fn list_parameters(data: &[u8]) {
    let text = text(data);
    if let Ok(filter) = MetadataFilter::decode(&text) {
        assert!(filter.pairs().len() <= MetadataFilter::MAX_PAIRS);
        assert!(filter.matches(filter.pairs()));
    }
    for order in [Order::Asc, Order::Desc] {
        if let Ok(cursor) = Cursor::decode(&text, order) {
            assert_eq!(Cursor::decode(&cursor.encode(order), order), Ok(cursor));
        }
    }
    if let Ok(reference) = TemplateRef::parse(&text) {
        assert!(!reference.name().contains(['/', '\0']), "{reference:?}");
        assert!(!reference.name().starts_with('.'), "{reference:?}");
    }
}

/// A path that is accepted is absolute, without `.` and `..`, and one that the kernel takes.
pub(crate) fn paths(data: &[u8]) {
    let text = text(data);
    if let Ok(path) = path::resolve(&text, Path::new("/home/user")) {
        assert!(path.is_absolute());
        assert!(path.as_os_str().len() <= path::PATH_MAX);
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        assert!(path.components().all(plain), "{}", path.display());
        assert!(!path.as_os_str().as_encoded_bytes().contains(&0));
    }
    // Whatever it says, it must not panic.
    drop(query::parse(&text));
}

/// A multipart body cut into pieces of any size has the same parts with the same content.
pub(crate) fn multipart(data: &[u8]) {
    const TYPE: &str = "multipart/form-data; boundary=b";
    // Any header at all, without a panic.
    drop(Multipart::new(&text(data)));
    let (piece, body) = size(data);
    let whole = parts(TYPE, body.chunks(body.len().max(1)));
    let pieces = parts(TYPE, body.chunks(piece));
    assert_eq!(whole, pieces);
}

/// Each part's name and file name as text, and its content; and how the parse ended.
type Parts = (Vec<(String, Vec<u8>)>, Result<(), MultipartError>);

fn parts<'a>(kind: &str, pieces: impl Iterator<Item = &'a [u8]>) -> Parts {
    let mut parser = Multipart::new(kind).expect("our own content type is good");
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for piece in pieces {
        parser.push(Bytes::copy_from_slice(piece));
        loop {
            match parser.next_event() {
                Ok(Some(Event::Part(head))) => seen.push((format!("{head:?}"), Vec::new())),
                Ok(Some(Event::Data(data))) => {
                    seen.last_mut().expect("data comes after its part").1.extend_from_slice(&data);
                }
                Ok(Some(Event::PartEnd)) => {}
                Ok(None) => break,
                Err(error) => return (seen, Err(error)),
            }
        }
    }
    let end = parser.finish();
    (seen, end)
}

/// What a guest writes into its channel never gives the host more than it wrote, and when the guest
/// is gone the host's read ends.
pub(crate) fn channel_records(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.expect("a runtime can be made").block_on(async {
        let (host, guest) = socketpair();
        let mut channel = courier_channel::host::Channel::new(host).expect("a seqpacket socket");
        let mut stream = channel.open(EPOCH).await.expect("the guest's end is open");
        let sent = write_records(&guest, data);
        drop(guest);
        let mut received = Vec::new();
        let end = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received).await;
        drop(end);
        assert!(received.len() <= sent, "{} of {sent} bytes", received.len());
    });
}

/// Requests that pass the framing guard are the same however they are cut, and another parser sees
/// as many of them, with the same ends.
pub(crate) fn http_requests(data: &[u8]) {
    let (piece, stream) = size(data);
    let whole = requests(stream.chunks(stream.len().max(1)));
    let pieces = requests(stream.chunks(piece));
    assert_eq!(whole.end, pieces.end);
    assert_eq!(whole.lengths, pieces.lengths);
    // What passed in pieces before a violation is a part of what came in, byte for byte.
    assert!(stream.starts_with(&pieces.passed) && pieces.passed.starts_with(&whole.passed));
    let mut rest = whole.passed.as_slice();
    for &length in &whole.lengths {
        assert_eq!(other_length(rest), length);
        rest = rest.get(length..).expect("a request that ended has passed");
    }
}

/// The requests of a stream.
struct Requests {
    /// The length of each that has ended.
    lengths: Vec<usize>,
    /// What passed.
    passed: Vec<u8>,
    /// How it ended.
    end: Result<(), Violation>,
}

fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Requests {
    let mut framer = Framer::new(Origin { scheme: "http", port: 80 });
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut seen = Requests { lengths: Vec::new(), passed: Vec::new(), end: Ok(()) };
    let mut begun = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let progress = framer.advance(&mut input, &mut output);
            seen.passed.extend_from_slice(&output.split());
            match progress {
                Ok(Progress::More) => break,
                Ok(Progress::MessageEnd) => {}
                Ok(Progress::Upgrade) => framer.refuse_upgrade(),
                Err(violation) => {
                    seen.end = Err(violation);
                    return seen;
                }
            }
            seen.lengths.push(seen.passed.len() - begun);
            begun = seen.passed.len();
        }
        assert!(input.len() <= HEAD_MAX);
    }
    seen
}

/// The length of the first request by a parser that is not ours.
fn other_length(bytes: &[u8]) -> usize {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).expect("the other parser takes the head");
    let head = parsed.unwrap();
    let find =
        |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    assert!(find("host").is_some());
    if let Some(coding) = find("transfer-encoding") {
        assert_eq!(coding.value, b"chunked");
        return head + chunks_length(bytes.get(head..).unwrap_or_default());
    }
    let length = find("content-length")
        .map_or("0", |field| std::str::from_utf8(field.value).expect("a length is ASCII"));
    head + length.trim().parse::<usize>().expect("a length is a number")
}

/// The length of chunked content by the same.
fn chunks_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let chunk = bytes.get(at..).expect("the chunk before it has passed");
        let parsed = httparse::parse_chunk_size(chunk).ok();
        let (line, size) = parsed.expect("the other parser takes the chunk").unwrap();
        let size = usize::try_from(size).expect("it has passed, so it was there");
        at += line + size + b"\r\n".len();
        if size == 0 {
            return at;
        }
    }
}

/// A DNS question that is read is answered in one small message about the same thing, and what is
/// answered without being read is no more than a header.
pub(crate) fn dns_questions(data: &[u8]) {
    let asked = match Asked::read(data) {
        Ok(asked) => asked,
        Err(Unread::Silent) => return,
        Err(Unread::Answered(bytes)) => {
            assert_eq!(bytes.get(..2), data.get(..2), "it has the question's number");
            assert!(
                bytes.len() <= ANSWER_MAX && hickory_proto::op::Message::from_vec(&bytes).is_ok()
            );
            return;
        }
    };
    if let Some(host) = asked.host() {
        assert_eq!(host.as_str().parse().as_ref(), Ok(&host));
    }
    let plain = matches!(asked.kind(), Kind::Address | Kind::Absent | Kind::Reverse);
    let record = asked.record();
    assert!(record.len() <= 64 && (!plain || !record.contains(' ')), "{record}");
    let addresses = Reply::Addresses(vec![[203, 0, 113, 1].into(); ADDRESSES_MAX + 1], 30);
    for reply in [addresses, Reply::NoData, Reply::NoName, Reply::Refused, Reply::Failed] {
        let bytes = asked.answer(&reply).expect("every question can be answered");
        assert!(bytes.len() <= ANSWER_MAX, "{} bytes", bytes.len());
        let answer = hickory_proto::op::Message::from_vec(&bytes).expect("our own answer is good");
        let again = hickory_proto::op::Message::from_vec(data).expect("the question was read");
        assert_eq!(answer.metadata.id, again.metadata.id);
        assert_eq!(answer.queries, again.queries);
        let full = matches!(reply, Reply::Addresses(..));
        assert_eq!(answer.answers.len(), if full { ADDRESSES_MAX } else { 0 });
    }
}

/// A TLS hello that is read has been read in full, whatever follows it, and is the same hello however
/// it is cut into records; before that nothing is said of it, and what is refused stays refused.
pub(crate) fn tls_hellos(data: &[u8]) {
    use tls::hello::{BYTES_MAX, HANDSHAKE, parse};
    let (piece, bytes) = size(data);
    let whole = parse(bytes);
    for end in (0..bytes.len()).step_by(piece) {
        match parse(bytes.get(..end).unwrap_or_default()) {
            Ok(None) => {}
            seen => assert_eq!(seen, whole, "after {end} bytes"),
        }
    }
    let Ok(Some(hello)) = whole else {
        assert!(whole.is_err() || bytes.len() < BYTES_MAX, "an end is waited for without a bound");
        return;
    };
    if let Some(name) = &hello.server_name {
        assert_eq!(name.as_str().parse().as_ref(), Ok(name));
    }
    let mut message = handshake(bytes);
    let length = message.get(1..4).expect("it has been read").iter();
    let length = length.fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    message.truncate(4 + length);
    if message.len().div_ceil(piece) > 32 {
        return;
    }
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).expect("a piece is small").to_be_bytes();
        [&[HANDSHAKE, 3, 3][..], &length, piece].concat()
    };
    let again: Vec<u8> = message.chunks(piece).flat_map(record).collect();
    assert_eq!(parse(&again), Ok(Some(hello)));
}

/// What the handshake records at the beginning carry.
fn handshake(mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let Some(([22, 3, _, high, low], rest)) = bytes.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        message.extend_from_slice(payload);
        bytes = rest;
    }
    message
}

/// A policy that is accepted survives its own text, and whatever it decides is also covered: by
/// itself, and by the one that allows everything.
pub(crate) fn policies(data: &[u8]) {
    let text = text(data);
    let lines = || {
        // Hardly any bytes are JSON, so each line is taken for a destination too.
        let rules: Vec<_> = text.lines().map(|line| serde_json::json!({"allow": line})).collect();
        serde_json::json!({ "rules": rules }).to_string()
    };
    for text in [text.clone(), lines()] {
        let Ok(policy) = serde_json::from_str::<Policy>(&text) else { continue };
        let again = serde_json::to_string(&policy).expect("a policy can be written");
        assert_eq!(serde_json::from_str::<Policy>(&again).ok().as_ref(), Some(&policy));
        assert_eq!(covers(&policy, &policy), Ok(()));
        let bare = Policy { presets: Vec::new(), tunnels: Vec::new(), ..policy };
        assert_eq!(covers(&Policy::internet(), &bare), Ok(()));
        let layer = Layer { source: LayerSource::Sandbox, policy: bare };
        if let Ok(compiled) = Compiled::new(&Layers(vec![layer])) {
            questions(&compiled);
        }
    }
}

/// What a later question allows, an earlier one did not deny.
fn questions(policy: &Compiled) {
    for (host, port) in [("a.test", 443), ("b.a.test", 80), ("xn--a.test", 8443)] {
        let host: HostName = host.parse().expect("a name");
        let address = std::net::SocketAddrV4::new([8, 8, 8, 8].into(), port);
        let names = std::slice::from_ref(&host);
        let verdict = |question| policy.decide(&question).verdict;
        let connection = verdict(Question::Connection { address, names });
        let tls = verdict(Question::Tls { address, host: Some(&host) });
        let (scheme, method, path) = (Scheme::Https, "GET", "/a");
        let host = Some(&host);
        let request = verdict(Question::Request { scheme, address, host, method, path });
        assert!(request != Verdict::Allow || tls != Verdict::Deny);
        assert!(tls == Verdict::Deny || connection != Verdict::Deny);
    }
}

/// A host name that is accepted has one form, which nothing else could be taken for; so has a path.
pub(crate) fn host_names(data: &[u8]) {
    let text = text(data);
    if let Ok(name) = text.parse::<HostName>() {
        let form = name.as_str();
        assert_eq!(form.parse().as_ref(), Ok(&name));
        assert!(
            form.len() <= 253 && !form.ends_with('.') && form.parse::<std::net::IpAddr>().is_err()
        );
        assert!(form.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')));
        assert!(HostPattern::Exact(name.clone()).matches(&name) && !name.is_below(&name));
    }
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern));
        assert!(pattern.covers(&pattern));
    }
    if let Ok(path) = canonical(&text) {
        assert_eq!(canonical(&path).as_ref(), Ok(&path));
        assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['?', '#', '\\']));
        assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    }
}

/// A value is covered wherever it is in an answer, however that is cut, and lengths stay.
pub(crate) fn redactions(data: &[u8]) {
    let (piece, rest) = size(data);
    let (length, rest) = size(rest);
    let (value, answer) = rest.split_at(length.min(rest.len()));
    let redacted = |piece: usize| {
        let values = vec![zeroize::Zeroizing::new(value.to_vec())];
        let redactor = Redactor::new(values, &Searches::default());
        let redactor = redactor.expect("the value is short");
        let mut redactor = redactor.keeping_lengths();
        let mut out: Vec<u8> =
            answer.chunks(piece).flat_map(|chunk| redactor.push(chunk)).collect();
        out.extend(redactor.finish());
        out
    };
    let out = redacted(piece);
    assert_eq!(out, redacted(answer.len().max(1)));
    assert_eq!(out.len(), answer.len());
    for (at, window) in answer.windows(value.len().max(4)).enumerate() {
        if window == value {
            assert!(out.iter().skip(at).take(value.len()).all(|byte| *byte == b'*'));
        }
    }
}

/// What of an archive is taken stays in its folder, has the content that was said, and comes back
/// when it is written again.
///
/// Where the first bit is set, the bytes are changes to a right archive, each a place and a value:
/// bytes that grow by themselves would hardly ever be one. Headers get the checksums that are theirs.
pub(crate) fn archives(data: &[u8]) {
    let (flags, rest) = data.split_first().map_or((0, data), |(flags, rest)| (*flags, rest));
    let mut bytes = if flags & 1 == 1 { changed_archive(rest) } else { rest.to_vec() };
    for block in bytes.chunks_exact_mut(512) {
        let is_header = block.get(257..262) == Some(b"ustar");
        let Some(sum) = block.get_mut(148..156).filter(|_| is_header) else { continue };
        sum.fill(b' ');
        let right: u32 = block.iter().copied().map(u32::from).sum();
        if let Some(sum) = block.get_mut(148..156) {
            sum.copy_from_slice(format!("{right:06o}\0 ").as_bytes());
        }
    }
    for bounds in [Bounds::LAYER, Bounds::CONTEXT] {
        let taken = read_archive(&bytes, bounds);
        let mut writer = Writer::new(Vec::new());
        for (header, content) in &taken {
            let path = header.path.as_path();
            assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            assert_eq!(content.len() as u64, header.size());
            writer.append(header, content.as_slice()).expect("a Vec takes every write");
        }
        let written = writer.finish().expect("a Vec takes every write");
        assert_eq!(read_archive(&written, bounds), taken);
    }
}

/// An archive with an entry of every kind, with some bytes changed.
fn changed_archive(changes: &[u8]) -> Vec<u8> {
    let path = |text: &str| EntryPath::new(text).expect("the path is right");
    let long = format!("folder/{}", "n".repeat(120));
    let link = EntryKind::Symlink { target: b"../folder".to_vec() };
    let mut writer = Writer::new(Vec::new());
    for (name, kind) in [
        ("folder", EntryKind::Directory),
        ("folder/file", EntryKind::File { size: 5 }),
        ("folder/hard", EntryKind::Hardlink { target: path("folder/file") }),
        (&long, link),
        (".wh.gone", EntryKind::File { size: 0 }),
    ] {
        let mut header = Header::new(path(name), kind);
        header.mtime.1 = 5;
        header.xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
        writer.append(&header, &b"12345"[..]).expect("a Vec takes every write");
    }
    let mut bytes = writer.finish().expect("a Vec takes every write");
    for change in changes.chunks_exact(3) {
        let [high, low, value] = *change else { continue };
        let place = usize::from(u16::from_be_bytes([high, low])) % bytes.len();
        if let Some(byte) = bytes.get_mut(place) {
            *byte = value;
        }
    }
    bytes
}

/// The entries of an archive as far as it is right.
fn read_archive(bytes: &[u8], bounds: Bounds) -> Vec<(Header, Vec<u8>)> {
    let mut reader = Reader::new(bytes, bounds);
    let mut taken = Vec::new();
    while let Ok(Some(mut entry)) = reader.next_entry() {
        let mut content = Vec::new();
        if entry.read_to_end(&mut content).is_err() {
            break;
        }
        taken.push((entry.header, content));
    }
    taken
}

/// The epoch that the host opens; any number is as good.
const EPOCH: u32 = 0x0102_0304;

/// Sends records that are cut out of arbitrary bytes: a length, then so many bytes. Every second
/// one gets a right header. Returns how many bytes were sent.
fn write_records(guest: &OwnedFd, mut data: &[u8]) -> usize {
    use rustix::net::SendFlags;
    let (mut sent, mut right) = (0, false);
    while let Some((length, rest)) = data.split_first() {
        let (record, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        right = !right;
        let header: &[u8] = if right { &[2, 4, 3, 2, 1] } else { &[] };
        let record = [header, record].concat();
        // A full socket, or one that the host has closed, ends this.
        match rustix::net::send(guest, &record, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(_full_or_closed) => break,
        }
    }
    sent
}

fn socketpair() -> (OwnedFd, OwnedFd) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .expect("a socketpair can be made")
}

/// A Dockerfile gives a plan, or an error at a place that it has.
pub(crate) fn dockerfiles(data: &[u8]) {
    let given = [("A".to_owned(), "$A".to_owned())];
    let read = template::dockerfile::Source::new("Dockerfile", data);
    let error = match read.and_then(|source| template::dockerfile::parse(&source, &given)) {
        Ok(plan) => {
            assert!(plan.steps.len() >= 2, "the first steps are implied");
            return;
        }
        Err(error) => error,
    };
    let lines = data.split(|byte| *byte == b'\n').count();
    assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
    assert!(error.column >= 1 && error.to_string().len() < 8_192);
}
