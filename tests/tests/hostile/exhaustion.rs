//! Taking more than one's share: processes, memory, disk, output, files, time.

use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::{Value, json};

use crate::World;

/// How much more memory the server may have held at its highest than before a flood.
const SERVER_GROWTH_KIB: u64 = 64 * 1024;

/// A figure of `/proc/PID/status`, in KiB.
fn status_kib(pid: Pid, name: &str) -> u64 {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).expect("the server runs");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the kernel tells it");
    let figure = line.split_whitespace().nth(1).expect("a line has a figure");
    figure.parse().expect("a figure is a number")
}

fn text(answer: &Value) -> &str {
    answer["stdout"]["text"].as_str().unwrap_or_default()
}

pub(crate) fn a_fork_bomb_ends_at_the_limit_of_processes(world: &World) {
    // Bounded, so that it is harmless outside; there it makes all its children.
    let bounded = "import os, signal\nchildren = []\n\
        try:\n    for _ in range(200):\n        child = os.fork()\n\
        \x20       if child == 0: signal.pause()\n        children.append(child)\n\
        except OSError as error: print(error.strerror)\n\
        print(len(children))\nfor child in children: os.kill(child, 9)";
    assert_eq!(world.on_host(bounded).out().trim(), "200", "the control makes them all");
    let answer = world.execute(bounded, &json!({"pids": 64}));
    assert!(text(&answer).contains("Resource temporarily unavailable"), "{answer}");
    world.beside_a_neighbour(|| {
        let sandbox = world.sandbox_with(&json!({"pids": 128}));
        // The real one, in the background: it never ends by itself.
        sandbox
            .sh("bomb() { bomb | bomb & }; (bomb) > /dev/null 2>&1 & disown; exit 0")
            .assert_ok();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(3) {
            // The user's processes are used up; the guest daemon and root's commands are not.
            let outcome = sandbox.root("echo alive");
            assert_eq!(outcome.out(), "alive", "{outcome:?}");
        }
        sandbox.kill();
    });
}

pub(crate) fn a_memory_bomb_ends_with_killed_memory(world: &World) {
    let bounded = "x = bytearray(b'x') * (400 << 20); print(len(x))";
    assert_eq!(world.on_host(bounded).out().trim(), "419430400", "the control has room");
    let limits = json!({"memory_mib": 128});
    let answer = world.beside_a_neighbour(|| world.execute(bounded, &limits));
    assert_eq!(answer["ended"], "memory", "{answer}");
    assert!(!text(&answer).contains("419430400"));
    let endless = "x = []\nwhile True: x.append(bytearray(b'x') * (1 << 20))";
    let answer = world.beside_a_neighbour(|| world.execute(endless, &limits));
    assert_eq!(answer["ended"], "memory", "{answer}");
    let peak = answer["usage"]["memory_peak_bytes"].as_u64().unwrap_or(0);
    assert!(peak > 64 << 20, "the bomb went off: {answer}");
    assert!(peak < 256 << 20, "beyond the cap: {answer}");
}

pub(crate) fn a_disk_filler_ends_at_the_limit_of_the_disk(world: &World) {
    let code = "import os\nwritten = 0\ntry:\n    with open('filler', 'wb', 0) as file:\n\
        \x20       while written < 200 << 20: written += file.write(b'x' * (1 << 20))\n\
        except OSError as error: print(error.strerror)\n\
        print(written >> 20)\nos.unlink('filler')";
    assert_eq!(world.on_host(code).out().trim(), "200", "the control has room");
    let answer = world.beside_a_neighbour(|| world.execute(code, &json!({"disk_mib": 64})));
    assert!(text(&answer).contains("No space left on device"), "{answer}");
    let written: u64 = text(&answer).lines().last().unwrap_or("").parse().expect("a number");
    assert!(written <= 64, "{written} MiB on a disk of 64");
}

pub(crate) fn an_output_flood_is_cut_with_a_flag_and_costs_the_server_little(world: &World) {
    let code = "import sys\nfor _ in range(512): sys.stdout.write('x' * (1 << 20))";
    let pid = world.server.pid();
    let before = status_kib(pid, "VmRSS");
    let answer = world.beside_a_neighbour(|| world.execute(code, &json!({})));
    assert_eq!(answer["stdout"]["truncated"], true, "{}", answer["ended"]);
    let kept = text(&answer).len();
    assert!((1..=2 << 20).contains(&kept), "{kept} bytes were kept");
    let peak = status_kib(pid, "VmHWM");
    assert!(peak < before + SERVER_GROWTH_KIB, "the server grew from {before} to {peak} KiB");
    // The control: less than the bound is not cut.
    let answer = world.execute("print('x' * 1000)", &json!({}));
    assert_eq!(answer["stdout"]["truncated"], false);
}

pub(crate) fn a_program_that_opens_files_without_end_ends_at_the_limit(world: &World) {
    let code = "files = []\ntry:\n    for _ in range(500): files.append(open('/dev/null'))\n\
        except OSError as error: print(error.strerror)\nprint(len(files))";
    assert_eq!(world.on_host(code).out().trim(), "500", "the control opens them all");
    let answer = world.execute(code, &json!({"open_files": 128}));
    assert!(text(&answer).contains("Too many open files"), "{answer}");
}

pub(crate) fn a_program_that_spins_on_every_core_gets_only_its_share(world: &World) {
    let spin = |cpu_millis: u64| {
        let body = json!({
            "language": "bash",
            "code": "(while :; do :; done) & (while :; do :; done) & sleep 3; kill %1 %2",
            "limits": {"cpu_millis": cpu_millis},
        });
        let answer = world.server.call("POST", "/v1/executions", Some(&body));
        let answer = answer.assert_status(200).json();
        let used = answer["usage"]["cpu_micros"].as_f64().expect("usage is told");
        let wall = answer["timings"]["run_ms"].as_f64().expect("timings are told");
        used / (wall * 1000.0)
    };
    // The share is of the time from the start on; starting itself takes some, uncapped or not.
    let free = spin(2_000);
    assert!(free > 0.8, "the control: uncapped, it takes {free} cores");
    let capped = world.beside_a_neighbour(|| spin(400));
    assert!(capped < 0.6, "capped at 0.4 cores, it took {capped}");
}

pub(crate) fn a_program_that_never_ends_is_ended_by_its_timeout(world: &World) {
    let body = json!({
        "language": "bash", "code": "echo begun; trap '' TERM; sleep 1000", "timeout_ms": 1500,
    });
    let started = Instant::now();
    let answer = world.server.call("POST", "/v1/executions", Some(&body));
    let answer = answer.assert_status(200).json();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(answer["ended"], "timeout", "{answer}");
    assert_eq!(text(&answer), "begun\n");
}
