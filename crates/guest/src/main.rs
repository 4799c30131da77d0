//! The daemon inside every sandbox: commands, terminals, files.

fn main() {}
