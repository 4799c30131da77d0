//! Crashes: whatever is killed, whenever, what still runs is adopted, what does not is reaped, and
//! nothing is left behind.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use courier_tests::environment::Environment;
use courier_tests::http::Request;
use courier_tests::server::{Options, Server, courier, free_port};
use courier_tests::{host, program, suite, tests, wait};
use serde_json::json;

/// How often the server is killed at a random moment.
const ROUNDS: u64 = 8;
/// The latest moment, after the load began, at which it is killed.
const LATEST_MS: u64 = 1_500;
/// What is gone is noticed and reported within this.
const NOTICED: Duration = Duration::from_secs(10);

/// One server, killed and started again by every test.
struct World {
    server: Server,
}

impl World {
    fn make(environment: Environment) -> Self {
        Self { server: Server::start(&environment, Options::default()) }
    }

    /// Panics unless `courier doctor --leaks` finds nothing that nobody owns.
    #[track_caller]
    fn assert_no_leaks(&self) {
        let mut command = courier(&self.server.environment, &self.server.data);
        command.args(["doctor", "--leaks"]);
        program::run(&mut command, b"", Duration::from_secs(60)).assert_code(0);
    }

    /// Panics unless every sandbox that the server lists answers, and only those have processes.
    #[track_caller]
    fn assert_consistent(&self) {
        for id in self.server.running() {
            let connect = format!("/v2/sandboxes/{id}/connect");
            let answer = self.server.call("POST", &connect, Some(&json!({"timeout": 60})));
            let sandbox = courier_tests::sandbox::Sandbox::from_answer(
                &self.server,
                answer.assert_status(200),
            );
            assert_eq!(sandbox.sh("echo alive").out(), "alive");
        }
    }
}

/// Creates, uses and kills sandboxes until told to stop; errors are those of a dying server.
fn load(server: &Server, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let body = json!({"templateID": "base", "timeout": 120});
        let create = server.request("POST", "/v2/sandboxes").json(&body);
        let Ok(answer) = create.open(server.address).and_then(|answer| answer.whole()) else {
            continue;
        };
        if answer.status != 201 {
            continue;
        }
        let sandbox = courier_tests::sandbox::Sandbox::from_answer(server, &answer);
        drop(sandbox.sh_as("user", "echo alive"));
        let kill = server.request("DELETE", &format!("/sandboxes/{}", sandbox.id));
        drop(kill.open(server.address));
    }
}

