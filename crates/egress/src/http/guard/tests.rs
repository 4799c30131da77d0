//! The guard from the outside: raw bytes in, what comes out and what is answered.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const ORIGIN: Origin = Origin { scheme: "http", port: 80 };

/// What a stream of bytes led to.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// What the server behind would have seen.
    passed: Vec<u8>,
    violation: Option<Violation>,
    /// What the guest got.
    answer: String,
}

/// Sends the bytes in pieces, answering every request at once.
async fn run(bytes: &[u8], piece: usize) -> Outcome {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let (turn, reported) = (Turn::default(), Arc::new(Mutex::new(None)));
    let report = {
        let reported = Arc::clone(&reported);
        move |violation| *reported.lock().unwrap() = Some(violation)
    };
    let mut guarded = Guarded::new(near, ORIGIN, turn.clone(), report);
    let mut passed = Vec::new();
    for piece in bytes.chunks(piece) {
        far.write_all(piece).await.unwrap();
        // One read with what is there; a guard that has nothing to give waits.
        let mut buffer = vec![0; 1 << 17];
        let read = tokio::time::timeout(Duration::from_millis(1), guarded.read(&mut buffer));
        if let Ok(Ok(count)) = read.await {
            passed.extend_from_slice(&buffer[..count]);
        }
        turn.finish();
    }
    far.shutdown().await.unwrap();
    drain(&mut guarded, &turn, &mut passed).await;
    guarded.shutdown().await.unwrap();
    drop(guarded);
    let mut answer = String::new();
    far.read_to_string(&mut answer).await.unwrap();
    let violation = *reported.lock().unwrap();
    assert_eq!(violation, turn.violation());
    Outcome { passed, violation, answer }
}

