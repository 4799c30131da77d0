//! `courier egress`, `courier secret`, and what `courier run` may reach.

use std::process::Command;

use courier_tests::internet::{DENIED, Internet};
use courier_tests::program::{self, Ended};
use courier_tests::server::{Server, courier};
use courier_tests::suite::Test;
use courier_tests::tests;
use serde_json::Value;

use super::{PATIENCE, new, run, run_with};

pub(crate) const TESTS: &[Test<Server>] = tests![
    secrets_are_stored_replaced_listed_and_deleted_and_never_shown,
    what_is_no_secret_is_refused_and_says_why,
    what_a_sandbox_may_reach_is_shown_explained_and_replaced,
    what_is_no_policy_changes_nothing,
    what_a_run_may_reach_is_reached_and_the_rest_is_not,
    learning_proposes_a_diff_that_makes_the_program_work,
    the_log_of_a_sandbox_tells_what_it_reached_and_ends_with_it,
    a_secret_is_added_on_its_way_out_and_its_name_is_in_the_log,
];

/// What every run of these tests asks for.
const PROGRAM: &str = "for host in allowed denied; do \
    curl -sS -m 20 http://$host.test/from-$host 2>/dev/null || echo no $host; done";

fn json(ended: &Ended) -> Value {
    serde_json::from_slice(&ended.assert_code(0).stdout).expect("--json prints JSON")
}

fn secrets_are_stored_replaced_listed_and_deleted_and_never_shown(server: &Server) {
    let value = "a-value-of-the-command-line";
    let set = |name: &str, text: &str| run_with(server, &["secret", "set", name], text.as_bytes());
    assert_eq!(set("cli.one", value).assert_code(0).out(), "cli.one (version 1)\n");
    assert_eq!(set("cli.one", "another\n").assert_code(0).out(), "cli.one (version 2)\n");
    let folder = server.environment.folder();
    let file = folder.path().join("value");
    std::fs::write(&file, value).expect("scratch is ours");
    let file = file.display().to_string();
    let ended = run(server, &["secret", "set", "CLI.Two", "--value-file", &file]);
    assert_eq!(ended.assert_code(0).out(), "cli.two (version 1)\n");
    let table = run(server, &["secret", "ls"]).assert_code(0).out();
    assert!(table.starts_with("NAME"), "{table}");
    let list = json(&run(server, &["secret", "ls", "--json"]));
    let names: Vec<_> = list.as_array().into_iter().flatten().map(|s| &s["name"]).collect();
    for name in ["cli.one", "cli.two"] {
        assert!(table.contains(name) && names.iter().any(|n| *n == name), "{table}{list}");
    }
    assert!(!table.contains(value) && !list.to_string().contains(value), "{table}{list}");
    let ended = run(server, &["secret", "rm", "cli.one", "cli.none", "cli.two"]);
    ended.assert_code(125);
    assert_eq!(ended.out(), "cli.one\ncli.two\n", "the others are deleted");
    assert!(ended.err().contains("there is no secret cli.none"), "{}", ended.err());
    assert!(!run(server, &["secret", "ls"]).assert_code(0).out().contains("cli."));
}

fn what_is_no_secret_is_refused_and_says_why(server: &Server) {
    for (name, value, part) in [
        ("cli.empty", &b""[..], "it is empty"),
        ("cli.empty", b"\n", "it is empty"),
        ("cli.binary", b"\xff\xfe", "UTF-8"),
        ("a/b", b"value", "a/b"),
    ] {
        let ended = run_with(server, &["secret", "set", name], value);
        assert_ne!(ended.code, Some(0), "{name}");
        assert!(ended.err().contains(part), "{name}: {}", ended.err());
    }
    let ended = run(server, &["secret", "set", "cli.file", "--value-file", "/not/there"]);
    assert!(ended.assert_code(125).err().contains("/not/there"), "{}", ended.err());
    assert!(!run(server, &["secret", "ls"]).assert_code(0).out().contains("cli."));
}

