//! The only part that needs root: sets up a sandbox's walls and execs the isolation technology.

fn main() {}
