//! Looking for what belongs to the host or to others.

use std::net::{TcpListener, UdpSocket};

use courier_tests::sandbox::escape;
use serde_json::json;

use crate::World;

pub(crate) fn no_host_file_process_variable_or_path_is_visible_inside(world: &World) {
    let file = world.canary_file.display().to_string();
    let canary = world.reversed_canary();
    let outside = world.probe_on_host("scan.py", &[&canary, &file]);
    for place in ["/proc/*/environ", "path"] {
        let found = outside.as_array().is_some_and(|places| places.contains(&json!(place)));
        assert!(found, "the control found the canary only in {outside}, not in {place}");
    }
    let sandbox = world.server.sandbox(120);
    for user in ["user", "root"] {
        let inside =
            world.probe_inside(&sandbox, user, "scan.py", &format!("{canary} {file} --deep"));
        assert_eq!(inside, json!([]), "as {user}");
    }
    // The names of the host's own places are no one's business either.
    let data = world.server.data.display().to_string();
    for place in ["/proc/self/mountinfo", "/proc/self/cgroup", "/proc/cmdline", "/proc/1/environ"] {
        let text = sandbox.root(&format!("tr '\\0' '\\n' < {place}")).out();
        assert!(!text.contains(&data), "{place}: {text}");
    }
    sandbox.kill();
}

pub(crate) fn no_secret_of_the_sandbox_itself_is_visible_inside(world: &World) {
    let sandbox = world.server.sandbox(120);
    for secret in
        [sandbox.token.clone().expect("v2 sandboxes are secured"), world.server.key.clone()]
    {
        // The control: it is found where it is.
        sandbox.write("/home/user/planted.txt", secret.as_bytes());
        let reversed: String = secret.chars().rev().collect();
        let planted =
            world.probe_inside(&sandbox, "root", "scan.py", &format!("{reversed} --deep"));
        assert_eq!(planted, json!(["anywhere"]));
        sandbox.root("rm /home/user/planted.txt").assert_ok();
        let found = world.probe_inside(&sandbox, "root", "scan.py", &format!("{reversed} --deep"));
        assert_eq!(found, json!([]));
    }
    sandbox.kill();
}

