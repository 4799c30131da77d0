//! The other commands of the binary, and the executions API, against a running server.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

#[path = "cli/egress.rs"]
mod egress;
#[path = "cli/presets.rs"]
mod presets;

use std::process::{Command, ExitCode};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::program::{self, Ended};
use courier_tests::server::{Options, Server, courier};
use courier_tests::suite::{self, Test};
use courier_tests::tests;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// The benchmark makes some tens of sandboxes even when it measures once.
const BENCHMARK: Duration = Duration::from_secs(240);

#[track_caller]
fn run_with(server: &Server, arguments: &[&str], stdin: &[u8]) -> Ended {
    let mut command = courier(&server.environment, &server.data);
    program::run(command.args(arguments), stdin, PATIENCE)
}

#[track_caller]
fn run(server: &Server, arguments: &[&str]) -> Ended {
    run_with(server, arguments, b"")
}

/// Makes a sandbox by the command line; its id.
#[track_caller]
fn new(server: &Server) -> String {
    run(server, &["sandbox", "new", "--timeout", "2m"]).assert_code(0).out().trim().to_owned()
}

fn a_sandbox_is_made_listed_used_and_killed(server: &Server) {
    let id = new(server);
    assert!(run(server, &["sandbox", "ls"]).assert_code(0).out().contains(&id));
    assert_eq!(run(server, &["sandbox", "ls", "--quiet"]).out().trim(), id);
    let list: Value = serde_json::from_slice(&run(server, &["sandbox", "ls", "--json"]).stdout)
        .expect("--json prints JSON");
    assert!(list.to_string().contains(&id), "{list}");
    let ended =
        run(server, &["sandbox", "exec", &id, "--", "sh", "-c", "echo out; echo err >&2; exit 5"]);
    ended.assert_code(5);
    assert_eq!((ended.out().as_str(), ended.err().as_str()), ("out\n", "err\n"));
    let ended = run_with(server, &["sandbox", "exec", "-i", &id, "--", "wc", "-c"], b"12345");
    assert_eq!(ended.assert_code(0).out().trim(), "5");
    let ended = run(
        server,
        &[
            "sandbox",
            "exec",
            "-u",
            "root",
            "--cwd",
            "/",
            "-e",
            "A=b",
            &id,
            "--",
            "sh",
            "-c",
            "whoami; pwd; echo $A",
        ],
    );
    assert_eq!(ended.assert_code(0).out(), "root\n/\nb\n");
    assert!(run(server, &["sandbox", "logs", &id]).assert_code(0).out().contains("running"));
    run(server, &["sandbox", "kill", &id]).assert_code(0);
    let ended = run(server, &["sandbox", "exec", &id, "--", "true"]);
    assert_ne!(ended.code, Some(0));
    assert!(ended.err().contains(&id), "{}", ended.err());
    assert!(run(server, &["sandbox", "ls", "--all"]).out().contains(&id));
}

fn files_and_folders_are_copied_in_and_out(server: &Server) {
    let id = new(server);
    let folder = server.environment.folder();
    std::fs::create_dir(folder.path().join("tree")).expect("scratch is ours");
    std::fs::write(folder.path().join("tree/a.bin"), [0, 255, 1]).expect("scratch is ours");
    let host = |name: &str| folder.path().join(name).display().to_string();
    run(server, &["sandbox", "cp", &host("tree"), &format!("{id}:copied")]).assert_code(0);
    let ended = run(server, &["sandbox", "exec", &id, "--", "sh", "-c", "wc -c < copied/a.bin"]);
    assert_eq!(ended.assert_code(0).out().trim(), "3");
    run(server, &["sandbox", "cp", &format!("{id}:copied/a.bin"), &host("back.bin")])
        .assert_code(0);
    assert_eq!(std::fs::read(host("back.bin")).expect("it came out"), [0, 255, 1]);
    run_with(server, &["sandbox", "cp", "-", &format!("{id}:typed")], b"typed").assert_code(0);
    let ended = run(server, &["sandbox", "cp", &format!("{id}:typed"), "-"]);
    assert_eq!(ended.assert_code(0).out(), "typed");
    let ended = run(server, &["sandbox", "cp", &format!("{id}:missing"), &host("missing")]);
    assert_ne!(ended.code, Some(0));
    assert!(ended.err().contains("missing"), "{}", ended.err());
    run(server, &["sandbox", "kill", &id]).assert_code(0);
}

fn a_shell_is_a_terminal_of_the_user(server: &Server) {
    let id = new(server);
    let binary = server.environment.binary("courier");
    let line = format!("{} sandbox shell {id}", binary.display());
    // `script` gives the shell a terminal on our side.
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("COURIER_DATA", &server.data).env("TERM", "xterm");
    let ended = program::run(&mut command, b"echo in-$((40+2))-$(whoami); tty; exit 4\n", PATIENCE);
    assert!(ended.out().contains("in-42-user"), "{}{}", ended.out(), ended.err());
    assert!(ended.out().contains("/dev/pts/"), "{}", ended.out());
    ended.assert_code(4);
    run(server, &["sandbox", "kill", &id]).assert_code(0);
}

