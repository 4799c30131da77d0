//! The node and its data plane against guests that are polite, hostile and dead. The guests are HTTP/2
//! servers in this process, at the other end of a real channel.

#![expect(clippy::unwrap_used, reason = "everything here is a test or its helper")]

mod build;
mod commands;
mod data_plane;
mod driver;
mod front;
mod guest;
mod hostile;
mod life;
mod network;
mod ports;
mod start;