fn what_a_sandbox_may_reach_is_shown_explained_and_replaced(server: &Server) {
    let made = run(server, &["sandbox", "new", "--timeout", "2m", "--allow", "allowed.test"]);
    let id = made.assert_code(0).out().trim().to_owned();
    let shown = run(server, &["egress", "show", &id]).assert_code(0).out();
    let expected =
        "sandbox\n   0  allow allowed.test  http on 80, https on 443\n   -  deny everything else\n";
    assert_eq!(shown, expected);
    let explain =
        |arguments: &[&str]| run(server, &[&["egress", "explain", &id], arguments].concat());
    let ended = explain(&["allowed.test"]);
    assert!(ended.assert_code(0).out().starts_with("Allowed.\n"), "{}", ended.out());
    assert!(ended.out().contains("rule 0 of the sandbox: allow allowed.test"), "{}", ended.out());
    for arguments in [
        &["denied.test"][..],
        &["allowed.test:8443"],
        &["allowed.test:22", "--protocol", "tcp"],
        &["169.254.169.254", "--protocol", "http"],
    ] {
        let ended = explain(arguments);
        assert!(ended.assert_code(1).out().starts_with("Refused.\n"), "{}", ended.out());
    }
    let ended = explain(&["denied.test"]);
    assert!(ended.out().contains("This rule would allow it"), "{}", ended.out());
    assert!(ended.out().contains(r#"{"allow": "denied.test""#), "{}", ended.out());
    let answer = explain(&["denied.test", "--json"]);
    let answer: Value = serde_json::from_slice(&answer.assert_code(1).stdout).expect("JSON");
    assert_eq!(answer["allowed"], false, "{answer}");
    let policy = br#"{"rules": [{"allow": "denied.test", "methods": ["GET"], "paths": ["/a/*"]}]}"#;
    let set = run_with(server, &["egress", "set", &id, "-"], policy);
    assert!(set.assert_code(0).out().contains("allow denied.test"), "{}", set.out());
    assert_eq!(set.out(), run(server, &["egress", "show", &id]).assert_code(0).out());
    explain(&["denied.test", "--path", "/a/b"]).assert_code(0);
    explain(&["denied.test", "--path", "/b"]).assert_code(1);
    explain(&["denied.test", "--path", "/a/b", "--method", "POST"]).assert_code(1);
    explain(&["allowed.test"]).assert_code(1);
    run(server, &["sandbox", "kill", &id]).assert_code(0);
    for command in ["show", "log", "learn"] {
        let ended = run(server, &["egress", command, "i00000000000000000000"]);
        assert!(ended.assert_code(125).err().contains("i00000000000000000000"), "{}", ended.err());
    }
}

fn what_is_no_policy_changes_nothing(server: &Server) {
    let id = new(server);
    let before = run(server, &["egress", "show", &id]).assert_code(0).out();
    for (policy, part) in [
        (r#"{"rule": []}"#, "rule"),
        (r#"{"rules": [{"allow": "*.com"}]}"#, "*.com"),
        (r#"{"rules": [{"allow": "a.test", "port": 1}]}"#, "port"),
        (r#"{"presets": ["no-such-preset"]}"#, "no-such-preset"),
        ("{", "EOF"),
    ] {
        let ended = run_with(server, &["egress", "set", &id, "-"], policy.as_bytes());
        ended.assert_code(125);
        assert!(ended.err().contains(part), "{policy}: {}", ended.err());
    }
    assert_eq!(run(server, &["egress", "show", &id]).assert_code(0).out(), before);
    run(server, &["sandbox", "kill", &id]).assert_code(0);
    for wrong in [&["--allow", "a b"][..], &["--allow", "a.test:99999"], &["--preset", "A B"]] {
        let ended = run(server, &[&["sandbox", "new"], wrong].concat());
        assert_ne!(ended.code, Some(0), "{wrong:?}");
        assert_eq!(ended.out(), "", "{wrong:?}");
    }
}

/// The test internet, with a folder for files of ours.
struct World {
    internet: Internet,
    folder: tempfile::TempDir,
}

impl World {
    #[track_caller]
    fn start(server: &Server) -> Self {
        let folder = server.environment.folder();
        std::fs::write(folder.path().join("program.sh"), PROGRAM).expect("scratch is ours");
        Self { internet: Internet::start(&server.environment), folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let server = &self.internet.server;
        let mut command = courier(&server.environment, &server.data);
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ended {
        program::run(&mut self.command(arguments), b"", PATIENCE)
    }

    /// Makes a sandbox that may reach what the arguments say; its id.
    #[track_caller]
    fn sandbox(&self, arguments: &[&str]) -> String {
        let made = self.run(&[&["sandbox", "new", "--timeout", "5m"], arguments].concat());
        made.assert_code(0).out().trim().to_owned()
    }

    /// What the program prints in a sandbox.
    #[track_caller]
    fn exec(&self, id: &str) -> String {
        self.run(&["sandbox", "exec", id, "--", "sh", "-c", PROGRAM]).assert_code(0).out()
    }
}

fn what_a_run_may_reach_is_reached_and_the_rest_is_not(server: &Server) {
    let world = World::start(server);
    let place = world.internet.rig.place();
    let ended = world.run(&["run", "program.sh"]);
    assert_eq!(ended.assert_code(0).out(), "no allowed\nno denied\n");
    let ended = world.run(&["run", "--allow", "allowed.test", "program.sh"]);
    assert_eq!(ended.assert_code(0).out(), "decoy allowed.test\nno denied\n");
    let ended = world.run(&["run", "--allow", "allowed.test:443", "program.sh"]);
    assert_eq!(ended.assert_code(0).out(), "no allowed\nno denied\n");
    let rig = &world.internet.rig;
    let paths: Vec<String> = rig.requests(&place).into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["/from-allowed"]);
    let denied = rig.packets(&place).into_iter().find(|packet| packet.to.to_string() == DENIED);
    assert!(denied.is_none(), "{denied:?}");
    // The control: with that rule it gets there.
    let ended = world.run(&["run", "--allow", "internet", "program.sh"]);
    assert_eq!(ended.assert_code(0).out(), "decoy allowed.test\ndecoy denied.test\n");
}

fn learning_proposes_a_diff_that_makes_the_program_work(server: &Server) {
    let world = World::start(server);
    let place = world.internet.rig.place();
    let ended = world.run(&["run", "--learn", "--allow", "allowed.test", "program.sh"]);
    assert_eq!(ended.assert_code(0).out(), "decoy allowed.test\nno denied\n");
    let expected = r#"--- /dev/null
+++ egress.json
@@ -0,0 +1,6 @@
+{
+  "rules": [
+    {"allow": "allowed.test"},
+    {"allow": "denied.test", "protocols": ["http"], "methods": ["GET"], "paths": ["/from-denied"]}
+  ]
+}
"#;
    assert_eq!(ended.err(), expected);
    let paths: Vec<_> = world.internet.rig.requests(&place).into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["/from-allowed"], "learning lets nothing more through");
    // The same for a sandbox: the diff applies to its policy, and then the program works.
    let file = world.folder.path().join("egress.json");
    let policy =
        "{\n  \"rules\": [\n    {\"allow\": \"allowed.test\"}\n  ],\n  \"learn\": true\n}\n";
    std::fs::write(&file, policy).expect("scratch is ours");
    let id = world.sandbox(&["--egress", "egress.json"]);
    assert_eq!(world.exec(&id), "decoy allowed.test\nno denied\n");
    let diff = world.run(&["egress", "learn", &id]).assert_code(0).stdout.clone();
    let mut patch = Command::new("patch");
    patch.arg("egress.json").current_dir(world.folder.path());
    program::run(&mut patch, &diff, PATIENCE).assert_code(0);
    world.run(&["egress", "set", &id, "egress.json"]).assert_code(0);
    assert_eq!(world.exec(&id), "decoy allowed.test\ndecoy denied.test\n");
    let whole = world.run(&["egress", "learn", "--whole", &id]).assert_code(0).out();
    assert_eq!(whole, std::fs::read_to_string(&file).expect("it is there"));
    world.run(&["sandbox", "kill", &id]).assert_code(0);
}

fn the_log_of_a_sandbox_tells_what_it_reached_and_ends_with_it(server: &Server) {
    let world = World::start(server);
    let id = world.sandbox(&["--allow", "allowed.test"]);
    let followed = program::start(&mut world.command(&["egress", "log", "-f", &id]), b"");
    assert!(followed.line(PATIENCE).1.starts_with("TIME "), "the head comes at once");
    world.exec(&id);
    let log = world.run(&["egress", "log", &id]).assert_code(0).out();
    let has = |parts: &[&str]| log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["dns", "1 A", "allowed.test"]), "{log}");
    assert!(has(&["GET", "200", "allowed.test/from-allowed"]), "{log}");
    assert!(has(&["dns", "REFUSED policy", "denied.test"]), "{log}");
    let lines = world.run(&["egress", "log", "--json", &id]).assert_code(0).out();
    let lines: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let refused = lines.iter().find(|line| line["event"] == "refused").expect("one was refused");
    assert_eq!(
        (refused["host"].as_str(), refused["fence"].as_str()),
        (Some("denied.test"), Some("policy"))
    );
    world.run(&["sandbox", "kill", &id]).assert_code(0);
    let ended = followed.wait(PATIENCE);
    assert!(ended.assert_code(0).out().contains("allowed.test/from-allowed"), "{}", ended.out());
    let after = world.run(&["egress", "log", &id]).assert_code(0).out();
    assert_eq!(after, log, "the log is there after the sandbox");
}

fn a_secret_is_added_on_its_way_out_and_its_name_is_in_the_log(server: &Server) {
    let world = World::start(server);
    let mut set = world.command(&["secret", "set", "cli-key"]);
    program::run(&mut set, b"cli-key-value\n", PATIENCE).assert_code(0);
    let policy = r#"{"rules": [{"allow": "allowed.test"}],
        "credentials": [{"host": "allowed.test", "secret": "cli-key", "as": {"bearer": {}}},
                        {"host": "later.test", "secret": "cli-key", "as": {"placeholder": {}}}]}"#;
    std::fs::write(world.folder.path().join("egress.json"), policy).expect("scratch is ours");
    let script = "curl -sS https://allowed.test/with-key; echo $KEY; \
        curl -sS -H \"X-Key: $KEY\" https://later.test/with-token";
    std::fs::write(world.folder.path().join("key.sh"), script).expect("scratch is ours");
    let place = world.internet.rig.place();
    let egress = ["--egress", "egress.json", "--allow", "later.test", "--secret", "KEY=cli-key"];
    let ended = world.run(&[&["run", "--keep"][..], &egress, &["key.sh"]].concat());
    let out = ended.assert_code(0).out();
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        matches!(lines.as_slice(), ["decoy allowed.test", token, "decoy later.test"]
        if token.starts_with("cct_")),
        "{out}"
    );
    let sent = world.internet.rig.requests(&place);
    let header = |at: usize, name: &str| sent.get(at).and_then(|request| request.header(name));
    assert_eq!(header(0, "authorization"), Some("Bearer cli-key-value"), "{sent:?}");
    assert_eq!(header(1, "x-key"), Some("cli-key-value"), "{sent:?}");
    let id = world.internet.server.running().concat();
    let log = world.run(&["egress", "log", &id]).assert_code(0).out();
    let added = log.lines().filter(|line| line.contains("+cli-key")).count();
    assert_eq!(added, 2, "{log}");
    assert!(!log.contains("cli-key-value"), "{log}");
    world.run(&["sandbox", "kill", &id]).assert_code(0);
}
