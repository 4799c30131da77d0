//! What a client asks of the daemon, and what it hears.

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::reaper::Exit;

/// Everything that a client says at once.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// What is to be done.
    pub(super) ask: Ask,
    /// Who asks.
    pub(super) caller: Caller,
}

/// Who asks, in their own words. Only names and variables depend on it, never rights.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Caller {
    /// Their environment: `NAME=value` each.
    pub(super) environment: Vec<Text>,
    /// Their user.
    pub(super) uid: u32,
    /// Their group.
    pub(super) gid: u32,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Run a command or a shell.
    Run(Run),
    /// Say what the caller may do, or where that command is.
    List(Vec<Text>),
    /// Say whether the caller may do anything.
    Validate,
}

/// What to run, for whom and how.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    /// Name, or number after `#`; root, or the caller where only a group is given.
    pub(super) user: Option<String>,
    /// Name, or number after `#`; the user's own.
    pub(super) group: Option<String>,
    /// Which of the caller's variables stay besides the usual ones.
    pub(super) preserve: Preserve,
    /// Whose `HOME`.
    pub(super) home: Home,
    /// A command or a shell.
    pub(super) mode: Mode,
    /// The client does not wait.
    pub(super) background: bool,
    /// Working directory, relative to the caller's.
    pub(super) folder: Option<Text>,
    /// Variables set on the command line: `NAME=value` each.
    pub(super) variables: Vec<Text>,
    /// The command and its arguments; empty for a shell alone.
    pub(super) command: Vec<Text>,
}

/// Which of the caller's variables stay besides the usual ones.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Preserve {
    /// These.
    Named(Vec<Text>),
    /// All but those by which a loader or shell would run something else.
    All,
}

impl Default for Preserve {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

/// Whose `HOME`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Home {
    /// The target's, unless the caller's is preserved.
    #[default]
    Usual,
    /// The target's.
    Target,
}

/// A command or a shell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    /// The command itself.
    #[default]
    Command,
    /// The caller's shell.
    Shell,
    /// The target's login shell, in their home.
    Login,
}

/// What a client hears.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The command runs.
    Started,
    /// It ended by itself with this code.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// There was nothing to run; this is the answer.
    Told {
        /// For standard output.
        text: String,
    },
    /// It was not run.
    Refused {
        /// For standard error.
        message: String,
        /// The client's exit code.
        status: u8,
    },
}

impl From<Exit> for Reply {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Exited(code),
            Exit::Signal(signal) => Self::Killed(signal),
        }
    }
}
