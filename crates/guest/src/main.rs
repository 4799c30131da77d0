//! The daemon inside every sandbox: commands, terminals, files.

mod user;

fn main() {}
