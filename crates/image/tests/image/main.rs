//! The store and its images from outside: what goes in as layers, and what readers of the image see.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "everything here is a test or its helper"
)]

mod garbage;
mod hostile;
mod kernel;
mod layers;
mod merge;
mod model;
mod processes;
mod read_back;
mod rig;
mod store;
