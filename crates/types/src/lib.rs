//! The nouns of CodeCourier: typed ids, states, specs and limits.
//!
//! Nothing here does I/O, reads a clock, awaits or logs. A value that exists is valid: parsing
//! happens in the constructors, at the edge, and nowhere else.

mod build;
pub mod egress;
mod end;
mod id;
mod isolation;
mod limits;
pub mod link;
mod sandbox;
mod secret;
mod time;
mod volume;

pub use build::{BuildConfig, BuildId, DEFAULT_USER, DEFAULT_WORKDIR};
pub use end::EndReason;
pub use id::{
    ApiKeyId, ExecutionId, IdError, ProjectId, SandboxId, SecretId, TemplateId, VolumeId,
};
pub use isolation::Isolation;
pub use limits::{LimitError, LimitRange, Limits, LimitsRequest};
pub use sandbox::{DesiredState, Generation, GuestFile, ObservedState, SandboxSpec, Usage};
pub use secret::AccessToken;
pub use time::{DurationMs, Timestamp};
pub use volume::{MountPath, MountPathError, VOLUMES_MAX, VolumeMount};
