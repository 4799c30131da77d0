//! Waiting for something outside this process: a condition, a deadline, and the last status.

use std::time::{Duration, Instant};

/// Pause between two looks. Short against every deadline here, long against a look's cost.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` gives a value; panics after `within` with what was last seen.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(status) if started.elapsed() > within => {
                panic!("{what}: not within {within:?}; last: {status}")
            }
            Err(_not_yet) => pause(PAUSE),
        }
    }
}

/// Does nothing for `span`: only for spans that are themselves the subject of a test (a sandbox's
/// time must pass) and between two looks at something that cannot call us.
#[expect(clippy::disallowed_methods, reason = "another process's state has nothing to await")]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}
