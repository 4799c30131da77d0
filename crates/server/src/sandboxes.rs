//! What can be done with sandboxes, whichever API asks.

mod admission;
mod create;
mod deadline;
mod find;
mod kill;
mod log;
mod sealed_spec;

pub(crate) use admission::{
    AdmissionError, CreateOrder, DataPlane, IdempotencyKey, admit_timeout, check_env,
};
pub(crate) use create::{CreateError, IDEMPOTENCY_KEPT_FOR, create};
pub(crate) use deadline::{DeadlineChange, move_deadline};
pub(crate) use find::{find_any, find_made, find_usable};
pub(crate) use kill::{KillError, destroy, kill};
pub(crate) use log::{TimedEntry, log_entries};
pub(crate) use sealed_spec::{AskedNetwork, SealedSpec, SealedSpecError, secret_names};