async fn drain(guarded: &mut Guarded<DuplexStream>, turn: &Turn, passed: &mut Vec<u8>) {
    loop {
        turn.finish();
        let mut buffer = vec![0; 1 << 17];
        match guarded.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => passed.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A request with these lines after the request line and `Host`.
fn with(lines: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a.test\r\n{lines}").into_bytes()
}

/// A whole chunked request with this content.
fn chunked(content: &str) -> Vec<u8> {
    with(&format!("Transfer-Encoding: chunked\r\n\r\n{content}"))
}

#[tokio::test(start_paused = true)]
async fn an_unambiguous_request_passes_byte_for_byte() {
    let long = format!("Content-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let cookie = format!("Cookie: {}\r\n\r\n", "c".repeat(60_000));
    let requests: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET / HTTP/1.0\r\nhOST:a.test:80\r\n\r\n".to_vec(),
        b"GET http://A.test/b?c HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        b"GET HTTP://a.test HTTP/1.1\r\nHost: a.test:80\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a.test\r\nX: caf\xe9\r\nEmpty:\r\nContent-Length: 0\r\n\r\n".to_vec(),
        with("Content-Length: \t5 \r\n\r\nhello"),
        with(&long),
        with(&cookie),
        chunked("5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n"),
        [with("Content-Length: 2\r\n\r\nhi"), chunked("0\r\n\r\n"), with("\r\n")].concat(),
        b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
            .to_vec(),
    ];
    for request in requests {
        for piece in [1 << 20, 4_096] {
            let text = String::from_utf8_lossy(&request).chars().take(200).collect::<String>();
            let outcome = run(&request, piece).await;
            assert_eq!((outcome.violation, outcome.answer.as_str()), (None, ""), "{text}");
            assert!(outcome.passed == request, "{text}");
        }
    }
}

/// Every way known to make two parsers disagree, and what is said to it.
fn ambiguous() -> Vec<(Vec<u8>, Violation)> {
    use Violation as V;
    let get = |rest: &str| format!("GET / HTTP/1.1\r\n{rest}").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: a.test\r\n\r\n").into_bytes();
    let mut cases = vec![
        // Lines and bytes.
        (b"GET / HTTP/1.1\nHost: a.test\n\n".to_vec(), V::BareLineFeed),
        (get("Host: a.test\nX: y\r\n\r\n"), V::BareLineFeed),
        (get("Host: a.test\r\n\n"), V::BareLineFeed),
        (get("Host: a.test\r\rX: y\r\n\r\n"), V::BareCarriageReturn),
        (get("Host: a.test\r\nX: a\rb\r\n\r\n"), V::BareCarriageReturn),
        (get("Host: a.test\0.b.test\r\n\r\n"), V::ControlCharacter),
        (get("Host: a.test\r\nX: \x0b\r\n\r\n"), V::ControlCharacter),
        (get("Host: a.test\r\nX: \x7f\r\n\r\n"), V::ControlCharacter),
        (b"\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(), V::RequestLine),
        (get(&format!("Host: a.test\r\nX: {}\r\n\r\n", "x".repeat(70_000))), V::HeadTooLong),
        (get(&format!("Host: a.test\r\n{}\r\n", "X: y\r\n".repeat(100))), V::TooManyHeaders),
        // Fields.
        (get("Host: a.test\r\nX: a\r\n b\r\n\r\n"), V::Folded),
        (get("Host: a.test\r\nX: a\r\n\tTransfer-Encoding: chunked\r\n\r\n"), V::Folded),
        (get(" Host: a.test\r\n\r\n"), V::Folded),
        (get("Host : a.test\r\n\r\n"), V::FieldName),
        (get("Host: a.test\r\nContent-Length : 5\r\n\r\n"), V::FieldName),
        (get("Host: a.test\r\nContent-Length\t: 5\r\n\r\n"), V::FieldName),
        (get("Host: a.test\r\n: y\r\n\r\n"), V::FieldName),
        (get("Host: a.test\r\nno colon\r\n\r\n"), V::FieldName),
        (get("Host: a.test\r\nX(y): z\r\n\r\n"), V::FieldName),
        (with("Content_Length: 5\r\n\r\nhello"), V::Lookalike),
        (with("Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n"), V::Lookalike),
        // Hosts.
        (get("\r\n"), V::HostCount),
        (get("Host: a.test\r\nHost: a.test\r\n\r\n"), V::HostCount),
        (get("Host: a.test\r\nhost: b.test\r\n\r\n"), V::HostCount),
        (get("Host: user@a.test\r\n\r\n"), V::Host),
        (get("Host: a.test, b.test\r\n\r\n"), V::Host),
        (get("Host: a_.test/x\r\n\r\n"), V::Host),
        (get("Host: [::1]\r\n\r\n"), V::Host),
        (get("Host: 0x7f000001\r\n\r\n"), V::Host),
        (get("Host:\r\n\r\n"), V::Host),
        (get("Host: a.test:443\r\n\r\n"), V::Port),
        // Request lines.
        (line("GET http://b.test/ HTTP/1.1"), V::TargetHost),
        (line("GET http://a.test@b.test/ HTTP/1.1"), V::TargetHost),
        (line("GET http://a.test:81/ HTTP/1.1"), V::TargetHost),
        (line("GET http://a.test\\@b.test/ HTTP/1.1"), V::TargetHost),
        (line("GET https://a.test/ HTTP/1.1"), V::Target),
        (line("GET a.test:80 HTTP/1.1"), V::Target),
        (line("GET * HTTP/1.1"), V::Target),
        (line("GET /a#b HTTP/1.1"), V::Target),
        (line("GET /caf\u{e9} HTTP/1.1"), V::RequestLine),
        (line("GET  / HTTP/1.1"), V::RequestLine),
        (line("GET /a b HTTP/1.1"), V::RequestLine),
        (line("GET\t/ HTTP/1.1"), V::RequestLine),
        (line("GET /"), V::RequestLine),
        (line("get / HTTP/1.1"), V::Method),
        (line("CONNECT a.test:80 HTTP/1.1"), V::Method),
        (line("CONNECT / HTTP/1.1"), V::Method),
        (line("GET / HTTP/2.0"), V::Version),
        (line("GET / HTTP/1.2"), V::Version),
        (line("GET / http/1.1"), V::Version),
        (line("GET / HTTP/1.1 "), V::RequestLine),
        (line("GET / HTTP/0.9"), V::Version),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), V::Method),
    ];
    cases.extend(ambiguous_content());
    cases
}

fn ambiguous_content() -> Vec<(Vec<u8>, Violation)> {
    use Violation as V;
    let get = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{rest}").into_bytes();
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    vec![
        // CL.TE, TE.CL, TE.TE, CL.0.
        (with("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"), V::TwoLengths),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\n"), V::TwoLengths),
        (
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            V::TransferEncoding,
        ),
        (with("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (with("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (with("Transfer-Encoding: identity\r\n\r\n"), V::TransferEncoding),
        (with("Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (with("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (with("Transfer-Encoding:\r\n\r\n"), V::TransferEncoding),
        (with("Transfer-Encoding: \u{a0}chunked\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (
            b"POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_vec(),
            V::TransferEncoding,
        ),
        (get("Content-Length: 37\r\n\r\nGET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n"), V::Content),
        (get("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), V::Content),
        // Lengths.
        (with("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length: 5, 5\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length: +5\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length: -5\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length: 0x5\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length: 05\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length: 5 5\r\n\r\nhello"), V::ContentLength),
        (with("Content-Length:\r\n\r\n"), V::ContentLength),
        (with("Content-Length: 9223372036854775808\r\n\r\n"), V::ContentLength),
        (with("Content-Length: 99999999999999999999999\r\n\r\n"), V::ContentLength),
        // Chunks.
        (chunked("5;ext=1\r\nhello\r\n0\r\n\r\n"), V::ChunkSize),
        (chunked("5 \r\nhello\r\n0\r\n\r\n"), V::ChunkSize),
        (chunked("0x5\r\nhello\r\n0\r\n\r\n"), V::ChunkSize),
        (chunked("+5\r\nhello\r\n0\r\n\r\n"), V::ChunkSize),
        (chunked("\r\n"), V::ChunkSize),
        (chunked("5\nhello\r\n0\r\n\r\n"), V::ChunkSize),
        (chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"), V::ChunkSize),
        (chunked("ffffffffffffffff\r\nhello"), V::ChunkSize),
        (chunked("5\r\nhello0\r\n\r\n"), V::ChunkEnd),
        (chunked("5\r\nhello\n0\r\n\r\n"), V::ChunkEnd),
        (chunked("4\r\nhello\r\n0\r\n\r\n"), V::ChunkEnd),
        (chunked("0\r\nX: y\r\n\r\n"), V::Trailers),
        (chunked("5\r\nhello\r\n0\r\nContent-Length: 4\r\n\r\n"), V::Trailers),
        (chunked("0\r\n\rX"), V::ChunkEnd),
        // Upgrades.
        (get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"), V::Upgrade),
        (get("HTTP2-Settings: AAMAAABk\r\n\r\n"), V::Upgrade),
        (get("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n"), V::Upgrade),
        (get("Upgrade: websocket\r\n\r\n"), V::Upgrade),
        (get(&format!("{upgrade}Upgrade: websocket\r\n\r\n")), V::Upgrade),
        (with(&format!("{upgrade}Content-Length: 1\r\n\r\nx")), V::Upgrade),
        (
            get(&format!("{upgrade}\r\nGET /denied HTTP/1.1\r\nHost: a.test\r\n\r\n")),
            V::AfterUpgrade,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_request_is_answered_with_400_and_nothing_of_it_passes() {
    for (request, violation) in ambiguous() {
        let text = String::from_utf8_lossy(&request).chars().take(200).collect::<String>();
        let outcome = run(&request, 1 << 20).await;
        assert_eq!(outcome.violation, Some(violation), "{text:?}");
        assert!(outcome.passed.is_empty(), "{text:?}");
        assert!(outcome.answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text:?}");
        assert!(outcome.answer.contains("\r\nconnection: close\r\n"), "{}", outcome.answer);
        assert!(outcome.answer.ends_with(&format!("{violation}.\n")), "{}", outcome.answer);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_request_is_refused_however_it_is_cut() {
    // Cut up, the last one is no violation: this run answers the upgrade before the rest comes.
    let is_lasting = |(_, violation): &(_, Violation)| *violation != Violation::AfterUpgrade;
    for (request, violation) in ambiguous().into_iter().filter(is_lasting) {
        // What came before the first bad byte may have passed by then; never the end of a message.
        let outcome = run(&request, 1 + request.len() / 5_000).await;
        let text = String::from_utf8_lossy(&request).chars().take(200).collect::<String>();
        assert_eq!(outcome.violation, Some(violation), "{text:?}");
        assert!(!outcome.passed.ends_with(b"\r\n0\r\n\r\n"), "{text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_behind_a_good_one_leaves_the_good_one_whole() {
    let good = with("Content-Length: 2\r\n\r\nhi");
    let outcome =
        run(&[good.clone(), with("Content-Length: 1, 1\r\n\r\nx")].concat(), 1 << 20).await;
    assert_eq!(outcome.violation, Some(Violation::ContentLength));
    assert_eq!(outcome.passed, good);
    assert!(outcome.answer.starts_with("HTTP/1.1 400 "));
}

#[tokio::test(start_paused = true)]
async fn the_next_request_waits_until_this_one_is_answered() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let turn = Turn::default();
    let mut guarded = Guarded::new(near, ORIGIN, turn.clone(), |_| {});
    let request = with("\r\n");
    far.write_all(&[request.clone(), request.clone()].concat()).await.unwrap();
    let mut buffer = [0; 1_024];
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), request.len());
    let early = tokio::time::timeout(Duration::from_secs(1), guarded.read(&mut buffer)).await;
    assert!(early.is_err(), "{early:?}");
    turn.finish();
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), request.len());
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_an_upgrade_pass_only_once_it_was_granted() {
    let upgrade =
        b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for granted in [true, false] {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let turn = Turn::default();
        let mut guarded = Guarded::new(near, ORIGIN, turn.clone(), |_| {});
        far.write_all(upgrade).await.unwrap();
        let mut buffer = [0; 1_024];
        assert_eq!(guarded.read(&mut buffer).await.unwrap(), upgrade.len());
        if granted {
            turn.upgrade().unwrap();
            far.write_all(b"\x81\0 frames").await.unwrap();
            assert_eq!(guarded.read(&mut buffer).await.unwrap(), 9);
            continue;
        }
        far.write_all(b"\x81\0 frames").await.unwrap();
        let early = tokio::time::timeout(Duration::from_secs(1), guarded.read(&mut buffer)).await;
        assert!(early.is_err(), "{early:?}");
        assert_eq!(turn.upgrade(), Err(Violation::AfterUpgrade));
        turn.finish();
        assert_eq!(guarded.read(&mut buffer).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_has_an_end() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let mut guarded = Guarded::new(near, ORIGIN, Turn::default(), |_| {});
    let dripping = tokio::spawn(async move {
        let begun = Instant::now();
        far.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        while far.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        begun.elapsed()
    });
    let mut buffer = [0; 1_024];
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), 0);
    drop(guarded);
    let elapsed = dripping.await.unwrap();
    assert!(elapsed < HEAD_DEADLINE + Duration::from_secs(3), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_goes_away_is_noticed_while_it_is_answered() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let mut guarded = Guarded::new(near, ORIGIN, Turn::default(), |_| {});
    far.write_all(&with("\r\n")).await.unwrap();
    let mut buffer = [0; 1_024];
    assert!(guarded.read(&mut buffer).await.unwrap() > 0);
    drop(far);
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), 0);
}
