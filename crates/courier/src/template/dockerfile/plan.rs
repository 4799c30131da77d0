//! What a Dockerfile comes to: a base, steps, a start command.

/// What a build starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// An image of a registry, as the Dockerfile writes it.
    Image(String),
    /// A template: `NAME` or `NAME:TAG`.
    Template(String),
}

/// Where an instruction stands, and how it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Byte of the file.
    pub(crate) at: usize,
    /// Line, counted from 1.
    pub(crate) line: usize,
    /// Its first line.
    pub(crate) text: String,
}

/// A source of a COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopySource {
    /// A path or pattern in the context.
    Path {
        /// As Docker's patterns are.
        pattern: String,
        /// Where it stands in the Dockerfile.
        at: usize,
    },
    /// A here-document.
    Document {
        /// Its name.
        name: String,
        /// What is in it.
        content: String,
    },
}

/// Files to put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// From where.
    pub(crate) sources: Vec<CopySource>,
    /// Whereto.
    pub(crate) destination: String,
    /// `USER` or `USER:GROUP`.
    pub(crate) owner: Option<String>,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// ADD unpacks archives, which is not supported: it must meet none.
    pub(crate) is_add: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Runs a command line.
    Run(String),
    /// Puts files in place.
    Copy(Copy),
    /// Changes the current folder.
    Workdir(String),
    /// Changes the current user.
    User(String),
    /// Sets variables, in order.
    Env(Vec<(String, String)>),
}

/// A step, and the instruction that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedStep {
    /// The instruction.
    pub(crate) place: Place,
    /// What it does.
    pub(crate) action: Action,
}

/// Something that was read and does not count, or may not be what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Line, counted from 1.
    pub(crate) line: usize,
    /// For people.
    pub(crate) text: String,
}

/// What a Dockerfile comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What it starts from.
    pub(crate) base: Base,
    /// Where that is said.
    pub(crate) from: Place,
    /// What it does then.
    pub(crate) steps: Vec<PlannedStep>,
    /// What is started in every sandbox: from ENTRYPOINT and CMD.
    pub(crate) start: Option<String>,
    /// What people should know.
    pub(crate) notes: Vec<Note>,
}
