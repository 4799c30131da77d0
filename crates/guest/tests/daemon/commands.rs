//! Commands and terminals, from start to end.

use std::collections::BTreeMap;

use courier_protocol::envd::connect::{Code, Codec, Envelope, encode_envelope};
use courier_protocol::envd::process::{
    CloseStdinRequest, ConnectRequest, Empty, ListRequest, ListResponse, ProcessConfig,
    ProcessInput, ProcessSelector, Pty, PtySize, SendInputRequest, SendSignalRequest, Signal,
    StartRequest, StreamInputData, StreamInputRequest, StreamInputStart, UpdateRequest,
};

use crate::client::{Client, Daemon, pid, shell, soon};

async fn input(client: &Client, of: u32, bytes: &[u8]) {
    let input = Some(ProcessInput { stdin: Some(bytes.to_vec()), pty: None });
    let request = SendInputRequest { process: pid(of), input };
    client.unary::<_, Empty>("SendInput", &request).await.expect("input is taken");
}

async fn listed(client: &Client) -> ListResponse {
    client.unary("List", &ListRequest {}).await.expect("a list")
}

#[tokio::test]
async fn a_command_says_start_output_and_end_in_both_codecs() {
    let daemon = Daemon::start().await;
    for codec in [Codec::Json, Codec::Proto] {
        let client = Client { codec, ..daemon.client() };
        let seen = client.shell("echo out; echo err >&2; exit 3").await.rest().await;
        assert!(seen.pid > 0);
        assert_eq!((seen.text().as_str(), seen.stderr.as_slice()), ("out\n", &b"err\n"[..]));
        assert_eq!(seen.exit_code, Some(3));
        assert_eq!(seen.error.as_deref(), Some("exit status 3"));
    }
}

#[tokio::test]
async fn a_flood_arrives_whole_and_a_reader_that_is_slow_slows_the_command() {
    let daemon = Daemon::start().await;
    let seen = daemon.client().shell("head -c 20000000 /dev/zero").await.rest().await;
    assert_eq!((seen.stdout.len(), seen.exit_code), (20_000_000, Some(0)));
    // Nobody reads this one: neither memory nor the other requests suffer.
    let mut stuck = daemon.client().shell("yes").await;
    stuck.started().await;
    let seen = daemon.client().shell("echo free").await.rest().await;
    assert_eq!(seen.text(), "free\n");
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "the daemon has {kib} KiB");
}

#[tokio::test]
async fn input_reaches_the_command_and_closing_it_is_its_end() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let mut events = client.shell("cat").await;
    let of = events.started().await;
    input(&client, of, b"hello ").await;
    input(&client, of, "wörld".as_bytes()).await;
    let close = CloseStdinRequest { process: pid(of) };
    client.unary::<_, Empty>("CloseStdin", &close).await.unwrap();
    let seen = events.rest().await;
    assert_eq!((seen.text().as_str(), seen.exit_code), ("hello wörld", Some(0)));
    let null = StartRequest { stdin: Some(false), ..shell("cat; echo done") };
    assert_eq!(client.start(&null).await.rest().await.text(), "done\n");
}

#[tokio::test]
async fn input_can_be_streamed_and_a_stream_that_breaks_the_protocol_is_refused() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let mut events = client.shell("head -c 200000 | wc -c").await;
    let of = events.started().await;
    let start = StreamInputRequest {
        start: Some(StreamInputStart { process: pid(of) }),
        ..StreamInputRequest::default()
    };
    let piece = ProcessInput { stdin: Some(vec![b'x'; 100_000]), pty: None };
    let data = StreamInputRequest {
        data: Some(StreamInputData { input: Some(piece) }),
        ..StreamInputRequest::default()
    };
    let envelope = |message| encode_envelope(Codec::Json, message).to_vec();
    let body = [envelope(&start), envelope(&data), envelope(&data)].concat();
    let answer = client.client_stream("StreamInput", body).await;
    assert_eq!(answer.last(), Some(&Envelope::End(Ok(()))), "{answer:?}");
    assert_eq!(events.rest().await.text().trim(), "200000");
    let headless = client.client_stream("StreamInput", envelope(&data)).await;
    let cut = client.client_stream("StreamInput", vec![0, 0, 0, 0, 9, b'{']).await;
    let liar = client.client_stream("StreamInput", vec![0, 255, 255, 255, 255]).await;
    for (answer, expected) in [
        (headless, Code::InvalidArgument),
        (cut, Code::InvalidArgument),
        (liar, Code::ResourceExhausted),
    ] {
        let [Envelope::End(Err(error))] = answer.as_slice() else { panic!("{answer:?}") };
        assert_eq!(error.code, expected);
    }
}

