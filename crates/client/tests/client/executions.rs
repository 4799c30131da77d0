//! Whole executions.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_client::Refusal;
use courier_client::execution::{
    Conclusion, ExecutionError, ExecutionOutcome, ExecutionSpec, OutputBound, OutputPolicy,
    OutputStream, Sink, Stdin,
};
use courier_client::glob::Pattern;
use courier_client::language::Language;
use courier_protocol::envd::connect::{Codec, decode, encode};
use courier_protocol::envd::filesystem::{EntryInfo, ListDirResponse};
use courier_protocol::envd::process::{Empty, StartRequest};
use http::StatusCode;

use crate::script::{Answer, Script, Tail, end, exited, started, stderr, stdout};

const START: &str = "/process.Process/Start";
const SIGNAL: &str = "/process.Process/SendSignal";
const LIST: &str = "/filesystem.Filesystem/ListDir";

#[derive(Default)]
struct Heard {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

#[async_trait]
impl Sink for Heard {
    async fn output(&mut self, stream: OutputStream, chunk: Bytes) {
        match stream {
            OutputStream::Stdout => self.stdout.extend_from_slice(&chunk),
            OutputStream::Stderr => self.stderr.extend_from_slice(&chunk),
        }
    }
}

fn spec() -> ExecutionSpec {
    ExecutionSpec {
        language: Language::Python,
        source: Bytes::from_static(b"print(1)"),
        file_name: Some("my.py".to_owned()),
        args: vec!["x".to_owned()],
        env: BTreeMap::from([("K".to_owned(), "V".to_owned())]),
        files_in: Vec::new(),
        files_out: Vec::new(),
        stdin: Stdin::Empty,
        timeout: Duration::from_secs(5),
        output: OutputBound { limit_bytes: 4, policy: OutputPolicy::Cut },
        cwd: None,
    }
}

fn script(pieces: Vec<Bytes>, tail: Tail) -> Script {
    let written = Bytes::from_static(b"[]");
    let done = encode(Codec::Proto, &Empty {});
    Script::default()
        .on("/files?", Answer::Whole(StatusCode::OK, "application/json", written))
        .on(START, Answer::Pieces(pieces, tail))
        .on(SIGNAL, Answer::Whole(StatusCode::OK, "application/proto", done))
}

async fn run(script: &Script, spec: ExecutionSpec) -> (ExecutionOutcome, Heard) {
    let mut heard = Heard::default();
    let outcome = script.client().execute(spec, &mut heard).await.unwrap();
    (outcome, heard)
}

#[tokio::test]
async fn the_source_is_written_under_its_own_name_and_run_from_home() {
    let script = script(vec![started(), stdout(b"1\n"), exited(2), end()], Tail::End);
    let (outcome, heard) = run(&script, spec()).await;
    assert_eq!(outcome.conclusion, Conclusion::Exited);
    assert_eq!(outcome.exit_code, Some(2));
    assert_eq!(heard.stdout, b"1\n");
    let asked = script.asked();
    let (path, body) = asked.first().unwrap();
    assert_eq!(path, "/files?path=/home/user/my.py");
    assert_eq!(body, b"print(1)");
    let (_path, body) = asked.get(1).unwrap();
    let start: StartRequest = decode(Codec::Proto, body.get(5..).unwrap()).unwrap();
    let process = start.process.unwrap();
    assert_eq!(process.cmd, "python3");
    assert_eq!(process.args, ["-u", "/home/user/my.py", "x"]);
    assert_eq!(process.cwd.as_deref(), Some("/home/user"));
    assert_eq!(start.stdin, Some(false));
}

#[tokio::test]
async fn output_beyond_the_bound_is_cut_and_the_program_goes_on() {
    let pieces = vec![started(), stdout(b"123456"), stderr(b"ab"), exited(0), end()];
    let (outcome, heard) = run(&script(pieces, Tail::End), spec()).await;
    assert_eq!((heard.stdout.as_slice(), heard.stderr.as_slice()), (&b"1234"[..], &b"ab"[..]));
    assert!(outcome.stdout_cut && !outcome.stderr_cut);
    assert_eq!(outcome.exit_code, Some(0));
}

#[tokio::test]
async fn output_beyond_the_bound_kills_the_program_where_that_was_asked_for() {
    let script = script(vec![started(), stdout(b"123456")], Tail::Hang);
    let mut spec = spec();
    spec.output.policy = OutputPolicy::Kill;
    let (outcome, heard) = run(&script, spec).await;
    assert_eq!(outcome.conclusion, Conclusion::OutputLimit);
    assert_eq!(heard.stdout, b"1234");
    assert!(script.was_asked(SIGNAL));
}

#[tokio::test(start_paused = true)]
async fn this_side_keeps_the_timeout_when_the_guest_does_not() {
    let script = script(vec![started(), stdout(b"a")], Tail::Hang);
    let (outcome, heard) = run(&script, spec()).await;
    assert_eq!(outcome.conclusion, Conclusion::Timeout);
    assert_eq!(heard.stdout, b"a");
    assert!(outcome.wall_time >= Duration::from_secs(5));
    assert!(script.was_asked(SIGNAL));
}

#[tokio::test]
async fn a_sandbox_that_ends_under_its_program_is_lost_with_the_output_so_far() {
    let (outcome, heard) = run(&script(vec![started(), stdout(b"a")], Tail::Break), spec()).await;
    assert_eq!(outcome.conclusion, Conclusion::SandboxLost { reason: None });
    assert_eq!(heard.stdout, b"a");
}

#[tokio::test]
async fn files_are_found_by_pattern_after_the_end() {
    let entry = |path: &str, kind| EntryInfo { path: path.into(), kind, ..EntryInfo::default() };
    let entries = vec![
        entry("/home/user/a.png", 1),
        entry("/home/user/b.txt", 1),
        entry("/home/user/dir.png", 2),
        EntryInfo { is_symlink: true, ..entry("/home/user/link.png", 1) },
    ];
    let listing = encode(Codec::Proto, &ListDirResponse { entries });
    let script = script(vec![started(), exited(0), end()], Tail::End)
        .on(LIST, Answer::Whole(StatusCode::OK, "application/proto", listing));
    let mut spec = spec();
    spec.files_out = vec![Pattern::parse("*.png").unwrap(), Pattern::parse("*.pdf").unwrap()];
    let (outcome, _heard) = run(&script, spec).await;
    let paths: Vec<&str> =
        outcome.files_out.files.iter().map(|file| file.guest_path.as_str()).collect();
    assert_eq!(paths, ["/home/user/a.png"]);
    assert_eq!(outcome.files_out.unmatched, ["*.pdf"]);
}

#[tokio::test]
async fn a_listing_that_lies_is_told_and_takes_nothing_else_away() {
    let entry = EntryInfo { path: "/etc/passwd".into(), kind: 1, ..EntryInfo::default() };
    let listing = encode(Codec::Proto, &ListDirResponse { entries: vec![entry] });
    let script = script(vec![started(), exited(0), end()], Tail::End)
        .on(LIST, Answer::Whole(StatusCode::OK, "application/proto", listing));
    let mut spec = spec();
    spec.files_out = vec![Pattern::parse("*").unwrap()];
    let (outcome, _heard) = run(&script, spec).await;
    assert_eq!(outcome.exit_code, Some(0));
    assert!(outcome.files_out.files.is_empty());
    let failure = outcome.files_out.failure.unwrap();
    assert!(failure.contains("is not below"), "{failure}");
}

#[tokio::test]
async fn a_full_disk_and_a_missing_program_mean_that_nothing_ran() {
    let full = br#"{"code":507,"message":"not enough space"}"#;
    let json = "application/json";
    let status = StatusCode::INSUFFICIENT_STORAGE;
    let answer = Answer::Whole(status, json, Bytes::from_static(full));
    let client = Script::default().on("/files", answer).client();
    let error = client.execute(spec(), &mut Heard::default()).await.unwrap_err();
    let ExecutionError::WriteFile { source, .. } = &error else { unreachable!("{error:?}") };
    assert_eq!(source.refusal(), Some(Refusal::Exhausted));
    let script = script(Vec::new(), Tail::End);
    let error = script.client().execute(spec(), &mut Heard::default()).await.unwrap_err();
    assert!(matches!(error, ExecutionError::Start { .. }), "{error:?}");
}
