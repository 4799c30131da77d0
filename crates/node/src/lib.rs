//! The node: one task per sandbox, its deadlines, and the data-plane proxy.
//!
//! A node believes nothing that a guest says: every message, wait and queue is bounded. It decides
//! by `courier-lifecycle` and acts through a `courier-driver`; what it saw, it reports.

mod admission;
mod build;
mod config;
mod failure;
mod guest;
mod local;
mod network;
pub mod proxy;
mod registry;
mod reports;
mod sandbox;
mod tunnels;
mod volumes;

pub use admission::{Capacity, HostMemory, Load};
pub use build::{BuilderConfig, ImageOrder, Images, LocalBuilder, PulledImage, StoredBuilds};
pub use config::{BuildDir, Builds, Clock, NodeConfig, system_clock};
pub use local::{Guard, LocalNode};
pub use network::NetworkConfig;
pub use tunnels::{
    DialError, TargetError, TunnelRegistry, TunnelSpec, TunnelSpecError, TunnelTarget, TwoOfOneName,
};
