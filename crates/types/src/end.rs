//! Why a sandbox ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a sandbox ended. One sandbox has exactly one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody asked for it.
    Requested,
    /// Its time was up; the node enforced it.
    Timeout,
    /// It ran out of its memory and the kernel inside died of it.
    Memory,
    /// The isolation process ended by itself (a crash, or somebody on the host killed it).
    Crashed,
    /// The guest daemon closed its channel, lied on it or did not answer in time.
    GuestLost,
    /// It was gone when the node came back.
    Lost,
    /// It never started.
    NeverStarted,
}

impl EndReason {
    /// The name on the wire and in the command line's output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Crashed => "crashed",
            Self::GuestLost => "guest_lost",
            Self::Lost => "lost",
            Self::NeverStarted => "never_started",
        }
    }

    /// True where the end is a failure to report as state `error`, false where it is plain `killed`.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Requested | Self::Timeout => false,
            Self::Memory | Self::Crashed | Self::GuestLost | Self::Lost | Self::NeverStarted => {
                true
            }
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
