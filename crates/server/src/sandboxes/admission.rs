//! What is checked before anything is made: a request becomes a [`CreateOrder`] or an error.

use std::collections::BTreeMap;
use std::time::Duration;

use courier_protocol::e2b::VolumeMount;
use courier_protocol::v1::{EnvValue, LimitsBody};
use courier_store::{BuildRow, NewGuestToken, ProjectRow, Purpose, StoreError, TemplateRow};
use courier_types::{Isolation, LimitError, Limits};

use super::SealedSpec;
use crate::app::App;
use crate::egress::{Asked, EgressError, EnvError, EnvOrder, Granted, grant, template_bound};
use crate::http::ApiError;
use crate::templates::{self, FindError, Found};
use crate::volumes::{self, VolumeError};

/// Most pairs of metadata, and of environment variables.
const PAIRS_MAX: usize = 512;

/// Most bytes of all keys and values of metadata, and of environment variables.
const PAIRS_BYTES_MAX: usize = 256 * 1024;

/// Most characters of an idempotency key.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Why a sandbox is not even tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmissionError {
    #[error(transparent)]
    Template(#[from] FindError),
    #[error("Timeout must be greater than 0")]
    TimeoutZero,
    #[error("Timeout cannot be greater than {}", hours(*max))]
    TimeoutTooLong { max: Duration },
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error("{what} has more than {PAIRS_MAX} entries or {PAIRS_BYTES_MAX} bytes")]
    TooManyPairs { what: &'static str },
    #[error("{name:?} is no name of an environment variable: it is empty or has '=' or NUL")]
    EnvName { name: String },
    #[error("the value of environment variable {name:?} has a NUL byte")]
    EnvValue { name: String },
    #[error("isolation {wanted} was asked for, sandboxes here have {actual}")]
    Isolation { wanted: Isolation, actual: Isolation },
    #[error("an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_MAX} characters of a-z, 0-9 and '-'")]
    IdempotencyKey,
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AdmissionError> for ApiError {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Template(error) => error.into(),
            AdmissionError::Isolation { .. } => Self::conflict(error.to_string()),
            AdmissionError::Env(error) => error.into(),
            AdmissionError::Egress(error) => error.into(),
            AdmissionError::Store(error) => error.into(),
            AdmissionError::TimeoutZero
            | AdmissionError::TimeoutTooLong { .. }
            | AdmissionError::Limit(_)
            | AdmissionError::TooManyPairs { .. }
            | AdmissionError::EnvName { .. }
            | AdmissionError::EnvValue { .. }
            | AdmissionError::IdempotencyKey => Self::bad_request(error.to_string()),
        }
    }
}

/// A span in hours, or in seconds where it is no whole number of them.
fn hours(span: Duration) -> String {
    match (span.as_secs() / 3_600, span.as_secs() % 3_600) {
        (hours, 0) => format!("{hours} hours"),
        (_, _) => format!("{} seconds", span.as_secs()),
    }
}

/// Whether the data plane of a sandbox wants a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataPlane {
    /// It does.
    Guarded,
    /// Whoever reaches the proxy may use it.
    Open,
}

/// The idempotency key of a request, checked.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey {
    /// The key.
    pub(crate) key: String,
    /// Hash of the request that it came with.
    pub(crate) request_hash: String,
}

impl IdempotencyKey {
    pub(crate) fn parse(key: &str, request_hash: String) -> Result<Self, AdmissionError> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX || !key.bytes().all(valid) {
            return Err(AdmissionError::IdempotencyKey);
        }
        Ok(Self { key: key.to_owned(), request_hash })
    }
}

/// A sandbox that may be made.
#[derive(Debug)]
pub(crate) struct CreateOrder {
    /// Whose it will be.
    pub(crate) project: ProjectRow,
    /// What it is there for.
    pub(crate) purpose: Purpose,
    /// Its template.
    pub(crate) template: TemplateRow,
    /// The build that it is made from, whatever its tag means later.
    pub(crate) build: BuildRow,
    /// The template as it was asked for.
    pub(crate) reference: String,
    pub(crate) limits: Limits,
    pub(crate) timeout: Duration,
    /// Environment, network and files.
    pub(crate) sealed: SealedSpec,
    /// Tokens in its environment.
    pub(crate) tokens: Vec<NewGuestToken>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) data_plane: DataPlane,
    pub(crate) idempotency: Option<IdempotencyKey>,
}

