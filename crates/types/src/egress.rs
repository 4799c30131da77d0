//! What a sandbox may reach, and what was seen of its reaching: the nouns of egress.
//!
//! A value that exists is valid and canonical. There is one type for host names ([`HostName`]); what
//! is decided is a value of it, and so is what is dialled and what is logged.

mod credential;
mod explain;
mod flow;
mod host;
mod names;
mod network;
mod object;
mod policy;
mod secret;
mod token;

pub use credential::{Credential, CredentialError, Injection, Template, TemplatePart};
pub use explain::{ExplainRequest, ExplainStep, Explanation};
pub use flow::{Flow, FlowEvent, FlowPage, FlowRefusal, Transport};
pub use host::{HostError, HostName, HostPattern};
pub use names::{NameError, PresetName, SecretName, TunnelName};
pub use network::{NetworkSpec, ProxyTls, UpstreamProxy};
pub use policy::{
    Action, Destination, Layer, LayerSource, Layers, Method, PathPattern, Policy, PolicyError,
    PortRange, Protocol, Rule,
};
pub use secret::SecretValue;
pub use token::{GuestToken, GuestTokenError};
