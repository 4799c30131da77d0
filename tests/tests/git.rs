//! Git inside, by the SDKs' helpers, from a server beside the node that only a tunnel leads to; and
//! what tunnels do not lead to, the operator's and a connector's.

use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::git_server::GitServer;
use courier_tests::program::{self, Running};
use courier_tests::sandbox::Sandbox;
use courier_tests::sdk::{self, Mode};
use courier_tests::server::{Options, Server, courier};
use courier_tests::{suite, tests, wait};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

/// What is there, or gone, is so within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the tests share: a Git server, a server with a tunnel to it, and a service beside it that no
/// sandbox is to reach.
struct World {
    server: Server,
    git: GitServer,
    decoy: TcpListener,
    _folder: TempDir,
}

impl World {
    fn make(environment: Environment) -> Self {
        let folder = environment.folder();
        let git = GitServer::start(folder.path());
        for name in ["public/js", "private/js", "public/py", "private/py", "public/connected"] {
            git.make(name);
        }
        let decoy = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
        decoy.set_nonblocking(true).expect("a socket can be non-blocking");
        let beside = decoy.local_addr().expect("a bound socket has an address");
        let arguments = [
            "--tunnel".to_owned(),
            format!("git={},port=80", git.address),
            "--tunnel".to_owned(),
            format!("other={beside},port=80"),
        ];
        let options = Options { arguments: arguments.to_vec(), ..Options::default() };
        Self { server: Server::start(&environment, options), git, decoy, _folder: folder }
    }

    /// A sandbox that may use this tunnel.
    #[track_caller]
    fn sandbox(&self, tunnel: &str) -> Sandbox<'_> {
        let order = json!({"timeout_ms": 120_000, "egress": {"tunnels": [tunnel]}});
        let made = self.server.call("POST", "/v1/sandboxes", Some(&order));
        Sandbox::from_v1(&self.server, made.assert_status(201))
    }

    /// What the pushes of an SDK's script left behind on the server's disk.
    #[track_caller]
    fn assert_pushed(&self, repository: &str, author: &str, subject: &str) {
        let log = self.git.look(repository, &["log", "--format=%an <%ae> %s", "feature"]);
        let first = "First <first@example.com> first";
        assert_eq!(log, format!("{author} {subject}\n{first}"), "{repository}");
        let file = self.git.look(repository, &["show", "feature:hello.txt"]);
        assert_eq!(file, "from the sandbox");
        assert_eq!(self.git.look(repository, &["log", "--format=%s", "main"]), "first");
    }

    /// Panics where anything connected to the service beside.
    #[track_caller]
    fn assert_decoy_untouched(&self) {
        let came = self.decoy.accept();
        assert!(came.is_err(), "something reached a port that no tunnel leads to: {came:?}");
    }
}

fn the_npm_sdk_clones_branches_commits_pushes_and_is_told_of_wrong_passwords(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "git.mjs");
    let author = "Octo Js <octo.js@example.com>";
    world.assert_pushed("private/js", author, "say hello from JS");
}

fn the_python_sdk_clones_branches_commits_pushes_and_is_told_of_wrong_passwords(world: &World) {
    sdk::python(&world.server, Mode::Url, "git_inside.py");
    let author = "Octo Py <octo.py@example.com>";
    world.assert_pushed("private/py", author, "say hello from Python");
}

fn a_tunnel_leads_to_its_one_service_and_nowhere_else(world: &World) {
    let sandbox = world.sandbox("git");
    sandbox.sh("git ls-remote http://git.tunnel.internal/public/js.git main").assert_ok();
    let beside = world.decoy.local_addr().expect("a bound socket has an address").port();
    let own = world.git.address.port();
    for (host, port) in [
        ("git.tunnel.internal", beside),
        ("git.tunnel.internal", own),
        ("git.tunnel.internal", 443),
        ("other.tunnel.internal", 80),
        ("nobody.tunnel.internal", 80),
        ("tunnel.internal", 80),
        ("192.0.0.1", beside),
        ("192.0.0.1", 80),
        ("127.0.0.1", beside),
    ] {
        let refused =
            sandbox.sh(&format!("timeout 10 bash -c 'exec 3<>/dev/tcp/{host}/{port}' 2>&1"));
        assert_ne!(refused.code(), 0, "{host}:{port} answered: {refused:?}");
        assert_ne!(refused.code(), 124, "{host}:{port} is refused at once, not left waiting");
    }
    // Under another name it is another host's.
    let renamed = "curl -s -o /dev/null -w '%{http_code}' -m 10 -H 'Host: other.tunnel.internal' \
                   http://git.tunnel.internal/public/js.git/info/refs?service=git-upload-pack";
    assert_eq!(sandbox.sh(renamed).out(), "200", "what is behind a tunnel is not looked into");
    world.assert_decoy_untouched();
    sandbox.kill();
}