impl CreateOrder {
    /// An order for a sandbox of a template, with the template's limits and nothing else: nothing may
    /// be reached until [`Self::with_egress`] says what.
    pub(crate) async fn new(
        app: &App,
        project: &ProjectRow,
        template: &str,
        timeout: Duration,
    ) -> Result<Self, AdmissionError> {
        Self::of(app, project, templates::build(app, project, template).await?, timeout)
    }

    /// The same, of a template that was found already.
    pub(crate) fn of(
        app: &App,
        project: &ProjectRow,
        Found { reference, template, build }: Found,
        timeout: Duration,
    ) -> Result<Self, AdmissionError> {
        Ok(Self {
            project: project.clone(),
            purpose: Purpose::Client,
            reference: reference.to_string(),
            limits: build.limits,
            timeout: admit_timeout(app, timeout)?,
            template,
            sealed: SealedSpec { config: build.config.clone(), ..SealedSpec::default() },
            build,
            tokens: Vec::new(),
            metadata: BTreeMap::new(),
            data_plane: DataPlane::Guarded,
            idempotency: None,
        })
    }

    /// With these limits over the template's.
    pub(crate) fn with_limits(mut self, limits: LimitsBody) -> Result<Self, AdmissionError> {
        self.limits = limits.over(self.limits).try_into()?;
        Ok(self)
    }

    /// With this environment over that of presets, and with the tokens in it.
    pub(crate) async fn with_env(
        mut self,
        app: &App,
        env: BTreeMap<String, EnvValue>,
    ) -> Result<Self, AdmissionError> {
        let order = EnvOrder::new(app, &self.project.id, env).await?;
        check_env(&order.env)?;
        self.sealed.env.extend(order.env);
        self.tokens.extend(order.tokens);
        Ok(self)
    }

    /// With these volumes.
    pub(crate) async fn with_volumes(
        mut self,
        app: &App,
        asked: &[VolumeMount],
    ) -> Result<Self, VolumeError> {
        self.sealed.volumes = volumes::mounts(app, &self.project, asked).await?;
        Ok(self)
    }

    /// With this metadata.
    pub(crate) fn with_metadata(
        mut self,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, AdmissionError> {
        check_pairs("metadata", &metadata)?;
        self.metadata = metadata;
        Ok(self)
    }

    /// With what may be reached, under the template's bound.
    pub(crate) async fn with_egress(
        mut self,
        app: &App,
        asked: Asked,
    ) -> Result<Self, AdmissionError> {
        let project = &self.project.id;
        let bound = template_bound(app, project, self.build.egress.as_ref()).await?;
        let Granted { layers, mut env, files } = grant(app, project, bound, asked).await?;
        self.sealed.network.egress = layers;
        env.append(&mut self.sealed.env);
        (self.sealed.env, self.sealed.files) = (env, files);
        Ok(self)
    }

    /// Refuses where the sandboxes here have another isolation.
    pub(crate) fn require_isolation(
        self,
        app: &App,
        wanted: Option<Isolation>,
    ) -> Result<Self, AdmissionError> {
        let actual = app.node_info.isolation;
        match wanted {
            Some(wanted) if wanted != actual => Err(AdmissionError::Isolation { wanted, actual }),
            Some(_) | None => Ok(self),
        }
    }
}

/// Checks a lifetime against the operator's limit.
pub(crate) fn admit_timeout(app: &App, timeout: Duration) -> Result<Duration, AdmissionError> {
    let max = app.config.timeout_max;
    if timeout.is_zero() {
        Err(AdmissionError::TimeoutZero)
    } else if timeout > max {
        Err(AdmissionError::TimeoutTooLong { max })
    } else {
        Ok(timeout)
    }
}

fn check_pairs(what: &'static str, pairs: &BTreeMap<String, String>) -> Result<(), AdmissionError> {
    let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    if pairs.len() > PAIRS_MAX || bytes > PAIRS_BYTES_MAX {
        return Err(AdmissionError::TooManyPairs { what });
    }
    Ok(())
}

/// Checks an environment.
pub(crate) fn check_env(env: &BTreeMap<String, String>) -> Result<(), AdmissionError> {
    check_pairs("the environment", env)?;
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(AdmissionError::EnvName { name: name.chars().take(64).collect() });
        }
        if value.contains('\0') {
            return Err(AdmissionError::EnvValue { name: name.clone() });
        }
    }
    Ok(())
}
