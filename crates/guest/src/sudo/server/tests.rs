//! One client against the daemon's half. Nothing here reaps children, as other tests wait for their
//! own: ends are told by the test.

use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};

use super::super::request::Mode;
use super::*;

/// No step of a test takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// A system whose root is the user who runs the tests.
fn context(root: &Path) -> Arc<Context> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    std::fs::create_dir(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/passwd"), format!("root:x:{uid}:{gid}::/:/bin/sh\n")).unwrap();
    std::fs::write(root.join("etc/group"), format!("sudo:x:{gid}:\n")).unwrap();
    Arc::new(Context::new(Accounts::under(root)))
}

async fn reply(ask: Ask) -> Reply {
    let root = tempfile::tempdir().unwrap();
    let (mut client, daemon) = UnixStream::pair().unwrap();
    tokio::spawn(serve_client(context(root.path()), daemon));
    let uid = rustix::process::getuid().as_raw();
    let request = Request { ask, caller: Caller { environment: Vec::new(), uid, gid: 0 } };
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let streams = [null.as_fd(), null.as_fd(), null.as_fd()];
    soon(wire::send_request(&mut client, &request, &streams)).await.unwrap();
    soon(wire::receive_reply(&mut client)).await.unwrap()
}

fn run(line: &str) -> Run {
    Run { command: line.split(' ').map(Text::from).collect(), ..Run::default() }
}

#[tokio::test]
async fn a_command_that_is_not_there_is_refused_with_code_1() {
    let message = "no-such-tool: command not found".to_owned();
    assert_eq!(
        reply(Ask::Run(run("no-such-tool"))).await,
        Reply::Refused { message, status: REFUSED }
    );
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_refused_with_code_126() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("tool");
    std::fs::write(&path, "#!/no/such/shell\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let Reply::Refused { message, status } = reply(Ask::Run(run(path.to_str().unwrap()))).await
    else {
        panic!("it ran")
    };
    assert_eq!(status, NOT_STARTED);
    assert!(message.starts_with(&format!("unable to execute {}: ", path.display())), "{message}");
}

#[tokio::test]
async fn a_command_in_the_background_is_not_waited_for() {
    let run = Run { background: true, mode: Mode::Shell, ..run("true") };
    assert_eq!(reply(Ask::Run(run)).await, Reply::Started);
}

#[tokio::test]
async fn a_list_says_that_everything_is_allowed_or_where_a_command_is() {
    let Reply::Told { text } = reply(Ask::List(Vec::new())).await else { panic!("no list") };
    assert!(text.starts_with("User root may run"), "{text}");
    assert!(text.contains("(ALL : ALL)"), "{text}");
    let Reply::Told { text } = reply(Ask::List(vec!["sh".into(), "-c".into()])).await else {
        panic!("no path")
    };
    assert!(text.starts_with('/') && text.ends_with("/sh -c\n"), "{text}");
    assert_eq!(reply(Ask::Validate).await, Reply::Told { text: String::new() });
}

/// A command in a process group of its own, whose output is a line when it is ready.
fn command(script: &str) -> (Child, Pid) {
    use std::io::{BufRead as _, BufReader};
    let mut child = Command::new("sh")
        .args(["-c", script])
        .process_group(0)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let pid = Pid::from_child(&child);
    (child, pid)
}

async fn end_of(mut child: Child) -> ExitStatus {
    soon(tokio::task::spawn_blocking(move || child.wait())).await.unwrap().unwrap()
}

#[tokio::test]
async fn signals_reach_the_command_and_its_end_reaches_the_client() {
    use tokio::io::AsyncWriteExt as _;
    let (child, pid) = command("trap 'exit 42' USR1; echo; while :; do sleep 0.05; done");
    let (mut client, daemon) = UnixStream::pair().unwrap();
    let (promise, exit) = oneshot::channel();
    tokio::spawn(follow(daemon, pid, exit, false));
    let number = u8::try_from(Signal::USR1.as_raw()).unwrap();
    client.write_all(&[0, 99, number]).await.unwrap();
    assert_eq!(end_of(child).await.code(), Some(42), "numbers that are no signals are skipped");
    promise.send(Exit::Signal(9)).unwrap();
    assert_eq!(soon(wire::receive_reply(&mut client)).await.unwrap(), Reply::Killed(9));
}

#[tokio::test]
async fn a_command_whose_client_is_gone_is_hung_up_even_if_it_was_stopped() {
    use tokio::io::AsyncWriteExt as _;
    let (child, pid) = command("trap 'exit 43' HUP; echo; while :; do sleep 0.05; done");
    let (mut client, daemon) = UnixStream::pair().unwrap();
    let (_promise, exit) = oneshot::channel();
    let following = tokio::spawn(follow(daemon, pid, exit, false));
    let number = u8::try_from(Signal::TSTP.as_raw()).unwrap();
    client.write_all(&[number]).await.unwrap();
    drop(client);
    soon(following).await.unwrap().unwrap();
    assert_eq!(end_of(child).await.code(), Some(43));
}

#[tokio::test]
async fn the_socket_is_for_root_and_the_group_and_replaces_one_that_was_left() {
    let root = tempfile::tempdir().unwrap();
    let context = context(root.path());
    let path = root.path().join("run/sudo.sock");
    for _start in 0..2 {
        let _listener = listen(&context, &path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
    }
}