fn a_server_killed_at_a_random_moment_loses_and_leaks_no_sandbox(world: &World) {
    let server = &world.server;
    let keeper = server.sandbox(300);
    keeper.write("kept.txt", b"kept");
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| load(server, &stop));
            scope.spawn(|| load(server, &stop));
            let random = std::fs::read("/proc/sys/kernel/random/uuid").expect("Linux has it");
            let moment: u64 = random.iter().map(|byte| u64::from(*byte) * 7919).sum();
            wait::pause(Duration::from_millis(moment % LATEST_MS));
            server.kill_9();
            stop.store(true, Ordering::Relaxed);
        });
        server.restart();
        world.assert_consistent();
        assert_eq!(keeper.read("kept.txt").text(), "kept", "round {round}");
    }
    server.kill_all();
    wait::until("no process is left", NOTICED, || {
        let left = std::fs::read_dir(server.data.join("launcher/sandboxes"))
            .map(|entries| entries.flatten().map(|e| e.file_name()).collect::<Vec<_>>());
        match left {
            Ok(left) if left.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    world.assert_no_leaks();
}

fn a_running_command_outlives_the_server_and_is_found_again(world: &World) {
    let sandbox = world.server.sandbox(300);
    sandbox.sh("nohup sleep 1000 > /dev/null 2>&1 & echo $! > pid").assert_ok();
    world.server.kill_9();
    world.server.restart();
    assert_eq!(sandbox.info().assert_status(200).json()["state"], "running");
    sandbox.sh("kill -0 $(cat pid)").assert_ok();
    let stopped = Instant::now();
    world.server.terminate();
    assert!(stopped.elapsed() < Duration::from_secs(30), "a drain with nothing in flight is quick");
    world.server.restart();
    sandbox.sh("kill -0 $(cat pid)").assert_ok();
    sandbox.kill();
    assert_eq!(host::processes_of(&sandbox.id), Vec::<i32>::new());
}

fn a_deadline_passes_while_the_server_is_down(world: &World) {
    let sandbox = world.server.sandbox(3);
    assert_ne!(host::processes_of(&sandbox.id), Vec::<i32>::new(), "the control finds them");
    world.server.kill_9();
    wait::until("the sandbox has no process", Duration::from_secs(15), || {
        let left = host::processes_of(&sandbox.id);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    world.server.restart();
    sandbox.info().assert_error(404, &sandbox.id);
    world.assert_no_leaks();
}

fn a_killed_launcher_takes_its_sandboxes_with_it_and_its_successor_serves_on(world: &World) {
    let server = &world.server;
    let sandbox = server.sandbox(300);
    let launcher = host::launcher_of(&server.data).expect("a launcher serves the sandboxes");
    let line = std::fs::read(format!("/proc/{launcher}/cmdline")).expect("it runs");
    host::kill_9(launcher);
    wait::until("the sandbox has no process", NOTICED, || {
        let left = host::processes_of(&sandbox.id);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    wait::until("the server says that it is gone", NOTICED, || {
        let status = sandbox.info().status;
        if status == 404 { Ok(()) } else { Err(status.to_string()) }
    });
    let started = Instant::now();
    let body = json!({"templateID": "base", "timeout": 60});
    let answer = server.call("POST", "/v2/sandboxes", Some(&body));
    assert!((500..600).contains(&answer.status), "{} {}", answer.status, answer.text());
    assert!(answer.text().contains("launcher"), "{}", answer.text());
    assert!(started.elapsed() < NOTICED, "an error that takes {:?}", started.elapsed());
    // What a service manager does; the server alone has not the rights.
    let line = String::from_utf8(line).expect("our own command line is text");
    let mut words = line.split_terminator('\0');
    let program = words.next().expect("a command line begins with a program");
    let mut next = Command::new(program).args(words).spawn().expect("it starts again");
    wait::until("the next sandbox is made", NOTICED, || {
        let answer = server.call("POST", "/v2/sandboxes", Some(&body));
        if answer.status == 201 { Ok(()) } else { Err(answer.text()) }
    });
    world.assert_consistent();
    server.kill_all();
    world.assert_no_leaks();
    host::end_launchers_below(&server.data);
    next.wait().expect("our child can be waited for");
    server.terminate();
    server.restart();
}

fn a_sandbox_whose_processes_are_killed_on_the_host_is_reported_and_reaped(world: &World) {
    let neighbour = world.server.sandbox(120);
    let sandbox = world.server.sandbox(120);
    for pid in host::processes_of(&sandbox.id) {
        host::kill_9(pid);
    }
    wait::until("the server says that it failed", NOTICED, || {
        let v1 = sandbox.v1().json();
        if v1["state"] == "error" { Ok(()) } else { Err(v1.to_string()) }
    });
    sandbox.info().assert_error(404, &sandbox.id);
    assert!(neighbour.heartbeat() < Duration::from_secs(5));
    neighbour.kill();
    world.assert_no_leaks();
}

fn a_request_in_flight_is_cut_off_when_its_sandbox_is_killed(world: &World) {
    let sandbox = world.server.sandbox(120);
    let started = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            started.store(true, Ordering::Release);
            sandbox.sh_as("user", "touch started; sleep 1000")
        });
        wait::until("the command runs", NOTICED, || {
            let status = sandbox.read("started").status;
            if status == 200 { Ok(()) } else { Err(status.to_string()) }
        });
        sandbox.kill();
        let outcome = waiting.join().expect("no panic");
        let unclean = outcome.as_ref().map_or(true, |o| o.end.is_null() && o.error.is_null());
        assert!(unclean, "the stream must be cut off, not ended: {outcome:?}");
    });
    // Gone is gone: again, and by the data plane.
    let again = world.server.call("DELETE", &format!("/sandboxes/{}", sandbox.id), None);
    again.assert_error(404, &sandbox.id);
    let health = sandbox.request("GET", "/health").send(world.server.address);
    health.assert_error(502, "was not found");
}

fn kill_works_while_the_sandbox_is_being_made(world: &World) {
    let before = world.server.running();
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let body = json!({"templateID": "base", "timeout": 60, "metadata": {"race": "1"}});
            world.server.call("POST", "/v2/sandboxes", Some(&body))
        });
        while !creating.is_finished() {
            let list = world.server.call("GET", "/v1/sandboxes", None).json();
            for sandbox in list["sandboxes"].as_array().into_iter().flatten() {
                let id = sandbox["id"].as_str().unwrap_or_default();
                if sandbox["metadata"]["race"] == "1" {
                    let status =
                        world.server.call("DELETE", &format!("/v1/sandboxes/{id}"), None).status;
                    assert!(matches!(status, 200 | 202 | 204 | 404 | 409), "{status}");
                }
            }
        }
        let answer = creating.join().expect("no panic");
        if answer.status == 201 {
            let id = answer.json()["sandboxID"].as_str().unwrap_or_default().to_owned();
            let status = world.server.call("DELETE", &format!("/sandboxes/{id}"), None).status;
            assert!(matches!(status, 204 | 404), "{status}");
        }
    });
    wait::until("only the others are left", NOTICED, || {
        let running = world.server.running();
        if running == before { Ok(()) } else { Err(format!("{running:?}")) }
    });
}