#[tokio::test]
async fn kill_returns_when_the_process_is_gone_and_term_is_told_by_name() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    for (signal, words) in
        [(Signal::Sigkill, "signal: killed"), (Signal::Sigterm, "signal: terminated")]
    {
        let mut events = client.shell("sleep 1000 & echo; wait").await;
        let of = events.started().await;
        events.next().await.unwrap().unwrap();
        let request = SendSignalRequest { process: pid(of), signal: signal.into() };
        client.unary::<_, Empty>("SendSignal", &request).await.unwrap();
        if signal == Signal::Sigkill {
            let seen = client.shell(&format!("kill -0 {of} 2>/dev/null && echo there")).await;
            assert_eq!(seen.rest().await.text(), "");
            let seen = events.rest().await;
            assert_eq!((seen.exit_code, seen.error.as_deref()), (Some(-1), Some(words)));
            let gone = client.unary::<_, Empty>("SendSignal", &request).await.unwrap_err();
            assert_eq!(gone.code, Code::NotFound);
            assert_eq!(gone.message, format!("process with pid {of} not found"));
        }
    }
}

#[tokio::test]
async fn a_command_survives_its_starter_and_can_be_followed_by_pid_and_tag_even_when_it_has_ended()
{
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let request = StartRequest { tag: Some("job".into()), ..shell("read x; echo got $x") };
    let mut events = client.start(&request).await;
    let of = events.started().await;
    drop(events);
    let list = listed(&client).await;
    assert_eq!(list.processes.len(), 1);
    assert_eq!((list.processes[0].pid, list.processes[0].tag.as_deref()), (of, Some("job")));
    let by_tag = ProcessSelector { tag: Some("job".into()), pid: None };
    let follow = ConnectRequest { process: Some(by_tag) };
    let followed = client.stream("Connect", &follow, &[]).await;
    input(&client, of, b"it\n").await;
    let seen = followed.rest().await;
    assert_eq!((seen.pid, seen.text().as_str(), seen.exit_code), (of, "got it\n", Some(0)));
    let again = client.stream("Connect", &ConnectRequest { process: pid(of) }, &[]).await;
    let seen = again.rest().await;
    assert_eq!((seen.pid, seen.text().as_str(), seen.exit_code), (of, "", Some(0)));
    assert!(listed(&client).await.processes.is_empty());
    let unknown = client.stream("Connect", &ConnectRequest { process: pid(4_000_000) }, &[]).await;
    assert_eq!(unknown.rest().await.failure.unwrap().code, Code::NotFound);
}

#[tokio::test]
async fn the_starters_deadline_is_the_commands_lifetime_and_a_followers_is_not() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let mut events =
        client.stream("Start", &shell("sleep 1000"), &[("connect-timeout-ms", "300")]).await;
    let of = events.started().await;
    let short = [("connect-timeout-ms", "50")];
    let follower = client.stream("Connect", &ConnectRequest { process: pid(of) }, &short).await;
    assert_eq!(follower.rest().await.failure.unwrap().code, Code::DeadlineExceeded);
    assert_eq!(listed(&client).await.processes.len(), 1, "it still runs");
    assert_eq!(events.rest().await.failure.unwrap().code, Code::DeadlineExceeded);
    assert!(listed(&client).await.processes.is_empty());
}

#[tokio::test]
async fn silence_is_filled_with_keepalives() {
    let daemon = Daemon::start().await;
    let every = [("keepalive-ping-interval", "1")];
    let seen = daemon.client().stream("Start", &shell("sleep 1.5"), &every).await.rest().await;
    assert_eq!((seen.keepalives, seen.exit_code), (1, Some(0)));
}

