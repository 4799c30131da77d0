//! What a step is known by in the cache: everything that its result depends on, as one hash.
//!
//! A key is a chain: it covers the key before it. So it covers the source, every step before, the
//! state that the step runs in, and for whom: what one project's credentials fetched is no other
//! one's to find, nor what it uploaded, which only a hash from a client names.

use courier_protocol::node::StepKind;
use courier_types::ProjectId;
use sha2::{Digest as _, Sha256};

use super::state::State;

/// Goes up when the meaning of a step changes, so that nothing old is found.
const VERSION: &str = "courier build 1";

/// A link of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) [u8; 32]);

/// A hash of fields, each with its length, so that no two lists of fields are one text.
struct Fields(Sha256);

impl Fields {
    fn new(kind: &str) -> Self {
        Self(Sha256::new()).add(VERSION).add(kind)
    }

    fn add(mut self, field: impl AsRef<[u8]>) -> Self {
        let field = field.as_ref();
        self.0.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(field);
        self
    }

    /// Absent and empty are two things.
    fn add_optional(self, field: Option<&str>) -> Self {
        match field {
            None => self.add("none"),
            Some(field) => self.add("some").add(field),
        }
    }

    fn key(self) -> Key {
        Key(self.0.finalize().into())
    }
}

impl Key {
    /// A source that is a list of layers, for a project.
    pub(super) fn of_layers<L: AsRef<[u8]>>(
        project: Option<&ProjectId>,
        layers: impl IntoIterator<Item = L>,
    ) -> Self {
        let fields = Fields::new("layers").add_optional(project.map(ProjectId::as_str));
        layers.into_iter().fold(fields, Fields::add).key()
    }

    /// An image file without layers, by what it is known by.
    pub(super) fn of_image_file(identity: &str) -> Self {
        Fields::new("image file").add(identity).key()
    }

    /// The hidden step after a registry's image.
    pub(super) fn provisioned(self, version: u32) -> Self {
        Fields::new("provision").add(self.0).add(version.to_le_bytes()).key()
    }

    /// A step that runs in a state.
    pub(super) fn step(self, step: &StepKind, state: &State) -> Self {
        let fields = Fields::new("step").add(self.0).add(&state.user).add(&state.workdir);
        let count = u64::try_from(state.env.len()).unwrap_or(u64::MAX);
        let fields =
            state.env.iter().fold(fields.add(count.to_le_bytes()), |fields, (name, value)| {
                fields.add(name).add(value)
            });
        match step {
            StepKind::Run { command, user } => {
                fields.add("RUN").add(command).add_optional(user.as_deref())
            }
            StepKind::Copy { source, destination, owner, mode, files } => fields
                .add("COPY")
                .add(source)
                .add(destination)
                .add_optional(owner.as_deref())
                .add_optional(mode.map(|mode| mode.to_string()).as_deref())
                .add(files),
            StepKind::Workdir(path) => fields.add("WORKDIR").add(path),
            StepKind::User(name) => fields.add("USER").add(name),
            StepKind::Env(pairs) => pairs
                .iter()
                .fold(fields.add("ENV"), |fields, (name, value)| fields.add(name).add(value)),
        }
        .key()
    }
}

#[cfg(test)]
mod tests {
    use courier_types::BuildConfig;

    use super::*;

    fn run(command: &str, user: Option<&str>) -> StepKind {
        StepKind::Run { command: command.to_owned(), user: user.map(str::to_owned) }
    }

    fn copy(files: &str, mode: Option<u32>) -> StepKind {
        StepKind::Copy {
            source: ".".to_owned(),
            destination: "/app".to_owned(),
            owner: None,
            mode,
            files: files.to_owned(),
        }
    }

    #[test]
    fn every_input_of_a_step_is_in_its_key_and_nothing_else() {
        let source = Key::of_layers(None, [[1; 32]]);
        let state = State::of(&BuildConfig::default());
        let mut other_user = state.clone();
        "root".clone_into(&mut other_user.user);
        let mut other_dir = state.clone();
        "/".clone_into(&mut other_dir.workdir);
        let mut other_env = state.clone();
        std::sync::Arc::make_mut(&mut other_env.env).insert("A".to_owned(), "1".to_owned());
        let project = ProjectId::from_random([1; ProjectId::RANDOM_BYTES]);
        let keys = [
            source.step(&run("make", None), &state),
            source.step(&run("make ", None), &state),
            source.step(&run("make", Some("")), &state),
            source.step(&run("make", Some("root")), &state),
            source.step(&run("make", None), &other_user),
            source.step(&run("make", None), &other_dir),
            source.step(&run("make", None), &other_env),
            source.step(&copy("00", None), &state),
            source.step(&copy("01", None), &state),
            source.step(&copy("00", Some(0o644)), &state),
            source.step(&StepKind::Workdir("make".to_owned()), &state),
            source.step(&StepKind::User("make".to_owned()), &state),
            source.provisioned(1).step(&run("make", None), &state),
            Key::of_layers(None, [[2; 32]]).step(&run("make", None), &state),
            Key::of_layers(Some(&project), [[1; 32]]).step(&run("make", None), &state),
        ];
        let unique: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len());
        assert_eq!(keys[0], source.step(&run("make", None), &state));
    }

    #[test]
    fn a_field_never_runs_into_the_next_one() {
        let key = |fields: &[&str]| fields.iter().fold(Fields::new("x"), Fields::add).key();
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
    }
}
