//! The only SQL of CodeCourier: one SQLite file, its schema and its queries.
//!
//! One connection writes, in immediate transactions, so that no write ever fails because another
//! one is under way; a small pool of read-only connections reads. What a method has returned is on
//! disk (`synchronous=FULL`). The statements keep to what PostgreSQL understands too.

mod build_logs;
mod build_row;
mod build_writes;
mod builds;
mod connection;
mod error;
mod guest_tokens;
mod idempotency;
mod keys;
mod migrations;
mod networks;
mod row;
mod sandbox_row;
mod sandbox_writes;
mod sandboxes;
mod sealed;
mod secrets;
mod template_registration;
mod template_tags;
mod templates;
mod uploads;
mod volumes;

pub use build_logs::{BuildLogRow, LogDirection, LogLevelRow};
pub use build_row::{BuildReason, BuildRow, BuildState};
pub use build_writes::{BuildBounds, FinishedBuild, NewBuild, RequestedBuild, StartedBuild};
pub use builds::BuildKey;
pub use connection::Store;
pub use error::{OpenError, StoreError};
pub use guest_tokens::{LiveGuestToken, NewGuestToken, TokenHash};
pub use idempotency::{Idempotency, Insertion};
pub use keys::{ApiKeyRow, KeyHash, ProjectRow};
pub use migrations::SCHEMA_VERSION;
pub use networks::SecretClaims;
pub use sandbox_row::{NewSandboxRow, Purpose, SandboxRow, StoredSpec};
pub use sandbox_writes::{AliveLimit, Ended, StateReport};
pub use sandboxes::{PageOrder, PagePosition};
pub use sealed::Sealed;
pub use secrets::{SecretKey, SecretRow, SecretUpdate};
pub use template_registration::NewTemplate;
pub use template_tags::TagRow;
pub use templates::{DEFAULT_TAG, TemplateRow};
pub use uploads::{UploadBounds, UploadRow};
pub use volumes::{SandboxVolume, VolumeRow, VolumeState};
