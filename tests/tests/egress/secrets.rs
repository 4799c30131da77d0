//! Secrets: they are added on the way out where the policy says so, and nowhere else; what comes
//! back has none.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use courier_tests::suite::Test;
use courier_tests::{program, tests, wait};
use serde_json::{Value, json};

use crate::brokered::API;
use crate::world::{PROMPT, World};

pub(crate) const TESTS: &[Test<World>] = tests![
    a_secret_is_added_at_its_host_and_is_nowhere_inside,
    a_token_is_exchanged_at_its_host_and_nowhere_else,
    an_echo_of_a_secret_is_redacted_in_every_form,
    a_redirect_takes_no_secret_along,
    a_secret_is_sent_to_no_server_with_a_bad_certificate,
    a_secret_is_sent_in_clear_to_nobody,
    a_credential_of_the_guest_s_own_goes_nowhere_at_a_brokered_host,
    a_new_value_counts_at_the_next_request,
    a_deleted_secret_is_dead_at_once,
    a_repository_is_cloned_and_pushed_to_without_a_password_inside,
    no_secret_is_in_the_server_s_files_arguments_or_messages,
];

/// From the server's answer to the last moment at which something dead may still work.
const DEAD: Duration = Duration::from_secs(1);

/// The forms of the echo, and whether their text holds the value once it is taken apart.
const FORMS: &[&str] = &[
    "raw",
    "json",
    "json-escaped",
    "base64",
    "base64url",
    "credential-base64",
    "percent",
    "percent-all",
    "gzip",
    "zlib",
    "chunked",
    "header",
    "location",
];

