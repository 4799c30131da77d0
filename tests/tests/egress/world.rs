//! What the tests share: the internet, a server in it, and two sandboxes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::http::Whole;
use courier_tests::rig::{PROBES, RESOLVER, Rig};
use courier_tests::sandbox::Sandbox;
use courier_tests::server::{Options, Server};
use courier_tests::suite::Test;
use courier_tests::tests;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::probe::Inside;

/// Something that must follow at once, on a machine with two busy cores.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);
/// How long the shared sandboxes live: longer than any run of the suite.
pub(crate) const LIFETIME_MS: u64 = 40 * 60 * 1000;
/// Where the probes' program and the internet's certificate are inside.
const PROGRAM: &str = "/tmp/egress.py";
const CERTIFICATE: &str = "/tmp/internet-ca.pem";

/// Names and their addresses. Everything else below `test` is the denied host.
const NAMES: &[(&str, &str)] = &[
    ("*.test", "93.184.216.20"),
    ("denied.test", "93.184.216.20"),
    ("allowed.test", "93.184.216.10"),
    // Not allowed, at the address of one that is.
    ("neighbour.test", "93.184.216.10"),
    ("wide.test", "93.184.216.12"),
    ("*.wide.test", "93.184.216.12"),
    ("tcp.test", "93.184.216.13"),
    ("bound.test", "93.184.216.14"),
    ("brokered.test", "93.184.216.15"),
    ("*.brokered.test", "93.184.216.15"),
    ("exchange.test", "93.184.216.16"),
    ("git.test", "93.184.216.17"),
    ("metadata.google.internal", "169.254.169.254"),
    ("loopback.rebind.test", "127.0.0.1"),
    ("unspecified.rebind.test", "0.0.0.0"),
    ("node.rebind.test", "93.184.217.2"),
    ("metadata.rebind.test", "169.254.169.254"),
    ("ten.rebind.test", "10.0.0.5"),
    ("home.rebind.test", "192.168.1.1"),
    ("middle.rebind.test", "172.16.0.1"),
    ("carrier.rebind.test", "100.64.0.1"),
    ("bench.rebind.test", "198.18.0.9"),
    ("link.rebind.test", "192.0.0.9"),
    ("azure.rebind.test", "168.63.129.16"),
    ("alibaba.rebind.test", "100.100.100.200"),
    ("loopback6.rebind.test", "::1"),
    ("unique6.rebind.test", "fd00::5"),
    ("mapped6.rebind.test", "::ffff:10.0.0.5"),
];

/// The policy of the fenced sandbox.
pub(crate) fn policy() -> Value {
    json!({"rules": [
        {"allow": "allowed.test"},
        {"allow": "*.wide.test"},
        {"allow": "tcp.test", "ports": [22, 9000], "protocols": ["tcp"]},
        {"allow": "bound.test", "methods": ["GET"], "paths": ["/open/*"]},
        {"allow": "*.rebind.test", "ports": [80, 7777], "protocols": ["http"]},
    ]})
}

/// The world.
pub(crate) struct World {
    pub(crate) server: Server,
    fenced: OnceLock<Whole>,
    internet: OnceLock<Whole>,
    attempts: AtomicU32,
    /// The last fields to go: the server must be asked to end from where it is, in NODE.
    pub(crate) rig: Rig,
    _folder: TempDir,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The text that it tried to get out.
    pub(crate) canary: String,
    /// What it printed.
    pub(crate) outcome: Value,
}

impl World {
    pub(crate) fn make(environment: Environment) -> Self {
        let folder = environment.folder();
        let rig = Rig::start(folder.path());
        for (name, address) in NAMES {
            rig.zone().address(name, &[address]);
        }
        let zone = rig.zone();
        zone.address("mixed.rebind.test", &["93.184.216.18", "10.0.0.5"]);
        zone.alias("alias.rebind.test", "metadata.google.internal");
        zone.turns("flip.rebind.test", 0, &[&["93.184.216.18"], &["10.0.0.5"]]);
        zone.extra("poison.wide.test", "allowed.test", "93.184.216.20");
        zone.text("allowed.test", "a text");
        zone.encrypted_hello("allowed.test", b"configuration");
        let arguments = ["--egress-resolver", &RESOLVER.to_string(), "--egress-ca"];
        let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        arguments.push(rig.ca_file.display().to_string());
        let server = Server::start(&environment, Options { arguments, ..Options::default() });
        Self {
            server,
            fenced: OnceLock::new(),
            internet: OnceLock::new(),
            attempts: AtomicU32::new(0),
            rig,
            _folder: folder,
        }
    }

