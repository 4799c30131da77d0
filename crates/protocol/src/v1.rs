//! CodeCourier's own REST API, `/v1`.
//!
//! Every request body refuses unknown fields: a limit with a typing error in its name would
//! otherwise be a limit that is not there. Units stand last in the names.

mod egress;
mod env;
mod execution;
mod info;
mod limits;
mod port;
mod sandbox;
#[cfg(feature = "openapi")]
pub mod schema;
mod secret;
mod template;
mod tunnel;

pub use egress::{Egress, FlowLine, FlowNotice, Proposal, Proxy};
pub use env::{EnvSecret, EnvValue, TOKEN_TTL_SECS_MAX};
pub use execution::{
    CollectedFile, EndedBy, ExecutionAnswer, ExecutionEvent, ExecutionRequest, Output, SourceFile,
    StreamName, Timings,
};
pub use info::{Info, LimitRangeInfo};
pub use limits::LimitsBody;
pub use port::{PORT_PROTOCOL, port_path};
pub use sandbox::{NewSandbox, Sandbox, SandboxList, SandboxPatch, SandboxState, UsageBody};
pub use secret::{NewSecret, Secret, SecretList, SecretValuePut, TokenAnswer, TokenQuestion};
pub use template::{TemplateConfig, TemplateDetail};
pub use tunnel::{
    CONNECTOR_PROTOCOL, TUNNEL_DOMAIN, TUNNEL_HEADER_BYTES, TUNNEL_STREAMS_MAX,
    TUNNEL_WINDOW_BYTES, TUNNEL_WINDOWS_BYTES, Tunnel, TunnelBy, TunnelList, connector_path,
};
