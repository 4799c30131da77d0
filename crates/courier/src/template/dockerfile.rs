//! Dockerfiles: text in, a plan for a build out, or an error with its place.
//!
//! Of Docker's format everything that a template can carry is read; the rest is refused or noted,
//! never dropped in silence (`docs/templates.md` has the list). Nothing here touches a file.

mod arguments;
mod commands;
mod convert;
mod expand;
mod files;
mod lines;
mod plan;
mod source;
mod variables;

pub(crate) use plan::{Action, Base, Copy, CopySource, Plan, PlannedStep};
pub(crate) use source::{DockerfileError, Fault, MAX_BYTES, Source};

/// Makes a plan of a Dockerfile. `given` is what `--build-arg` said, by name.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub(crate) fn parse(source: &Source, given: &[(String, String)]) -> Result<Plan, DockerfileError> {
    convert::convert(source, given).map_err(|fault| source.error(&fault))
}
