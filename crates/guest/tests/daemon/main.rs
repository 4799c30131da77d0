//! The real daemon, as an ordinary process, over a real channel.

mod client;
mod commands;
mod epochs;
