//! CodeCourier's own REST API, `/v1`.
//!
//! Every request body refuses unknown fields: a limit with a typing error in its name would
//! otherwise be a limit that is not there. Units stand last in the names.

mod execution;
mod info;
mod limits;
mod sandbox;

pub use execution::{
    CollectedFile, EndedBy, ExecutionAnswer, ExecutionEvent, ExecutionRequest, Output, SourceFile,
    StreamName, Timings,
};
pub use info::{Info, LimitRangeInfo};
pub use limits::LimitsBody;
pub use sandbox::{NewSandbox, Sandbox, SandboxList, SandboxPatch, SandboxState, UsageBody};
