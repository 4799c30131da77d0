//! Typed client of the guest daemon, over any transport, and the one-shot execution of a snippet.
//!
//! What answers is hostile: every message, list and wait is bounded by a named constant, and
//! nothing that a guest says (a path, a name, a count) is used before it is checked.

mod body;
mod build;
mod error;
pub mod execution;
mod files;
pub mod glob;
pub mod language;
mod process;
mod rpc;
mod transport;
pub mod tree;

pub use body::{drain, empty, full};
pub use error::{ClientError, Fault, Refusal};
pub use files::{FileContent, WriteTarget};
pub use process::{Ended, Event, Events, Selector};
pub use transport::{NodeTransport, Transport, TransportError};

use std::sync::Arc;

/// A client of one sandbox's guest daemon. Cheap to clone.
#[derive(Clone)]
pub struct GuestClient {
    transport: Arc<dyn Transport>,
    user: Option<String>,
}

impl std::fmt::Debug for GuestClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestClient").field("user", &self.user).finish_non_exhaustive()
    }
}

impl GuestClient {
    /// A client that acts as the sandbox's default user.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, user: None }
    }

    /// The same, as another user of the sandbox.
    #[must_use]
    pub fn as_user(&self, user: Option<&str>) -> Self {
        Self { transport: Arc::clone(&self.transport), user: user.map(str::to_owned) }
    }
}
