//! The envd protocol: Connect RPCs `process.Process` and `filesystem.Filesystem`, and a small HTTP
//! API beside them, all on guest port [`PORT`].
//!
//! Message structs carry both codecs: protobuf (prost; field numbers as in E2B's published
//! descriptors) and proto-JSON (serde). A `oneof` is a set of `Option` fields: on the wire the two
//! are the same.

pub mod build;
pub mod connect;
pub mod filesystem;
pub mod init;
mod json;
pub mod ports;
pub mod process;
pub mod signature;
pub mod volume;

/// The guest port that the envd protocol is addressed to. Nothing listens on it inside: the node
/// routes it to the guest daemon's channel.
pub const PORT: u16 = 49_983;

/// The envd version that we report: the newest SDKs gate features on it (a semver of at least this).
pub const VERSION: &str = "0.6.13";
