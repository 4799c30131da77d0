//! The class of boundary that a sandbox really has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The boundary around a sandbox, reported in every answer that shows one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// An application kernel of its own in user space (gVisor, systrap platform).
    Gvisor,
    /// A hardware-virtualised machine with a kernel of its own.
    Microvm,
    /// A machine under software emulation: for tests, not a security boundary.
    Emulated,
    /// No boundary at all: the in-memory fake of tests.
    Fake,
}

impl Isolation {
    /// The name on the wire and in the command line's output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gvisor => "gvisor",
            Self::Microvm => "microvm",
            Self::Emulated => "emulated",
            Self::Fake => "fake",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
