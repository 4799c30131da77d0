//! What a sandbox is made with and nobody else may read: kept encrypted while it lives, because a
//! restarted server hands it to the node again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use courier_protocol::e2b::NetworkConfig;
use courier_store::{Sealed, StoreError, StoredSpec};
use courier_types::egress::{NetworkSpec, SecretName};
use courier_types::{BuildConfig, GuestFile, ProjectId, SandboxId, SandboxSpec, VolumeMount};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::app::App;
use crate::vault::{Place, UnsealError};

/// Why what is sealed of a sandbox is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealedSpecError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nothing is sealed of sandbox {id}: it has ended")]
    Gone { id: SandboxId },
    #[error("what is sealed of sandbox {id} cannot be opened")]
    Sealed { id: SandboxId, source: UnsealError },
    #[error("what is sealed of sandbox {id} is not what this version writes")]
    Content { id: SandboxId, source: serde_json::Error },
}

/// What is sealed.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedSpec {
    /// Environment of every command inside.
    pub(crate) env: BTreeMap<String, String>,
    /// What it may reach, and how it is reached.
    pub(crate) network: NetworkSpec,
    /// Files that are there before anything of the user's runs.
    pub(crate) files: Vec<GuestFile>,
    /// What its build says about its sandboxes.
    #[serde(default)]
    pub(crate) config: BuildConfig,
    /// Its volumes.
    #[serde(default)]
    pub(crate) volumes: Vec<VolumeMount>,
    /// How its network was asked for on E2B's wire, where it was.
    pub(crate) asked: AskedNetwork,
}

impl fmt::Debug for SealedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedSpec(…)")
    }
}

/// A network as it was asked for on E2B's wire, whose answers show it again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedNetwork {
    /// `network`, without the proxy's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<NetworkConfig>,
    /// `allow_internet_access`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) internet: Option<bool>,
}

impl SealedSpec {
    /// Encrypts it for its sandbox.
    pub(crate) fn seal(&self, app: &App, project: &ProjectId, id: &SandboxId) -> Sealed {
        let json =
            serde_json::to_vec(self).expect("maps with text keys and plain structs are JSON");
        app.vault.seal(Place::Sandbox { project, id }, &Zeroizing::new(json))
    }

    /// Reads what is sealed of a living sandbox.
    pub(crate) async fn read(
        app: &App,
        project: &ProjectId,
        id: &SandboxId,
    ) -> Result<Self, SealedSpecError> {
        let sealed = app.store.find_sealed(id).await?;
        let sealed = sealed.ok_or_else(|| SealedSpecError::Gone { id: id.clone() })?;
        let json = app
            .vault
            .unseal(Place::Sandbox { project, id }, &sealed)
            .map_err(|source| SealedSpecError::Sealed { id: id.clone(), source })?;
        serde_json::from_slice(&json)
            .map_err(|source| SealedSpecError::Content { id: id.clone(), source })
    }

    /// All that a node has to know.
    pub(crate) fn with(self, stored: &StoredSpec) -> SandboxSpec {
        SandboxSpec {
            id: stored.id.clone(),
            build: stored.build.clone(),
            limits: stored.limits,
            deadline: stored.deadline,
            env: self.env,
            access_token: stored.access_token.clone(),
            template: stored.template.clone(),
            network: self.network,
            files: self.files,
            config: self.config,
            volumes: self.volumes,
        }
    }
}

/// The secrets that a network's policy refers to, each once.
pub(crate) fn secret_names(network: &NetworkSpec) -> Vec<SecretName> {
    let layers = network.egress.0.iter();
    let names: BTreeSet<&SecretName> = layers
        .flat_map(|layer| &layer.policy.credentials)
        .flat_map(|credential| credential.injection.secrets())
        .collect();
    names.into_iter().cloned().collect()
}
