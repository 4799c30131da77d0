//! The contexts that there are, in the order of their making, and the default one of each language.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use crate::context::{self, Handle, RestartError};
use crate::kernel::{Spec, StartError};
use crate::language::{LANGUAGES, Language};

/// Contexts at one time. An idle kernel costs some 60 MB.
const MOST_CONTEXTS: usize = 64;

/// Where kernels are found and run.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// One folder for each kernel, with its `kernel.json`.
    pub(crate) kernels: PathBuf,
    /// Where contexts run that ask for no folder.
    pub(crate) cwd: PathBuf,
    /// Where kernels' sockets are.
    pub(crate) runtime: PathBuf,
    /// This process's environment, which kernels inherit.
    pub(crate) environment: Arc<BTreeMap<String, String>>,
}

/// A context, as the wire has it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Context {
    pub(crate) id: String,
    pub(crate) language: &'static str,
    pub(crate) cwd: String,
}

/// Why a context was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("there are {MOST_CONTEXTS} contexts already")]
    TooMany,
    #[error("cwd '{0}' is not a folder")]
    NoFolder(String),
    #[error("{0}")]
    Start(#[from] StartError),
}

/// A context that is not there.
#[derive(Debug, thiserror::Error)]
#[error("Context {0} not found")]
pub(crate) struct NotFound(pub(crate) String);

/// Why a context of a given id was not restarted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    #[error("{0}")]
    NotFound(#[from] NotFound),
    #[error("{0}")]
    Restart(#[from] RestartError),
}

struct Entry {
    context: Context,
    language: Language,
    kind: Kind,
    handle: Handle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Runs what names no context.
    Default,
    Asked,
}

#[derive(Default)]
struct Register {
    entries: Vec<Entry>,
    /// Contexts that are being made.
    starting: usize,
}

/// All contexts.
pub(crate) struct Contexts {
    setting: Setting,
    register: Mutex<Register>,
    /// Held while a language's default context is looked for and made.
    defaults: BTreeMap<Language, tokio::sync::Mutex<()>>,
    /// Whether the contexts that are there from the start are there.
    started: watch::Sender<bool>,
}

impl Contexts {
    pub(crate) fn new(setting: Setting) -> Self {
        let defaults =
            LANGUAGES.into_iter().map(|language| (language, Default::default())).collect();
        Self { setting, register: Mutex::default(), defaults, started: watch::Sender::new(false) }
    }

    /// Makes the default contexts that are there from the start, side by side.
    pub(crate) async fn start(&self) {
        let (python, javascript) =
            tokio::join!(self.default_of(Language::Python), self.default_of(Language::JavaScript));
        for (language, started) in [("python", python), ("javascript", javascript)] {
            if let Err(error) = started {
                tracing::warn!(language, "no default context: {error}");
            }
        }
        // Python is the first in lists, whichever was quicker.
        self.register().entries.sort_by_key(|entry| entry.language);
        self.started.send_replace(true);
    }

    /// Waits until [`Self::start`] is done. A kernel that does not start ends that wait too, within
    /// the time that kernels have.
    pub(crate) async fn started(&self) {
        let mut started = self.started.subscribe();
        // The sender lives as long as we do.
        let _never_closed = started.wait_for(|started| *started).await;
    }

    /// The context that runs what names only its language, made now if it was not needed before.
    pub(crate) async fn default_of(&self, language: Language) -> Result<Handle, CreateError> {
        let _made_once = match self.defaults.get(&language) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        let there = self.register().entries.iter().find_map(|entry| {
            (entry.kind == Kind::Default && entry.language == language)
                .then(|| entry.handle.clone())
        });
        match there {
            Some(handle) => Ok(handle),
            None => Ok(self.make(language, None, Kind::Default).await?.1),
        }
    }

    /// Makes a context that a client asked for.
    pub(crate) async fn create(
        &self,
        language: Language,
        cwd: Option<String>,
    ) -> Result<Context, CreateError> {
        self.started().await;
        Ok(self.make(language, cwd, Kind::Asked).await?.0)
    }

    async fn make(
        &self,
        language: Language,
        cwd: Option<String>,
        kind: Kind,
    ) -> Result<(Context, Handle), CreateError> {
        let cwd = cwd.map_or_else(|| self.setting.cwd.clone(), |cwd| self.setting.cwd.join(cwd));
        if !cwd.is_dir() {
            return Err(CreateError::NoFolder(cwd.to_string_lossy().into_owned()));
        }
        let _place = Place::take(&self.register)?;
        let context = Context {
            id: Uuid::new_v4().to_string(),
            language: language.name(),
            cwd: cwd.to_string_lossy().into_owned(),
        };
        let spec = Spec {
            file: self.setting.kernels.join(language.kernel()).join("kernel.json"),
            cwd,
            runtime: self.setting.runtime.clone(),
        };
        let environment = Arc::clone(&self.setting.environment);
        let handle = context::start(language, spec, environment).await?;
        let entry = Entry { context: context.clone(), language, kind, handle: handle.clone() };
        self.register().entries.push(entry);
        Ok((context, handle))
    }

    /// All contexts, the newest last.
    pub(crate) async fn list(&self) -> Vec<Context> {
        self.started().await;
        self.register().entries.iter().map(|entry| entry.context.clone()).collect()
    }

    /// The context of this id.
    pub(crate) fn find(&self, id: &str) -> Result<(Language, Handle), NotFound> {
        let register = self.register();
        let entry = register.entries.iter().find(|entry| entry.context.id == id);
        entry
            .map(|entry| (entry.language, entry.handle.clone()))
            .ok_or_else(|| NotFound(id.to_owned()))
    }

    /// Replaces a context's kernel.
    pub(crate) async fn restart(&self, id: &str) -> Result<(), ContextError> {
        let (_, handle) = self.find(id)?;
        Ok(handle.restart().await?)
    }

    /// Ends a context; what runs in it ends with an error.
    pub(crate) fn remove(&self, id: &str) -> Result<(), NotFound> {
        let mut register = self.register();
        let before = register.entries.len();
        register.entries.retain(|entry| entry.context.id != id);
        if register.entries.len() < before { Ok(()) } else { Err(NotFound(id.to_owned())) }
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the contexts, held while one is made.
struct Place<'a>(&'a Mutex<Register>);

impl<'a> Place<'a> {
    fn take(register: &'a Mutex<Register>) -> Result<Self, CreateError> {
        let mut locked = register.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.entries.len() + locked.starting >= MOST_CONTEXTS {
            return Err(CreateError::TooMany);
        }
        locked.starting += 1;
        Ok(Self(register))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).starting -= 1;
    }
}