fn a_sandbox_whose_policy_names_no_tunnel_reaches_none(world: &World) {
    let sandbox = world.server.sandbox(120);
    for host in ["git.tunnel.internal", "other.tunnel.internal"] {
        let resolved = sandbox.sh(&format!("getent hosts {host}"));
        assert_eq!((resolved.code(), resolved.out().as_str()), (2, ""), "{host}");
    }
    let before = world.git.seen().len();
    let cloned = sandbox.sh("git clone http://git.tunnel.internal/public/js.git 2>&1");
    assert_eq!(cloned.code(), 128, "{cloned:?}");
    assert_eq!(world.git.seen().len(), before, "nothing arrived");
    sandbox.kill();
}

fn connector(world: &World) -> Running {
    let mut command = courier(&world.server.environment, &world.server.data);
    command.env("COURIER_URL", format!("http://{}", world.server.address));
    command.env("COURIER_API_KEY", &world.server.key);
    command.args(["connector", "hub", "--to", &world.git.address.to_string(), "--port", "80"]);
    program::start(&mut command, b"")
}

fn clone(sandbox: &Sandbox<'_>) -> Result<(), String> {
    let script = "rm -rf connected && \
                  git clone -q http://hub.tunnel.internal/public/connected.git 2>&1 && \
                  cat connected/README.md";
    let cloned = sandbox.sh(script);
    if cloned.out() == "# public/connected" { Ok(()) } else { Err(format!("{cloned:?}")) }
}

fn a_connector_s_tunnel_carries_git_until_the_connector_goes_and_again_when_it_is_back(
    world: &World,
) {
    let running = connector(world);
    wait::until("the tunnel is there", PATIENCE, || {
        let list = world.server.call("GET", "/v1/tunnels", None).assert_status(200).text();
        if list.contains("\"hub\"") { Ok(()) } else { Err(list) }
    });
    let sandbox = world.sandbox("hub");
    wait::until("a clone through it", PATIENCE, || clone(&sandbox));
    let beside = world.decoy.local_addr().expect("a bound socket has an address").port();
    for (host, port) in [("hub.tunnel.internal", beside), ("git.tunnel.internal", 80)] {
        let refused =
            sandbox.sh(&format!("timeout 10 bash -c 'exec 3<>/dev/tcp/{host}/{port}' 2>&1"));
        assert!(![0, 124].contains(&refused.code()), "{host}:{port}: {refused:?}");
    }
    running.signal(Signal::TERM);
    running.wait(PATIENCE).assert_code(0);
    wait::until("nothing passes without it", PATIENCE, || match clone(&sandbox) {
        Ok(()) => Err("a clone came through".to_owned()),
        Err(_refused) => Ok(()),
    });
    let running = connector(world);
    wait::until("a clone through the new one", PATIENCE, || clone(&sandbox));
    running.signal(Signal::TERM);
    running.wait(PATIENCE).assert_code(0);
    world.assert_decoy_untouched();
    sandbox.kill();
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            the_npm_sdk_clones_branches_commits_pushes_and_is_told_of_wrong_passwords,
            the_python_sdk_clones_branches_commits_pushes_and_is_told_of_wrong_passwords,
            a_tunnel_leads_to_its_one_service_and_nowhere_else,
            a_sandbox_whose_policy_names_no_tunnel_reaches_none,
            a_connector_s_tunnel_carries_git_until_the_connector_goes_and_again_when_it_is_back,
        ],
    )
}
