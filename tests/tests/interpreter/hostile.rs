//! Code that does not end, dies, or writes without measure, and clients that go away.

use std::time::{Duration, Instant};

use courier_tests::wait;
use serde_json::json;

use super::rig::{World, of, stdout, text};

/// What the official SDKs' own tests allow until code is interrupted.
const INTERRUPT: Duration = Duration::from_secs(5);
/// What they allow until a service is there again.
const BACK: Duration = Duration::from_secs(30);

pub(crate) fn code_stops_when_its_client_goes_away_and_its_state_stays(world: &World) {
    let interpreter = world.interpreter();
    for (language, code, check) in [
        ("python", "x = 42; print('go', flush=True)\nwhile True: pass", "x"),
        ("javascript", "var x = 42; console.log('go'); await new Promise(() => {})", "x"),
    ] {
        let running = interpreter.begin(&json!({"code": code, "language": language}));
        let gone = Instant::now();
        drop(running);
        let events = interpreter.execute(&json!({"code": check, "language": language}));
        assert_eq!(text(&events), "42", "{code}");
        assert!(gone.elapsed() < INTERRUPT, "{code}: {:?}", gone.elapsed());
    }
    for (language, code, check) in [
        ("bash", "x=42; echo go; while :; do :; done", "echo $x"),
        ("r", "x <- 42; cat('go\\n'); flush.console(); while (TRUE) {}", "cat(x)"),
    ] {
        let running = interpreter.begin(&json!({"code": code, "language": language}));
        let gone = Instant::now();
        drop(running);
        let events = interpreter.execute(&json!({"code": check, "language": language}));
        assert_eq!(stdout(&events).trim(), "42", "{code}");
        assert!(gone.elapsed() < INTERRUPT, "{code}: {:?}", gone.elapsed());
    }
}

pub(crate) fn code_that_ignores_interrupts_is_ended_with_its_kernel(world: &World) {
    let interpreter = world.interpreter();
    let stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n\
        print('go', flush=True)\nwhile True: pass";
    drop(interpreter.begin(&json!({"code": stubborn})));
    assert_eq!(interpreter.python("1 + 1"), "2");
}

pub(crate) fn a_kernel_that_dies_is_an_error_and_a_new_kernel(world: &World) {
    let interpreter = world.interpreter();
    for (language, code) in [("python", "import os; os._exit(1)"), ("js", "process.exit(1)")] {
        let events = interpreter.execute(&json!({"code": code, "language": language}));
        assert_eq!(of(&events, "error")[0]["name"], "ContextRestarting", "{language}");
        let events = interpreter.execute(&json!({"code": "1 + 1", "language": language}));
        assert_eq!(text(&events), "2", "{language}");
    }
}

pub(crate) fn a_hundred_megabytes_arrive(world: &World) {
    let interpreter = world.interpreter_with(&json!({"memoryMB": 2048}));
    let events = interpreter.execute(&json!({"code": "print('x' * 100_000_000)"}));
    assert!(of(&events, "error").is_empty());
    assert_eq!(stdout(&events).len(), 100_000_001);
    let many = "for _ in range(100_000): print('x' * 99)";
    let events = interpreter.execute(&json!({"code": many}));
    assert!(of(&events, "error").is_empty());
    assert_eq!(stdout(&events).len(), 10_000_000);
}

pub(crate) fn whatever_is_killed_inside_is_back_soon(world: &World) {
    let interpreter = world.interpreter();
    for victim in [
        // The process that serves, which is the newest of its name (of which Linux keeps 15
        // characters); that and the one that watches it; the kernels.
        "pkill -9 -n -x courier-interpr",
        "pkill -9 -x courier-interpr",
        "pkill -9 -f [i]pykernel_launcher; pkill -9 -f [k]ernel.js",
    ] {
        interpreter.sandbox.sh(victim).assert_ok();
        for language in ["python", "javascript"] {
            let body = json!({"code": "1 + 1", "language": language});
            wait::until("the interpreter is back", BACK, || {
                let answer = interpreter.request("POST", "/execute", Some(&body));
                let is_done = answer.status == 200 && answer.text().contains("\"text\":\"2\"");
                if is_done { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
            });
        }
    }
}

pub(crate) fn variables_go_even_when_the_client_goes(world: &World) {
    let interpreter = world.interpreter();
    let code = "import os; print('go', flush=True)\nwhile True: pass";
    drop(interpreter.begin(&json!({"code": code, "env_vars": {"OWN": "x"}})));
    assert_eq!(interpreter.python("os.environ.get('OWN', 'gone')"), "gone");
}

pub(crate) fn a_message_that_no_memory_holds_ends_no_service(world: &World) {
    let interpreter = world.interpreter();
    // The kernel's own sockets announce a frame of 32 TiB.
    let announce = "import os, socket\nprint('go', flush=True)\nfor fd in range(3, 100):\n    try:\n        \
        end = socket.socket(fileno=os.dup(fd))\n        end.getpeername()\n        \
        os.write(fd, b'\\x02' + (2 ** 45).to_bytes(8, 'big') + b'x' * 100)\n    \
        except OSError: pass";
    // Whether its answer comes to an end, is broken off or never comes is all the same. Where so much
    // memory can be reserved, only a client that goes away ends the wait for what was announced.
    let mut running = interpreter.begin(&json!({"code": announce}));
    while running.try_event().is_some_and(|event| event["type"] != "keepalive") {}
    drop(running);
    wait::until("the interpreter is back", BACK, || {
        let answer = interpreter.request("GET", "/health", None);
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    });
    assert_eq!(interpreter.python("1 + 1"), "2");
}
