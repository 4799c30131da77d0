//! The test internet itself: what the egress suite rests on. A decoy that does not answer, or a
//! packet that is not seen, would make every fence look whole.

use std::net::UdpSocket;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_tests::rig::journal::Event;
use courier_tests::rig::packet::Carried;
use courier_tests::rig::{HOST_SERVICE, Rig, USER};
use serde_json::Value;

fn rig() -> (tempfile::TempDir, Rig) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let rig = Rig::start(folder.path());
    rig.zone().address("allowed.test", &["93.184.216.10"]);
    (folder, rig)
}

#[track_caller]
fn got(outcome: &Value) -> String {
    assert_eq!(outcome["reached"], true, "{outcome}");
    outcome["got"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_packet_that_leaves_the_node_is_seen() {
    let (_folder, rig) = rig();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let place = rig.place();
    assert!(rig.packets(&place).is_empty(), "nothing was sent: {:?}", rig.packets(&place));
    socket.send_to(b"some bytes", "9.9.9.9:1234").unwrap();
    let packets = rig.packets(&place);
    let [packet] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!((packet.to, packet.port), ("9.9.9.9".parse().unwrap(), 1234));
    assert_eq!(packet.carried, Carried::Udp);
    assert!(packet.bytes.ends_with(b"some bytes"));
    assert!(rig.packets(&rig.place()).is_empty());
}

#[test]
fn every_address_answers_and_metadata_services_tell_their_canary() {
    let (_folder, rig) = rig();
    for address in ["93.184.216.10", "10.0.0.5", "100.64.0.1", "2606:2800::5", "fd00::5"] {
        assert!(got(&rig.control(&format!("dial('{address}', 80)"), "x")).contains("decoy"));
    }
    for address in ["169.254.169.254", "fd00:ec2::254"] {
        let told = got(&rig.control(&format!("dial('{address}', 80)"), "x"));
        assert!(told.contains(&rig.world.canary), "{told}");
    }
    let place = rig.place();
    assert!(got(&rig.control("dial('93.184.216.10', 22)", "x")).starts_with("SSH-2.0"));
    assert_eq!(got(&rig.control("dial('93.184.216.10', 9000, 'hi')", "x")), "hi");
    assert_eq!(rig.host_service_calls(&place), 0);
    let own = rig.control(&format!("dial('127.0.0.1', {HOST_SERVICE})"), "x");
    assert!(got(&own).contains("host"));
    assert_eq!(rig.host_service_calls(&place), 1);
}

#[test]
fn names_mean_what_a_test_says_and_questions_are_in_the_journal() {
    let (_folder, rig) = rig();
    rig.zone().turns("flip.test", 0, &[&["93.184.216.10"], &["10.0.0.5"]]);
    let place = rig.place();
    let asked = [(); 2].map(|()| rig.control("dns('flip.test')", "x")["addresses"].to_string());
    assert_eq!(asked, [r#"["93.184.216.10"]"#, r#"["10.0.0.5"]"#]);
    assert_eq!(rig.control("dns('unknown.test', tcp=True)", "x")["code"], 3);
    let questions = rig.events(&place).into_iter().filter_map(|event| match event {
        Event::Question { name, transport, .. } => Some(format!("{transport} {name}")),
        _other => None,
    });
    let questions: Vec<String> = questions.collect();
    assert_eq!(questions, ["udp flip.test.", "udp flip.test.", "tcp unknown.test."]);
}

#[test]
fn certificates_are_good_unless_the_name_asks_for_a_bad_one() {
    let (_folder, rig) = rig();
    rig.zone().address("*.allowed.test", &["93.184.216.10"]);
    let request = "'GET /x HTTP/1.0\\r\\nHost: a\\r\\n\\r\\n'";
    let outcome = |name: &str| rig.control(&format!("within('{name}', {request})"), "x");
    assert!(got(&outcome("allowed.test")).contains("decoy a"));
    for name in ["expired", "self-signed", "wrong-name", "unknown-ca"] {
        let outcome = outcome(&format!("{name}.allowed.test"));
        assert_eq!(outcome["reached"], false, "{name}");
        assert!(outcome["error"].as_str().unwrap().contains("CERTIFICATE_VERIFY"), "{outcome}");
    }
    let two = rig.control("coalesced('allowed.test', [('allowed.test', '/a', [])])", "x");
    assert_eq!(two["bodies"], "decoy allowed.test\n", "{two}");
    let versions: Vec<String> =
        rig.world.journal.requests(Default::default()).into_iter().map(|r| r.version).collect();
    assert_eq!(versions, ["HTTP/1.0", "HTTP/2.0"]);
}

#[test]
fn the_repository_can_be_cloned_and_pushed_to_with_the_password_only() {
    let (_folder, rig) = rig();
    rig.repository("private");
    let clone = |url: &str, to: &str| {
        let command = format!("git clone -q {url} {to} && cat {to}/file");
        rig.control(&format!("run('''{command}''', GIT_TERMINAL_PROMPT='0')"), "x")
    };
    let refused = clone("https://allowed.test/git/private.git", "one");
    assert_ne!(refused["code"], 0, "{refused}");
    let (user, password) = &rig.world.credentials;
    let url = format!("https://{user}:{password}@allowed.test/git/private.git");
    assert_eq!(got(&clone(&url, "two")), "content\n");
    let push = "cd two && echo more >> file && git -c user.name=a -c user.email=a@a.test \
        commit -qam more && git push -q && echo pushed";
    assert_eq!(got(&rig.control(&format!("run('''{push}''')"), "x")), "pushed\n");
    assert_eq!(got(&clone(&url, "three")), "content\nmore\n");
}

#[test]
fn web_sockets_and_socks_answer() {
    let (_folder, rig) = rig();
    assert_eq!(
        got(&rig.control("web_socket('http://allowed.test/websocket', 'hello')", "x")),
        "hello"
    );
    assert_eq!(
        got(&rig.control("web_socket('https://allowed.test/websocket', 'hello')", "x")),
        "hello"
    );
    let place = rig.place();
    let through = rig.control("socks('203.0.113.9', 1080, 'allowed.test', 80)", "x");
    assert!(got(&through).contains("decoy allowed.test"), "{through}");
    let (user, password) = &rig.world.credentials;
    assert_eq!(user, USER);
    let curl = format!(
        "run('curl -sS -m 5 --socks5-hostname 203.0.113.9 -U {user}:{password} http://allowed.test/')"
    );
    assert_eq!(got(&rig.control(&curl, "x")), "decoy allowed.test\n");
    let users: Vec<String> = rig
        .events(&place)
        .into_iter()
        .filter_map(|event| match event {
            Event::Socks { user, target, .. } => Some(format!("{user} {target}")),
            _other => None,
        })
        .collect();
    assert_eq!(users, [" allowed.test:80", &format!("{user} allowed.test:80")]);
    let wrong = curl.replace(password, "wrong");
    assert_ne!(rig.control(&wrong, "x")["code"], 0);
}

#[test]
fn an_echo_hides_a_credential_in_the_form_that_was_asked_for() {
    let (_folder, rig) = rig();
    let echo = |form: &str| {
        got(&rig.control(
            &format!(
                "get('http://allowed.test/echo/{form}', {{'Authorization': 'Bearer s3cret'}})"
            ),
            "x",
        ))
    };
    assert!(echo("raw").contains("authorization: Bearer s3cret"));
    assert!(echo("chunked").contains("authorization: Bearer s3cret"));
    assert!(echo("percent").contains("Bearer%20s3cret"));
    assert_eq!(STANDARD.decode(echo("credential-base64")).unwrap(), b"Bearer s3cret");
    let whole: Value = serde_json::from_str(&echo("json-escaped")).unwrap();
    assert!(whole.as_str().unwrap().contains("Bearer s3cret"));
}