pub(crate) fn the_inside_shows_the_sandbox_s_own_limits_and_processes(world: &World) {
    let sandbox = world.sandbox_with(&json!({"memory_mib": 256}));
    let outcome = sandbox.sh("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo");
    let memory: u64 = outcome.out().parse().expect("a number");
    assert!(memory <= 256, "the inside sees {memory} MiB");
    let names = sandbox.root("cat /proc/[0-9]*/comm").out();
    for name in ["runsc", "launcher", "systemd"] {
        assert!(!names.contains(name), "{names}");
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux has a host name");
    assert_ne!(sandbox.sh("hostname").out(), host.trim());
    sandbox.kill();
}

pub(crate) fn a_link_or_a_climbing_path_in_the_files_api_stays_inside(world: &World) {
    let sandbox = world.server.sandbox(120);
    let host = world.canary_file.display().to_string();
    assert!(std::fs::read_to_string(&host).is_ok(), "the control reads it outside");
    sandbox.sh(&format!("ln -s {host} direct; ln -s / root; ln -s loop loop")).assert_ok();
    let climbing = format!("{}{host}", "../".repeat(40));
    let through_proc = format!("/proc/1/root{host}");
    for path in [&host, "direct", &format!("root{host}"), &climbing, &through_proc, "loop"] {
        let answer = sandbox.read(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains(&world.canary), "{path}");
    }
    for path in ["%00", "a%00b", "%ff%fe", &"x".repeat(5_000), &escape(&"d/".repeat(5_000))] {
        let answer = sandbox.request("GET", &format!("/files?path={path}&username=user"));
        let answer = answer.send(world.server.address);
        assert!(matches!(answer.status, 400 | 404 | 414), "{path:.20}: {}", answer.status);
    }
    let answer = sandbox.call(
        "filesystem.Filesystem/Move",
        &json!({
            "source": "/home/user/direct", "destination": climbing,
        }),
    );
    assert!(answer.status == 200 || answer.status >= 400);
    let still = std::fs::read_to_string(&host).expect("the host's file is untouched");
    assert_eq!(still, world.canary);
    sandbox.kill();
}

pub(crate) fn a_pipe_a_device_or_an_endless_file_does_not_hang_the_files_api(world: &World) {
    let sandbox = world.server.sandbox(120);
    sandbox.sh("mkfifo pipe; truncate -s 1P sparse || truncate -s 1T sparse").assert_ok();
    for path in ["/home/user/pipe", "/dev/zero", "/dev/random", "/dev/tty"] {
        let answer = sandbox.read(path);
        assert!(answer.status >= 400, "{path}: {} {} bytes", answer.status, answer.body.len());
    }
    assert!(sandbox.heartbeat() < crate::HEARTBEAT);
    sandbox.kill();
}

pub(crate) fn what_one_sandbox_wrote_the_next_does_not_find(world: &World) {
    let first = world.server.sandbox(120);
    first.root(&format!(
        "for place in /root /usr/local /etc /var/tmp /home/user; do echo {} > $place/left-behind; done",
        world.canary
    ))
    .assert_ok();
    let found = first.root("cat /usr/local/left-behind");
    assert_eq!(found.out(), world.canary, "the control finds it where it was written");
    first.kill();
    let second = world.server.sandbox(120);
    let arguments = format!("{} /usr/local/left-behind --deep", world.reversed_canary());
    assert_eq!(world.probe_inside(&second, "root", "scan.py", &arguments), json!([]));
    second.kill();
}

pub(crate) fn nothing_but_loopback_can_be_reached_and_no_name_resolves(world: &World) {
    let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
    let datagrams = UdpSocket::bind(("0.0.0.0", 0)).expect("a port is free");
    datagrams.set_nonblocking(true).expect("a socket can be made so");
    let ports = [listener.local_addr(), datagrams.local_addr()].map(|a| a.expect("bound").port());
    let own: Vec<String> = own_address().into_iter().chain(["127.0.0.1".to_owned()]).collect();
    // The link's other end, a metadata service, private networks, the internet: only from inside.
    let others = ["192.0.0.1", "169.254.169.254", "10.0.2.2", "192.168.0.1", "8.8.8.8"];
    let others = others.map(str::to_owned);
    let code = |addresses: &[String]| {
        format!(
            r#"
import json, socket
outcome = {{}}
for address in {addresses:?}:
    try:
        socket.create_connection((address, {}), 2).close()
        outcome[address] = "reached"
    except OSError as error:
        outcome[address] = "refused"
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (address, {}))
    except OSError as error:
        pass
try:
    socket.getaddrinfo("example.com", 80)
    outcome["name"] = "resolved"
except OSError:
    outcome["name"] = "refused"
outcome["interfaces"] = sorted(name for _, name in socket.if_nameindex())
print(json.dumps(outcome))
"#,
            ports[0], ports[1]
        )
    };
    let outside = world.on_host(&code(&own));
    assert!(outside.out().contains(r#""127.0.0.1": "reached""#), "the control: {}", outside.out());
    let mut datagram = [0; 1];
    datagrams.recv(&mut datagram).expect("the control's datagram came");
    while datagrams.recv(&mut datagram).is_ok() {}
    let answer = world.execute(&code(&[&own[..], &others].concat()), &json!({}));
    let text = answer["stdout"]["text"].as_str().expect("text");
    let inside: serde_json::Value = serde_json::from_str(text).expect("the program prints JSON");
    for (what, outcome) in inside.as_object().expect("an object") {
        match what.as_str() {
            "interfaces" => assert_eq!(outcome, &json!(["eth0", "lo"])),
            _ => assert_eq!(outcome, "refused", "{what}"),
        }
    }
    let came = datagrams.recv(&mut datagram).expect_err("no datagram comes from inside");
    assert_eq!(came.kind(), std::io::ErrorKind::WouldBlock);
}

/// The address that this host would send from, where it has a network.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("203.0.113.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}
