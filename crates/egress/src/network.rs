//! The network of one sandbox: everything on the link, under the policy that came with it.

mod context;

pub(crate) use context::Context;
