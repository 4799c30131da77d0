//! What a build says about the sandboxes that are made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The user of commands and files that name none, where a build says nothing else.
pub const DEFAULT_USER: &str = "user";

/// The working directory of commands that name none, where a build says nothing else.
pub const DEFAULT_WORKDIR: &str = "/home/user";

/// What a build says about the sandboxes made from it. It comes from the build's steps and is part
/// of the build: neither ever changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildConfig {
    /// The user of commands and files that name none.
    pub user: String,
    /// The working directory of commands that name none: absolute.
    pub workdir: String,
    /// Environment of every command, below what the sandbox's creator and the command set.
    pub env: BTreeMap<String, String>,
    /// Command line that is started in every sandbox before it counts as running, as that user, in
    /// that directory, by `/bin/bash -l -c`; it may go on for as long as the sandbox lives.
    pub start: Option<String>,
    /// Command line that is repeated, in the same way, until it succeeds: the sandbox runs then.
    pub ready: Option<String>,
}

impl Default for BuildConfig {
    fn default() -> Self {
        Self {
            user: DEFAULT_USER.to_owned(),
            workdir: DEFAULT_WORKDIR.to_owned(),
            env: BTreeMap::new(),
            start: None,
            ready: None,
        }
    }
}
