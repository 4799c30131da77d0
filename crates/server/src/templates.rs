//! Templates, whichever API asks: finding what a reference means, and forgetting.

mod delete;
mod find;

pub(crate) use delete::delete;
pub(crate) use find::{
    FindError, Found, build, check_namespace, installed, owned, parse, template,
};