fn a_second_server_on_the_same_data_folder_refuses_to_start(world: &World) {
    let mut second = courier(&world.server.environment, &world.server.data);
    second.args(["serve", "--listen", &format!("127.0.0.1:{}", free_port())]);
    let ended = program::run(&mut second, b"", Duration::from_secs(30));
    assert_ne!(ended.code, Some(0));
    let message = ended.err();
    assert!(message.contains(&world.server.data.display().to_string()), "{message}");
    let health = Request::new("GET", "/health").send(world.server.address);
    assert!((200..300).contains(&health.status), "the first is untouched");
}

fn an_execution_in_flight_is_finished_before_the_server_ends(world: &World) {
    let server = &world.server;
    let body = json!({"language": "bash", "code": "sleep 2; echo done"});
    let before = server.running();
    std::thread::scope(|scope| {
        let executing = scope.spawn(|| server.call("POST", "/v1/executions", Some(&body)));
        wait::until("it runs", NOTICED, || {
            let running = server.running();
            if running.iter().any(|id| !before.contains(id)) {
                Ok(())
            } else {
                Err(running.join(" "))
            }
        });
        server.terminate();
        let answer = executing.join().expect("no panic");
        assert_eq!(answer.assert_status(200).json()["stdout"]["text"], "done\n");
    });
    server.restart();
    assert_eq!(server.running(), before);
}

fn nothing_that_nobody_owns_is_found_after_a_clean_stop(world: &World) {
    let sandbox = world.server.sandbox(60);
    sandbox.kill();
    world.server.terminate();
    world.assert_no_leaks();
    world.server.restart();
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            a_server_killed_at_a_random_moment_loses_and_leaks_no_sandbox,
            a_running_command_outlives_the_server_and_is_found_again,
            a_deadline_passes_while_the_server_is_down,
            a_killed_launcher_takes_its_sandboxes_with_it_and_its_successor_serves_on,
            a_sandbox_whose_processes_are_killed_on_the_host_is_reported_and_reaped,
            a_request_in_flight_is_cut_off_when_its_sandbox_is_killed,
            kill_works_while_the_sandbox_is_being_made,
            a_second_server_on_the_same_data_folder_refuses_to_start,
            an_execution_in_flight_is_finished_before_the_server_ends,
            nothing_that_nobody_owns_is_found_after_a_clean_stop,
        ],
    )
}
