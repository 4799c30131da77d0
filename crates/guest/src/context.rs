//! What all requests share: who the sandbox is, who its users are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::init::Init;
use courier_types::{DEFAULT_USER, DEFAULT_WORKDIR};

use crate::build::{Mark, Own};
use crate::filesystem::Watches;
use crate::metrics::{Meter, Metrics};
use crate::process::Commands;
use crate::user::{Accounts, LookupError, User};

/// What the node told about the sandbox with its last `POST /init`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Environment of every command, below what the command itself sets.
    pub(crate) env_vars: BTreeMap<String, String>,
    /// The user of commands and files that name none.
    pub(crate) default_user: String,
    /// The working directory of commands that name none; empty for the user's home.
    pub(crate) default_workdir: String,
    /// What commands see as `E2B_SANDBOX_ID`.
    pub(crate) sandbox_id: String,
    /// What commands see as `E2B_TEMPLATE_ID`.
    pub(crate) template_id: String,
    /// Size of the writable disk in bytes; 0 where it is not known.
    pub(crate) disk_bytes: u64,
    /// What the daemon put into the file system for the node.
    pub(crate) own: Arc<Own>,
    /// Environment that makes programs trust the sandbox's own CA; below everything else.
    pub(crate) trust_vars: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            env_vars: BTreeMap::new(),
            default_user: DEFAULT_USER.to_owned(),
            default_workdir: DEFAULT_WORKDIR.to_owned(),
            sandbox_id: String::new(),
            template_id: String::new(),
            disk_bytes: 0,
            own: Arc::default(),
            trust_vars: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// What the node told, with the environment that came of installing its CA.
    pub(crate) fn new(init: Init, trust_vars: BTreeMap<String, String>) -> Self {
        Self {
            own: Arc::new(Own::new(&init.ca_bundle, &init.files)),
            trust_vars,
            env_vars: init.env_vars,
            default_user: init.default_user,
            default_workdir: init.default_workdir,
            sandbox_id: init.sandbox_id.as_str().to_owned(),
            template_id: init.template_id,
            disk_bytes: init.disk_bytes,
        }
    }
}

/// Shared by all requests of all epochs.
#[derive(Debug, Default)]
pub(crate) struct Context {
    settings: RwLock<Arc<Settings>>,
    accounts: Accounts,
    watches: Arc<Watches>,
    commands: Commands,
    meter: Meter,
    mark: Mark,
    path: String,
    root: Option<PathBuf>,
}

impl Context {
    /// A context whose users are those of `accounts`.
    pub(crate) fn new(accounts: Accounts) -> Self {
        Self { accounts, ..Self::default() }
    }

    /// The same with that `PATH` for commands.
    pub(crate) fn with_path(self, path: String) -> Self {
        Self { path, ..self }
    }

    /// The same for a root directory that is ours to prepare: without one (in tests, outside a
    /// sandbox) nothing is written.
    pub(crate) fn with_root(self, root: Option<PathBuf>) -> Self {
        Self { root, ..self }
    }

    /// The root directory that is ours to prepare.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        self.root.clone()
    }

    /// What the next layer is held against.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// `PATH` of commands that set none themselves.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What the sandbox uses now. Blocks for as long as reading `/proc` takes.
    pub(crate) fn metrics(&self) -> Metrics {
        self.meter.read(&self.settings())
    }

    /// The commands of the sandbox.
    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    /// The settings as they are now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what the node told.
    pub(crate) fn apply(&self, settings: Settings) {
        let settings = Arc::new(settings);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The users and groups of the sandbox.
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The watches of directories.
    pub(crate) fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// The user of that name, or the default one for none.
    ///
    /// # Errors
    /// No user has that name, or the accounts cannot be read.
    pub(crate) fn user(&self, name: Option<&str>) -> Result<User, LookupError> {
        match name.filter(|name| !name.is_empty()) {
            Some(name) => self.accounts.lookup(name),
            None => self.accounts.lookup(&self.settings().default_user),
        }
    }
}

impl From<LookupError> for ConnectError {
    fn from(error: LookupError) -> Self {
        let code = match error {
            LookupError::UnknownName { .. } | LookupError::UnknownUid { .. } => {
                Code::Unauthenticated
            }
            LookupError::Read { .. } => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
