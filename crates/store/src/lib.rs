//! The only SQL of CodeCourier: one SQLite file, its schema and its queries.
//!
//! One connection writes, in immediate transactions, so that no write ever fails because another
//! one is under way; a small pool of read-only connections reads. What a method has returned is on
//! disk (`synchronous=FULL`). The statements keep to what PostgreSQL understands too.

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
mod templates;

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
pub use templates::{NewTemplate, TemplateRow};
