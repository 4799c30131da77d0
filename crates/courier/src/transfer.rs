//! Files across the boundary between a sandbox and the host.
//!
//! What comes out of a sandbox is hostile, its names first of all; see [`sink`].

pub(crate) mod download;
pub(crate) mod sink;
mod tree;
pub(crate) mod upload;
