//! Single calls.

use bytes::Bytes;
use courier_client::{ClientError, Event, Events, Fault, Refusal, Selector};
use courier_protocol::envd::connect::{Code, Codec, ConnectError, encode, encode_end};
use courier_protocol::envd::filesystem::{EntryInfo, ListDirResponse};
use courier_protocol::envd::process::StartRequest;
use http::StatusCode;

use crate::script::{Answer, Script, Tail, end, exited, started, stderr, stdout};

const START: &str = "/process.Process/Start";
const PROTO: &str = "application/proto";

async fn follow(pieces: Vec<Bytes>, tail: Tail) -> Result<Vec<Event>, ClientError> {
    let client = Script::default().on(START, Answer::Pieces(pieces, tail)).client();
    let mut events: Events = client.start(&StartRequest::default(), None).await?;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await? {
        seen.push(event);
    }
    Ok(seen)
}

#[tokio::test]
async fn a_commands_events_come_typed_and_in_order() {
    let pieces = vec![started(), stdout(b"a"), stderr(b"b"), exited(3), end()];
    let events = follow(pieces, Tail::End).await.unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!(events.first(), Some(&Event::Started { pid: 7 }));
    assert_eq!(events.get(1), Some(&Event::Stdout(Bytes::from_static(b"a"))));
    let Some(Event::Ended(ended)) = events.last() else { unreachable!("{events:?}") };
    assert_eq!(ended.exit_code, Some(3));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_never_taken_for_an_end() {
    for (pieces, tail) in [
        (vec![started()], Tail::End),
        (vec![started(), stdout(b"a")], Tail::Break),
        (vec![started(), Bytes::from_static(&[0, 0, 0])], Tail::End),
        (vec![started(), exited(0)], Tail::End),
    ] {
        let error = follow(pieces, tail).await.unwrap_err();
        assert!(matches!(error, ClientError::BrokenOff(_)), "{error:?}");
        assert!(error.is_sandbox_lost());
    }
}

#[tokio::test]
async fn events_out_of_order_and_lying_lengths_are_the_guests_fault() {
    let huge = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]);
    let rubbish = Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]);
    for pieces in [
        vec![stdout(b"a")],
        vec![end()],
        vec![started(), started()],
        vec![started(), end()],
        vec![started(), exited(0), stdout(b"a"), end()],
        vec![huge],
        vec![rubbish],
    ] {
        let error = follow(pieces, Tail::End).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
        assert_eq!(error.fault(), Fault::Guest);
    }
}

#[tokio::test]
async fn a_refused_start_is_the_callers_fault_with_the_guests_words_made_safe() {
    let message = format!("cwd '/x' does not exist\u{1b}[2J{}", "a".repeat(10_000));
    let refusal = ConnectError::new(Code::InvalidArgument, message);
    let error = follow(vec![encode_end(Err(&refusal))], Tail::End).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Invalid));
    let text = error.to_string();
    assert!(text.starts_with("cwd '/x' does not exist"), "{text}");
    assert!(!text.contains('\u{1b}') && text.len() <= 2_048);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_answers_or_falls_silent_is_late() {
    let client = Script::default().on("/", Answer::Never).client();
    let error = client.stat("/a").await.unwrap_err();
    assert!(matches!(error, ClientError::Late { .. }), "{error:?}");
    let error = follow(vec![started()], Tail::Hang).await.unwrap_err();
    assert!(matches!(error, ClientError::Late { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_larger_than_any_honest_one_is_refused() {
    let answer = Answer::Whole(StatusCode::OK, PROTO, vec![0; 5 << 20].into());
    let error = Script::default().on("/", answer).client().stat("/a").await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error:?}");
    let answer = Answer::Whole(StatusCode::OK, "text/html", Bytes::new());
    let error = Script::default().on("/", answer).client().stat("/a").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unknown_command_is_not_found_and_a_lost_sandbox_is_lost() {
    let body = br#"{"code":"not_found","message":"process with pid 9 not found"}"#;
    let json = "application/json";
    let answer = Answer::Whole(StatusCode::NOT_FOUND, json, Bytes::from_static(body));
    let client = Script::default().on("/process", answer).on("/files", Answer::Gone).client();
    let error = client.close_stdin(&Selector::Pid(9)).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::NotFound));
    assert_eq!(error.to_string(), "process with pid 9 not found");
    assert!(client.read_file("a").await.unwrap_err().is_sandbox_lost());
}

#[tokio::test]
async fn a_listing_that_climbs_out_of_its_directory_is_refused() {
    for path in ["/out/../etc/passwd", "/etc/passwd", "/out/a/../../b", "/outside"] {
        let entry = EntryInfo { path: path.into(), kind: 1, ..EntryInfo::default() };
        let listing = encode(Codec::Proto, &ListDirResponse { entries: vec![entry] });
        let answer = Answer::Whole(StatusCode::OK, PROTO, listing);
        let error = Script::default().on("/", answer).client().tree("/out", 5).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{path}: {error:?}");
    }
}