#[tokio::test]
async fn a_terminal_is_one_and_can_be_resized() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let size = |cols, rows| Some(Pty { size: Some(PtySize { cols, rows }) });
    let script = "tty >/dev/null && echo tty; stty size; read x; stty size; exit 5";
    let request = StartRequest { pty: size(91, 31), ..shell(script) };
    let mut events = client.start(&request).await;
    let of = events.started().await;
    let update = UpdateRequest { process: pid(of), pty: size(101, 41) };
    let mut seen = String::new();
    while !seen.contains("31 91") {
        let data = events.next().await.unwrap().unwrap().data.unwrap();
        seen.push_str(&String::from_utf8_lossy(&data.pty.unwrap()));
    }
    client.unary::<_, Empty>("Update", &update).await.unwrap();
    let typed = Some(ProcessInput { stdin: None, pty: Some(b"x\n".to_vec()) });
    let typed = SendInputRequest { process: pid(of), input: typed };
    client.unary::<_, Empty>("SendInput", &typed).await.unwrap();
    let rest = events.rest().await;
    let seen = seen + &String::from_utf8_lossy(&rest.pty);
    assert!(seen.contains("tty\r\n") && seen.contains("41 101"), "{seen:?}");
    assert_eq!(rest.exit_code, Some(5));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let start = |cmd: &str, cwd: Option<&str>| StartRequest {
        process: Some(ProcessConfig {
            cmd: cmd.to_owned(),
            cwd: cwd.map(str::to_owned),
            ..ProcessConfig::default()
        }),
        ..StartRequest::default()
    };
    for (request, message) in [
        (
            start("/no/such", None),
            "error starting process '/no/such': fork/exec /no/such: no such file or directory",
        ),
        (
            start("no-such", None),
            "error starting process 'no-such': exec: \"no-such\": executable file not found in $PATH",
        ),
        (start("true", Some("/no/where")), "cwd '/no/where' does not exist"),
        (start("/etc", None), "error starting process '/etc': fork/exec /etc: permission denied"),
    ] {
        let failure = client.start(&request).await.rest().await.failure.unwrap();
        assert_eq!((failure.code, failure.message.as_str()), (Code::InvalidArgument, message));
    }
    let nobody = [("authorization", "Basic bm8tc3VjaC11c2VyOg==")];
    let failure =
        client.stream("Start", &shell("true"), &nobody).await.rest().await.failure.unwrap();
    assert_eq!(failure.code, Code::Unauthenticated);
    assert_eq!(failure.message, "invalid username: 'no-such-user'");
}

#[tokio::test]
async fn the_environment_is_the_sandboxs_and_not_the_daemons() {
    let daemon = Daemon::start().await;
    let mut request = shell("env; umask; ps -o sid= -p $$ | tr -d ' '; echo $$; ls /proc/self/fd");
    let process = request.process.as_mut().unwrap();
    process.envs = BTreeMap::from([("MINE".to_owned(), "a=b".to_owned())]);
    let text = daemon.client().start(&request).await.rest().await.text();
    for line in ["MINE=a=b", "HOME=/root", "USER=root", "LOGNAME=root", "E2B_SANDBOX=true", "0022"]
    {
        assert!(text.lines().any(|seen| seen == line), "{line} is missing in {text}");
    }
    assert!(!text.contains("CARGO"), "nothing of the daemon's own: {text}");
    let fds: Vec<&str> = text.lines().rev().take_while(|line| line.len() == 1).collect();
    assert_eq!(fds, ["3", "2", "1", "0"], "3 is the directory that ls reads");
}

#[tokio::test]
async fn many_commands_at_once_each_get_their_own_output() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let runs = (0..100).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            let seen = client.shell(&format!("echo {i}")).await.rest().await;
            assert_eq!((seen.text(), seen.exit_code), (format!("{i}\n"), Some(0)));
        })
    });
    for run in runs.collect::<Vec<_>>() {
        soon(run).await.unwrap();
    }
}
