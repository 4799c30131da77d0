//! What sandboxes may reach: from what is asked to the layers that are in force, and back to the
//! secrets that they use.

mod env;
mod layers;
mod replace;
mod stored_secrets;

pub(crate) use env::{EnvError, EnvOrder};
pub(crate) use layers::{
    Asked, EgressError, Granted, Wish, check_ways, grant, grant_build, template_bound,
};
pub(crate) use replace::{Change, replace};
pub use stored_secrets::StoredSecrets;
pub(crate) use stored_secrets::hash_of;