    /// The shared sandbox of a kind.
    #[track_caller]
    pub(crate) fn inside(&self, inside: Inside) -> Sandbox<'_> {
        let (cell, policy) = match inside {
            Inside::Fenced => (&self.fenced, policy()),
            Inside::Internet => (&self.internet, json!({"rules": [{"allow": "internet"}]})),
        };
        let answer = cell.get_or_init(|| self.create(&policy));
        Sandbox::from_v1(&self.server, answer)
    }

    /// A sandbox of its own with a policy.
    #[track_caller]
    pub(crate) fn sandbox(&self, policy: &Value) -> Sandbox<'_> {
        Sandbox::from_v1(&self.server, &self.create(policy))
    }

    #[track_caller]
    fn create(&self, policy: &Value) -> Whole {
        let body = json!({"template": "base", "timeout_ms": LIFETIME_MS, "egress": policy});
        self.create_with(&body)
    }

    /// A sandbox of its own from a whole order.
    #[track_caller]
    pub(crate) fn create_from(&self, body: &Value) -> Sandbox<'_> {
        Sandbox::from_v1(&self.server, &self.create_with(body))
    }

    #[track_caller]
    fn create_with(&self, body: &Value) -> Whole {
        let answer = self.server.call("POST", "/v1/sandboxes", Some(body));
        self.prepare(&Sandbox::from_v1(&self.server, answer.assert_status(201)));
        answer
    }

    /// A sandbox of its own by the E2B wire.
    #[track_caller]
    pub(crate) fn create_by_e2b(&self, body: &Value) -> Sandbox<'_> {
        let answer = self.server.call("POST", "/v2/sandboxes", Some(body));
        let sandbox = Sandbox::from_answer(&self.server, answer.assert_status(201));
        self.prepare(&sandbox);
        sandbox
    }

    /// Puts inside what the probes need.
    #[track_caller]
    fn prepare(&self, sandbox: &Sandbox<'_>) {
        sandbox.write(PROGRAM, &std::fs::read(PROBES).expect("the probes are there"));
        sandbox.write(CERTIFICATE, self.rig.world.authority.pem().as_bytes());
    }

    /// A text that nobody else has, fit for a label of a name.
    pub(crate) fn canary(&self) -> String {
        let number = self.attempts.fetch_add(1, Ordering::SeqCst);
        let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
        let random = random.expect("Linux has random uuids").replace('-', "");
        format!("canary{number}x{}", random.get(..12).unwrap_or_default())
    }

    /// Evaluates an expression of the probes' program where no fence is.
    #[track_caller]
    pub(crate) fn outside(&self, action: &str) -> Attempt {
        let canary = self.canary();
        let outcome = self.rig.control(action, &canary);
        Attempt { canary, outcome }
    }

    /// Evaluates an expression of the probes' program in a sandbox.
    #[track_caller]
    pub(crate) fn attempt(&self, sandbox: &Sandbox<'_>, user: &str, action: &str) -> Attempt {
        let canary = self.canary();
        let quoted = action.replace('\'', r"'\''");
        let script = format!("python3 {PROGRAM} '{quoted}' {canary}");
        let outcome = sandbox.sh_as(user, &script).expect("the sandbox answers");
        let outcome = serde_json::from_slice(&outcome.assert_ok().stdout);
        Attempt { canary, outcome: outcome.expect("a probe prints JSON") }
    }

    /// The records of the flow log after a number, to the newest.
    #[track_caller]
    pub(crate) fn flows(&self, sandbox: &Sandbox<'_>, after: u64) -> Vec<Value> {
        let mut flows: Vec<Value> = Vec::new();
        loop {
            let after = flows.last().and_then(|flow| flow["seq"].as_u64()).unwrap_or(after);
            let query = format!("after={after}&limit=1000");
            let target = format!("/v1/sandboxes/{}/egress/flows?{query}", sandbox.id);
            let page = self.server.call("GET", &target, None);
            let page = page.assert_status(200).json();
            let page = page["flows"].as_array().expect("a page has flows").clone();
            if page.is_empty() {
                return flows;
            }
            flows.extend(page);
        }
    }

    /// The number of the last record of the flow log.
    #[track_caller]
    pub(crate) fn last_flow(&self, sandbox: &Sandbox<'_>) -> u64 {
        self.flows(sandbox, 0).last().and_then(|flow| flow["seq"].as_u64()).unwrap_or(0)
    }
}

/// What must work, or every fence would look whole.
pub(crate) const TESTS: &[Test<World>] = tests![what_the_policy_allows_works,];

fn what_the_policy_allows_works(world: &World) {
    let sandbox = world.inside(Inside::Fenced);
    let place = world.rig.place();
    let ways = [
        ("get('http://allowed.test/'+CANARY)", "decoy allowed.test"),
        ("get('https://allowed.test/'+CANARY)", "decoy allowed.test"),
        ("get('http://ALLOWED.test./'+CANARY)", "decoy"),
        ("get('https://any.wide.test/'+CANARY)", "decoy any.wide.test"),
        ("get('https://bound.test/open/'+CANARY)", "decoy bound.test"),
        ("coalesced('bound.test', [('bound.test', '/open/'+CANARY, [])])", "decoy bound.test"),
        ("coalesced('allowed.test', [('allowed.test', '/'+CANARY, [])])", "decoy allowed.test"),
        ("raw('tcp.test', CANARY, 9000)", ""),
        ("raw('tcp.test', CANARY, 22)", "SSH-2.0-decoy"),
        ("web_socket('http://allowed.test/websocket', CANARY)", ""),
        ("web_socket('https://allowed.test/websocket', CANARY)", ""),
        ("hello('allowed.test', pieces=1)", ""),
        ("hello('allowed.test', size=9)", ""),
    ];
    for (action, part) in ways {
        let attempt = world.attempt(&sandbox, "user", action);
        assert_eq!(attempt.outcome["reached"], true, "{action}: {}", attempt.outcome);
        let text = attempt.outcome.to_string();
        assert!(text.contains(part), "{action}: {text}");
    }
    // Names of the outside are asked of the internet's resolver only, and nothing else is sent.
    let resolver = RESOLVER.ip();
    for packet in world.rig.packets(&place) {
        let known = packet.to.to_string().starts_with("93.184.216.1");
        assert!(packet.to == resolver || known, "{packet:?}");
    }
}
