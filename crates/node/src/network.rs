//! What the networks of this node's sandboxes are made of, and how one comes up.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use courier_egress::{
    CredentialSource, FlowLog, HostSide, Network, NetworkError, Setup, SourceError,
};
use courier_protocol::node::{Secrets, SecretsError};
use courier_types::SandboxId;
use courier_types::egress::{NetworkSpec, SecretName, SecretValue};

use crate::tunnels::TunnelRegistry;

/// What the networks of a node's sandboxes share.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    host: Arc<HostSide>,
    source: Arc<dyn CredentialSource>,
    tunnels: TunnelRegistry,
}

impl NetworkConfig {
    /// Networks over the host's side of things. `secrets` is asked at each use of a credential.
    #[must_use]
    pub fn new(host: HostSide, secrets: Arc<dyn Secrets>) -> Self {
        let source = Arc::new(Source(secrets));
        Self { host: Arc::new(host), source, tunnels: TunnelRegistry::default() }
    }

    /// The same with private tunnels.
    #[must_use]
    pub fn with_tunnels(self, tunnels: TunnelRegistry) -> Self {
        Self { tunnels, ..self }
    }

    /// Puts a sandbox's policy in force and then serves its link.
    pub(crate) fn start(
        &self,
        link: OwnedFd,
        sandbox: SandboxId,
        (spec, flows): (NetworkSpec, FlowLog),
    ) -> Result<Network, NetworkError> {
        let source = Arc::clone(&self.source);
        let tunnels = self.tunnels.of(spec.project.as_ref());
        let host = Arc::clone(&self.host);
        Network::start(link, Setup { sandbox, spec, source, tunnels, host, flows })
    }

    /// Whether a network could be given that spec.
    pub(crate) fn check(&self, spec: &NetworkSpec) -> Result<(), NetworkError> {
        self.host.check(spec)
    }
}

/// The server's word, as the proxies ask for it.
struct Source(Arc<dyn Secrets>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

#[async_trait]
impl CredentialSource for Source {
    async fn secret(
        &self,
        sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SourceError> {
        self.0.secret(sandbox, name).await.map_err(source_error)
    }

    async fn token(
        &self,
        sandbox: &SandboxId,
        token: &str,
    ) -> Result<(SecretName, SecretValue), SourceError> {
        self.0.token(sandbox, token).await.map_err(source_error)
    }
}

fn source_error(error: SecretsError) -> SourceError {
    match error {
        SecretsError::NoSecret { name } => SourceError::NoSecret { name },
        SecretsError::NoToken => SourceError::NoToken,
        SecretsError::Unavailable(source) => SourceError::Unavailable(source),
    }
}
