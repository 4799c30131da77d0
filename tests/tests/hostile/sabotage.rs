//! Breaking the sandbox from inside: it is the only one that suffers.

use std::time::Duration;

use courier_tests::{host, wait};

use crate::World;

/// A node notices that a guest daemon does not answer, or a kill is done, within this.
const NOTICED: Duration = Duration::from_secs(30);

/// A shell that is not stopped has long ended after this.
const STOPPED: Duration = Duration::from_secs(2);

pub(crate) fn deleting_everything_hurts_only_that_sandbox(world: &World) {
    let sandbox = world.server.sandbox(120);
    sandbox.root("test -x /usr/bin/python3").assert_ok();
    // The shell that does it is deleted as well; how it ends is its own business.
    drop(sandbox.sh_as("root", "rm -rf --no-preserve-root / 2>/dev/null; echo done"));
    let gone = sandbox.sh_as("root", "test -x /usr/bin/python3");
    let still = gone.is_ok_and(|outcome| outcome.end.is_object() && outcome.code() == 0);
    assert!(!still, "the control: it did delete");
    let text = std::fs::read_to_string(&world.canary_file).expect("the host's file is there");
    assert_eq!(text, world.canary);
    sandbox.kill();
    let fresh = world.server.sandbox(120);
    assert_eq!(fresh.sh("python3 -c 'print(6 * 7)'").out(), "42");
    fresh.kill();
}

pub(crate) fn killing_everything_inside_hurts_only_that_sandbox(world: &World) {
    let neighbour = world.server.sandbox(120);
    for (user, script) in [
        ("user", "kill -9 -1"),
        ("root", "kill -9 -1"),
        ("root", "for s in $(seq 1 64); do kill -$s 1 2>/dev/null; done"),
        ("root", "kill -9 1; kill -ABRT 1; echo b > /proc/sysrq-trigger; reboot -f"),
    ] {
        let sandbox = world.server.sandbox(120);
        sandbox.sh("sleep 1000 > /dev/null 2>&1 &").assert_ok();
        // It may take its own shell with it, or the whole sandbox.
        drop(sandbox.sh_as(user, script));
        wait::until("the sandbox answers, or is said to be gone", NOTICED, || {
            let lives = sandbox.sh_as("user", "echo alive").is_ok_and(|o| o.out() == "alive");
            let gone = sandbox.info().status == 404;
            if lives || gone { Ok(()) } else { Err(format!("after {script:?}: neither")) }
        });
        assert!(neighbour.heartbeat() < crate::HEARTBEAT, "after {script:?}");
        let status =
            world.server.call("DELETE", &format!("/sandboxes/{}", sandbox.id), None).status;
        assert!(matches!(status, 204 | 404), "after {script:?}: {status}");
    }
    neighbour.kill();
}

pub(crate) fn a_sandbox_whose_guest_daemon_is_stopped_can_still_be_killed(world: &World) {
    let sandbox = world.server.sandbox(120);
    let traces = host::traces_of(&sandbox.id, &world.server.data);
    assert!(traces.len() > 3, "the control finds what there is: {traces:?}");
    std::thread::scope(|scope| {
        // The shell stops itself last, and nobody is left to tell how it ended.
        let stopping = scope.spawn(|| sandbox.sh_as("root", "kill -STOP 1; kill -STOP -1"));
        wait::pause(STOPPED);
        assert!(!stopping.is_finished(), "the control: the daemon is stopped");
        let target = format!("/sandboxes/{}", sandbox.id);
        let status = world.server.call("DELETE", &target, None).status;
        assert!(matches!(status, 204 | 404), "{status}");
        drop(stopping.join());
    });
    wait::until("nothing is left of it", NOTICED, || {
        let left = host::traces_of(&sandbox.id, &world.server.data);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

pub(crate) fn the_guest_daemon_s_channel_is_out_of_reach_of_a_user(world: &World) {
    let sandbox = world.server.sandbox(120);
    // The control: the daemon has sockets, and root sees them.
    assert!(sandbox.root("ls -l /proc/1/fd").out().contains("socket:"));
    // A user opens nothing of the daemon's but /dev/null, which says nothing to anybody.
    let script = "for fd in /proc/1/fd/*; do case $(readlink $fd) in /dev/null) continue ;; esac; \
                  (exec 3> $fd) 2>/dev/null && echo wrote $fd; \
                  (exec 3< $fd) 2>/dev/null && echo read $fd; done; \
                  head -c 1 /proc/1/mem 2>/dev/null && echo memory; true";
    assert_eq!(sandbox.sh(script).out(), "");
    // What the daemon's environment holds is everybody's to know.
    let environment = sandbox.root("tr '\\0' '\\n' < /proc/1/environ | cut -d= -f1").out();
    assert!(environment.lines().all(|name| matches!(name, "PATH" | "HOME")), "{environment}");
    // A user's command has no descriptor of the daemon.
    let own = sandbox.sh("ls -l /proc/self/fd").out();
    assert!(!own.contains("socket:"), "{own}");
    assert!(sandbox.heartbeat() < crate::HEARTBEAT);
    sandbox.kill();
}
