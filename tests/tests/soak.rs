//! Sandboxes made, used and killed in a loop leave nothing behind: the suite's comparison of the
//! host with its baseline is the point. `cargo xtask soak --count N` makes more of them.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use courier_tests::environment::Environment;
use courier_tests::server::{Options, Server, courier};
use courier_tests::{program, suite, tests};

/// How many are made at once.
const AT_ONCE: usize = 4;
/// The server may hold so much more memory after the loop than after its first tenth.
const GROWTH_KIB: u64 = 48 * 1024;

fn resident_kib(server: &Server) -> u64 {
    let path = format!("/proc/{}/status", server.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).expect("the server runs");
    let line = text.lines().find(|line| line.starts_with("VmRSS")).expect("the kernel tells it");
    line.split_whitespace().nth(1).and_then(|figure| figure.parse().ok()).expect("a number")
}

fn descriptors(server: &Server) -> usize {
    let path = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
    std::fs::read_dir(path).expect("the server runs").count()
}

/// Makes, uses and kills `count` sandboxes, some at once.
fn turn(server: &Server, count: u32) {
    let left = AtomicU32::new(count);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let take = |left: u32| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let sandbox = server.sandbox(120);
                    assert_eq!(sandbox.sh("echo alive").out(), "alive");
                    sandbox.kill();
                }
            });
        }
    });
}

fn sandboxes_made_and_killed_in_a_loop_leave_nothing_behind(server: &Server) {
    let count = server.environment.soak_count;
    let started = Instant::now();
    turn(server, count.div_ceil(10));
    let (memory, open) = (resident_kib(server), descriptors(server));
    turn(server, count - count.div_ceil(10));
    println!("{count} sandboxes in {:.1} s", started.elapsed().as_secs_f64());
    let (memory_after, open_after) = (resident_kib(server), descriptors(server));
    assert!(memory_after < memory + GROWTH_KIB, "memory grew from {memory} to {memory_after} KiB");
    assert!(open_after <= open + AT_ONCE * 2, "descriptors grew from {open} to {open_after}");
    assert_eq!(server.running(), Vec::<String>::new());
    let mut doctor = courier(&server.environment, &server.data);
    doctor.args(["doctor", "--leaks"]);
    program::run(&mut doctor, b"", Duration::from_secs(60)).assert_code(0);
}

fn main() -> ExitCode {
    suite::run(
        |environment: Environment| Server::start(&environment, Options::default()),
        tests![sandboxes_made_and_killed_in_a_loop_leave_nothing_behind],
    )
}