/// Every reading of an answer that a program could try.
fn readings(text: &str) -> Vec<String> {
    let percent = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, others @ ..] = rest {
            let code = (*first == b'%').then(|| others.get(..2)).flatten();
            let code = code.and_then(|code| std::str::from_utf8(code).ok());
            match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = others.get(2..).unwrap_or_default();
                }
                None => {
                    bytes.push(*first);
                    rest = others;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let base64 = |bytes: Result<Vec<u8>, base64::DecodeError>| {
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    let told = json["told"].as_str().or(json.as_str()).unwrap_or_default().to_owned();
    let (standard, url) = (STANDARD.decode(text.trim()), URL_SAFE_NO_PAD.decode(text.trim()));
    vec![text.to_owned(), percent(text), base64(standard), base64(url), told]
}

/// Asks the echo for a form, with compression undone, and prints everything that came.
fn echo(form: &str) -> String {
    format!("read_through(get('https://brokered.test/echo/{form}', HEADERS, follow=False))")
}

fn holds(outcome: &Value, value: &str) -> bool {
    let texts = [outcome["got"].as_str(), outcome["headers"].as_str()];
    texts.into_iter().flatten().flat_map(readings).any(|reading| reading.contains(value))
}

fn an_echo_of_a_secret_is_redacted_in_every_form(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let sandbox = world.brokered();
    let mut leaks = Vec::new();
    for form in FORMS {
        let with = |headers: &str| echo(form).replace("HEADERS", headers);
        let quoted = serde_json::to_string(&format!("Bearer {value}")).expect("a text");
        let control = world.outside(&with(&format!("{{'Authorization': {quoted}}}")));
        assert!(holds(&control.outcome, &value), "the control, {form}: {}", control.outcome);
        let place = world.rig.place();
        let attempt = world.attempt(&sandbox, "user", &with("{}"));
        let sent = world.requests_for(&place, "brokered.test");
        let sent: Vec<_> = sent.iter().map(|request| request.header("authorization")).collect();
        assert_eq!(sent, [Some(format!("Bearer {value}").as_str())], "{form}");
        if holds(&attempt.outcome, &value) {
            leaks.push(format!("{form}: {}", attempt.outcome));
        }
    }
    assert!(leaks.is_empty(), "{value} came back:\n{}", leaks.join("\n"));
    sandbox.kill();
}

fn a_secret_is_added_at_its_host_and_is_nowhere_inside(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let sandbox = world.brokered();
    let place = world.rig.place();
    let attempt = world.attempt(&sandbox, "user", "get('https://brokered.test/a/'+CANARY)");
    assert_eq!(attempt.outcome["status"], 200, "{}", attempt.outcome);
    let sent = world.requests_for(&place, "brokered.test");
    assert!(sent.iter().all(|request| request.header("authorization").is_some()), "{sent:?}");
    let token = sandbox.sh("printenv TOKEN").out();
    assert!(token.starts_with("cct_"), "{token}");
    // Environments, command lines and files of everybody inside.
    let file = world.server.environment.sources.join("probes/scan.py");
    sandbox.write("/tmp/scan.py", &std::fs::read(file).expect("the probe is there"));
    // Only the part of the value without quotes: it goes through a shell.
    let part = value.split('"').next().expect("a text has a first part");
    let reversed: String = part.chars().rev().collect();
    let scan = format!("python3 /tmp/scan.py '{reversed}' --deep");
    sandbox.write("/home/user/planted", part.as_bytes());
    assert_eq!(sandbox.root(&scan).assert_ok().out(), r#"["anywhere"]"#, "the control");
    sandbox.root("rm /home/user/planted").assert_ok();
    assert_eq!(sandbox.root(&scan).assert_ok().out(), "[]");
    sandbox.kill();
}

fn a_token_is_exchanged_at_its_host_and_nowhere_else(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let sandbox = world.brokered();
    let ask = |url: &str| {
        let place = world.rig.place();
        let action = format!("get('{url}', {{'Authorization': 'Bearer ' + os.environ['TOKEN']}})");
        let attempt = world.attempt(&sandbox, "user", &action);
        let told = world.told(&place);
        (attempt, told)
    };
    let bearer = serde_json::to_string(&format!("Bearer {value}")).expect("a text");
    let (attempt, told) = ask("https://exchange.test/");
    assert!(told.contains(&bearer), "the control exchanges: {told}; {}", attempt.outcome);
    let token = sandbox.sh("printenv TOKEN").out();
    assert!(!told.contains(&token), "{told}");
    for url in [
        "http://exchange.test/",
        "https://allowed.test/",
        "http://allowed.test/",
        "https://bound.test/open/a",
        "https://brokered.test/",
        "https://denied.test/",
    ] {
        let (attempt, told) = ask(url);
        let place = told.contains(&bearer);
        // The bearer host adds the value itself, in place of the guest's header.
        assert!(!place || url == "https://brokered.test/", "{url}: {told}");
        // In clear and in TLS that is opened the token does not even leave.
        let seen = url != "https://allowed.test/";
        assert!(!seen || !told.contains(&token), "{url}: {told}; {}", attempt.outcome);
    }
    world.assert_refused(&sandbox, 0, "token", &Value::Null);
    sandbox.kill();
}

fn a_redirect_takes_no_secret_along(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let sandbox = world.brokered();
    for (to, host) in [
        ("https://allowed.test/echo", "allowed.test"),
        ("http://allowed.test/echo", "allowed.test"),
        ("http://brokered.test/echo", "brokered.test"),
        ("https://brokered.test:8443/echo", "brokered.test:8443"),
        ("http://denied.test/", "denied.test"),
    ] {
        let place = world.rig.place();
        let action = format!("get('https://brokered.test/redirect?to={to}')");
        world.attempt(&sandbox, "user", &action);
        let requests = world.rig.requests(&place);
        let first = requests.first().and_then(|request| request.header("authorization"));
        assert!(
            first.is_some_and(|value| value.starts_with("Bearer ")),
            "the control: {requests:?}"
        );
        for request in requests.iter().filter(|request| request.path == "/echo") {
            assert_eq!(request.host, host);
            assert_eq!(request.header("authorization"), None, "{to}");
        }
        assert!(!world.told(&place).contains("denied.test\",\"path\":\"/\""), "{to}");
    }
    sandbox.kill();
}

fn a_secret_is_sent_to_no_server_with_a_bad_certificate(world: &World) {
    world.store(API, &world.value());
    let sandbox = world.brokered();
    let ask = |host: &str| {
        let place = world.rig.place();
        let attempt = world.attempt(&sandbox, "user", &format!("get('https://{host}/'+CANARY)"));
        (world.requests_for(&place, host), attempt)
    };
    let (sent, attempt) = ask("good.brokered.test");
    assert_eq!(sent.len(), 1, "the control: {}", attempt.outcome);
    for manner in ["expired", "self-signed", "wrong-name", "unknown-ca"] {
        let flows = world.last_flow(&sandbox);
        let (sent, attempt) = ask(&format!("{manner}.brokered.test"));
        assert!(sent.is_empty(), "{manner}: {sent:?}");
        assert_ne!(attempt.outcome["status"], 200, "{manner}: {}", attempt.outcome);
        world.assert_refused(&sandbox, flows, "upstream_tls", &attempt.outcome);
    }
    sandbox.kill();
}

fn a_secret_is_sent_in_clear_to_nobody(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let sandbox = world.brokered();
    let place = world.rig.place();
    world.attempt(&sandbox, "user", "get('http://brokered.test/'+CANARY)");
    world.attempt(
        &sandbox,
        "user",
        "raw('brokered.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: brokered.test\\r\\n\\r\\n')",
    );
    for request in world.rig.requests(&place) {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }
    for packet in world.rig.packets(&place) {
        assert_eq!(memchr::memmem::find(&packet.bytes, value.as_bytes()), None);
    }
    // The control: over TLS it is sent.
    world.attempt(&sandbox, "user", "get('https://brokered.test/'+CANARY)");
    let sent = world.requests_for(&place, "brokered.test");
    assert!(sent.iter().any(|request| request.header("authorization").is_some()), "{sent:?}");
    sandbox.kill();
}

fn a_credential_of_the_guest_s_own_goes_nowhere_at_a_brokered_host(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let sandbox = world.brokered();
    let foreign = "get('https://HOST/upload', {'Authorization': 'Bearer attacker'}, \
        method='POST', data='x'*5000)";
    let place = world.rig.place();
    world.attempt(&sandbox, "user", &foreign.replace("HOST", "allowed.test"));
    let sent = world.requests_for(&place, "allowed.test");
    let given: Vec<_> = sent.iter().map(|request| request.header("authorization")).collect();
    assert_eq!(given, [Some("Bearer attacker")], "the control: it goes out elsewhere");
    let flows = world.last_flow(&sandbox);
    let place = world.rig.place();
    world.attempt(&sandbox, "user", &foreign.replace("HOST", "brokered.test"));
    let sent = world.requests_for(&place, "brokered.test");
    let given: Vec<_> = sent.iter().map(|request| request.header("authorization")).collect();
    assert_eq!(given, [Some(format!("Bearer {value}").as_str())]);
    // A path that the policy does not allow there is no way for it either.
    let place = world.rig.place();
    world.attempt(&sandbox, "user", &foreign.replace("HOST", "denied-path.brokered.test"));
    assert_eq!(world.requests_for(&place, "denied-path.brokered.test").len(), 0);
    // What went out is counted.
    wait::until("the request is in the flow log", PROMPT, || {
        let flows = world.flows(&sandbox, flows);
        let counted = |flow: &Value| {
            flow["event"] == "request"
                && flow["bytes_out"] == 5000
                && flow["credentials"] == json!([API])
        };
        if flows.iter().any(counted) { Ok(()) } else { Err(format!("{flows:?}")) }
    });
    sandbox.kill();
}

fn a_new_value_counts_at_the_next_request(world: &World) {
    let (old, new) = (world.value(), world.value());
    world.store(API, &old);
    let sandbox = world.brokered();
    let place = world.rig.place();
    world.attempt(&sandbox, "user", "get('https://brokered.test/')");
    world.store(API, &new);
    world.attempt(&sandbox, "user", "get('https://brokered.test/')");
    let sent = world.requests_for(&place, "brokered.test");
    let given: Vec<_> = sent.iter().filter_map(|request| request.header("authorization")).collect();
    assert_eq!(given, [format!("Bearer {old}"), format!("Bearer {new}")]);
    sandbox.kill();
}

fn a_deleted_secret_is_dead_at_once(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let sandbox = world.brokered();
    let token = sandbox.sh("printenv TOKEN").out();
    let place = world.rig.place();
    world.attempt(&sandbox, "user", "get('https://brokered.test/')");
    assert_eq!(world.requests_for(&place, "brokered.test").len(), 1, "the control");
    assert_eq!(world.introspect(&token).assert_status(200).json()["active"], true);
    let gone = world.server.call("DELETE", &format!("/secrets/{API}"), None);
    assert_eq!(gone.status, 204, "{}", gone.text());
    let deleted = Instant::now();
    let place = world.rig.place();
    let attempt = world.attempt(&sandbox, "user", "get('https://brokered.test/')");
    let exchanged =
        "get('https://exchange.test/', {'Authorization': 'Bearer ' + os.environ['TOKEN']})";
    world.attempt(&sandbox, "user", exchanged);
    assert!(!world.told(&place).contains(&value), "{}", world.told(&place));
    assert!(world.requests_for(&place, "brokered.test").is_empty(), "{}", attempt.outcome);
    assert_eq!(world.introspect(&token).assert_status(200).json()["active"], false);
    // A token dies with its sandbox.
    world.store(API, &value);
    let other = world.brokered();
    let token = other.sh("printenv TOKEN").out();
    assert_eq!(world.introspect(&token).assert_status(200).json()["active"], true);
    other.kill();
    let killed = Instant::now();
    assert_eq!(world.introspect(&token).assert_status(200).json()["active"], false);
    assert!(killed.elapsed() < DEAD && deleted.elapsed() < DEAD * 30);
    sandbox.kill();
}

fn a_repository_is_cloned_and_pushed_to_without_a_password_inside(world: &World) {
    let (_user, password) = &world.rig.world.credentials;
    world.rig.repository("private");
    world.store(API, &world.value());
    let sandbox = world.brokered();
    let refused = world.outside(
        "run('git clone -q https://git.test/git/private.git none', GIT_TERMINAL_PROMPT='0')",
    );
    assert_ne!(refused.outcome["code"], 0, "the control needs a password: {}", refused.outcome);
    let script = "cd /home/user && export GIT_TERMINAL_PROMPT=0 GIT_TRACE_CURL=/tmp/trace \
        GIT_TRACE=/tmp/trace && git clone -q https://git.test/git/private.git work && cd work && \
        cat file && echo more >> file && \
        git -c user.name=a -c user.email=a@a.test commit -qam more && git push -q && echo pushed";
    let outcome = sandbox.sh(script);
    assert_eq!(outcome.out(), "content\npushed", "{outcome:?}\n{}", outcome.err());
    let search = format!("grep -rlF '{password}' /home/user /tmp/trace /etc/gitconfig 2>/dev/null");
    assert_eq!(sandbox.root(&search).out(), "");
    assert_ne!(sandbox.root("grep -c . /tmp/trace").out(), "0", "the control: there is a trace");
    sandbox.kill();
}

fn no_secret_is_in_the_server_s_files_arguments_or_messages(world: &World) {
    let value = world.value();
    let part = value.split('"').next().expect("a text has a first part").to_owned();
    world.store(API, &value);
    let sandbox = world.brokered();
    world.attempt(&sandbox, "user", "get('https://brokered.test/echo/raw')");
    let found = |text: &str| {
        let mut command = std::process::Command::new("grep");
        command.args(["-rlaF", "--", text]).arg(&world.server.data);
        program::run(&mut command, b"", Duration::from_secs(60)).out()
    };
    assert_ne!(found(&sandbox.id), "", "the control: the sandbox's id is in its files");
    assert_eq!(found(&part), "");
    assert!(!world.server.log().contains(&part));
    let pid = world.server.pid().as_raw_nonzero();
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("the server runs");
        assert_eq!(memchr::memmem::find(&bytes, part.as_bytes()), None, "{file}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the server runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
    assert_eq!(words.get(4..6), Some(&["0", "0"][..]), "no core file ever: {core:?}");
    sandbox.kill();
}