fn courier_run_uses_the_server_that_runs(server: &Server) {
    let folder = server.environment.folder();
    let file = folder.path().join("a.py");
    std::fs::write(&file, "print(open('/proc/self/comm').read())").expect("scratch is ours");
    let mut command = courier(&server.environment, &server.data);
    command.args(["run", "--keep"]).arg(&file);
    let ended = program::run(&mut command, b"", PATIENCE);
    assert!(ended.assert_code(0).out().contains("python"), "{}", ended.out());
    let kept = server.running();
    assert_eq!(kept.len(), 1, "{kept:?}");
    run(server, &["sandbox", "kill", "--all"]).assert_code(0);
    assert_eq!(server.running(), Vec::<String>::new());
}

fn one_call_runs_a_snippet_and_gives_everything_back(server: &Server) {
    let body = json!({
        "language": "python",
        "code": "import sys, os\nprint(open('in.txt').read(), os.environ['A'], sys.argv[1], input())\n\
                 open('out.bin', 'wb').write(bytes([0, 255]))\nprint('e', file=sys.stderr)\nsys.exit(3)",
        "files": [{"path": "in.txt", "text": "from a file"}],
        "collect": ["out.bin", "missing.txt"],
        "env": {"A": "b"},
        "args": ["argument"],
        "stdin": "typed\n",
        "limits": {"memory_mib": 256},
        "timeout_ms": 20_000,
    });
    let answer = server.call("POST", "/v1/executions", Some(&body)).assert_status(200).json();
    assert_eq!(answer["stdout"]["text"], "from a file b argument typed\n", "{answer}");
    assert_eq!(answer["stderr"]["text"], "e\n");
    assert_eq!((&answer["ended"], &answer["exit_code"]), (&json!("exit"), &json!(3)));
    assert_eq!(answer["files"][0]["base64"], "AP8=");
    assert!(answer["files"][1]["error"].is_string(), "{answer}");
    assert_eq!(answer["isolation"], "gvisor");
    assert_eq!(answer["limits"]["memory_mib"], 256);
    assert!(answer["timings"]["total_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
    assert!(answer["usage"]["memory_peak_bytes"].as_u64().is_some_and(|b| b > 1 << 20), "{answer}");
    assert_eq!(server.running(), Vec::<String>::new(), "the sandbox is gone");
}

fn a_snippet_s_events_can_be_streamed(server: &Server) {
    let body = json!({"language": "bash", "code": "echo one; echo two >&2; exit 6"});
    let request = server.request("POST", "/v1/executions").header("Accept", "application/x-ndjson");
    let answer = request.json(&body).send(server.address);
    let text = answer.assert_status(200).text();
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(events.first().map(|e| &e["event"]), Some(&json!("started")), "{text}");
    let last = events.last().expect("there are events");
    assert_eq!(
        (&last["event"], &last["answer"]["exit_code"]),
        (&json!("ended"), &json!(6)),
        "{text}"
    );
    let wrote = |stream: &str, text: &str| {
        events.iter().any(|e| e["stream"] == stream && e["text"] == text)
    };
    assert!(wrote("stdout", "one\n") && wrote("stderr", "two\n"), "{text}");
}

fn doctor_says_what_this_machine_has(server: &Server) {
    let ended = run(server, &["doctor"]);
    assert!(ended.assert_code(0).out().contains("gvisor"), "{}", ended.out());
    let json: Value = serde_json::from_slice(&run(server, &["doctor", "--json"]).stdout)
        .expect("--json prints JSON");
    assert!(json.to_string().contains("runsc"), "{json}");
    run(server, &["doctor", "--leaks"]).assert_code(0);
}

fn the_benchmark_measures_and_writes_its_results(server: &Server) {
    let folder = server.environment.folder();
    let results = folder.path().join("bench.json");
    let mut command = courier(&server.environment, &server.data);
    command.args(["bench", "--runs", "2", "--json"]).arg(&results);
    let ended = program::run(&mut command, b"", BENCHMARK);
    for part in ["p50", "p95", "p99", "runsc run", "runsc exec", "64 MiB"] {
        assert!(ended.assert_code(0).out().contains(part), "no {part}: {}", ended.out());
    }
    let text = std::fs::read_to_string(results).expect("the results were written");
    let json: Value = serde_json::from_str(&text).expect("the results are JSON");
    assert!(json.to_string().contains("p50"), "{json}");
}

fn without_a_server_the_answer_says_how_to_start_one(server: &Server) {
    let folder = server.environment.folder();
    let mut command = courier(&server.environment, &folder.path().join("empty"));
    let ended = program::run(command.args(["sandbox", "ls"]), b"", PATIENCE);
    ended.assert_code(125);
    assert!(ended.err().contains("courier serve"), "{}", ended.err());
}

/// The tests of this file.
const TESTS: &[Test<Server>] = tests![
    a_sandbox_is_made_listed_used_and_killed,
    files_and_folders_are_copied_in_and_out,
    a_shell_is_a_terminal_of_the_user,
    courier_run_uses_the_server_that_runs,
    one_call_runs_a_snippet_and_gives_everything_back,
    a_snippet_s_events_can_be_streamed,
    doctor_says_what_this_machine_has,
    the_benchmark_measures_and_writes_its_results,
    without_a_server_the_answer_says_how_to_start_one,
];

fn main() -> ExitCode {
    suite::run(
        |environment: Environment| Server::start(&environment, Options::default()),
        &[TESTS, egress::TESTS, presets::TESTS].concat(),
    )
}
