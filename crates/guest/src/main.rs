//! The daemon inside every sandbox: commands, terminals, files.

mod context;
mod entry;
mod files;
mod filesystem;
mod http;
mod path;
mod router;
mod rpc;
mod user;

fn main() {}
