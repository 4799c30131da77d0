//! Presets and tunnels as an operator might have configured them.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use courier_protocol::node::{
    ByteStream, ConnectorError, OfferedTunnel, PresetError, Presets, ReserveError, ResolvedPreset,
    TunnelHub, TunnelKind, TunnelNames, TunnelSlot,
};
use courier_types::egress::{PresetName, SecretName, SecretValue, TunnelName};
use courier_types::{GuestFile, ProjectId};
use serde_json::json;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

/// The credential of the mirror behind preset `pypi`.
pub(crate) const MIRROR_PASSWORD: &str = "canary-of-the-mirror";

/// One preset, `pypi`, with a mirror that wants a credential.
pub(crate) struct FakePresets;

#[async_trait]
impl Presets for FakePresets {
    async fn resolve(&self, name: &PresetName) -> Result<ResolvedPreset, PresetError> {
        if name.as_str() != "pypi" {
            let known = vec!["pypi".parse().unwrap()];
            return Err(PresetError::Unknown { name: name.clone(), known });
        }
        let rule = json!({"allow": "mirror.test"});
        let credential = json!({"host": "mirror.test", "secret": "preset.pypi",
            "as": {"basic": {"username": "ci"}}});
        let (path, text) = ("/etc/pip.conf".to_owned(), "[global]\n".to_owned());
        Ok(ResolvedPreset {
            rules: vec![serde_json::from_value(rule).unwrap()],
            credentials: vec![serde_json::from_value(credential).unwrap()],
            env: [("PIP_INDEX_URL".to_owned(), "https://mirror.test/simple".to_owned())].into(),
            files: vec![GuestFile { path, text }],
        })
    }

    fn secret(&self, name: &SecretName) -> Option<SecretValue> {
        (name.as_str() == "preset.pypi").then(|| SecretValue::new(MIRROR_PASSWORD.into()))
    }
}

/// One tunnel, `db`, for everybody, and a hub that takes one connector of each other name. What it
/// took is served by sending back what comes.
#[derive(Clone, Default)]
pub(crate) struct FakeTunnels {
    /// Those that were taken: whose, name and port. None of them is given back while it is here.
    pub(crate) taken: Arc<Mutex<Vec<(ProjectId, TunnelName, u16)>>>,
}

impl TunnelNames for FakeTunnels {
    fn offered(&self, _project: &ProjectId) -> Vec<OfferedTunnel> {
        let name = "db".parse().unwrap();
        vec![OfferedTunnel { name, port: 5432, kind: TunnelKind::Node }]
    }
}

impl TunnelHub for FakeTunnels {
    fn reserve(
        &self,
        project: &ProjectId,
        name: &TunnelName,
        port: u16,
    ) -> Result<Box<dyn TunnelSlot>, ReserveError> {
        let mut taken = self.taken.lock().unwrap();
        match name.as_str() {
            "db" => return Err(ReserveError::Operators { name: name.clone() }),
            "full" => return Err(ReserveError::Full { limit: 1 }),
            _ if taken.iter().any(|(of, known, _)| (of, known) == (project, name)) => {
                return Err(ReserveError::Connected { name: name.clone() });
            }
            _ => {}
        }
        taken.push((project.clone(), name.clone(), port));
        Ok(Box::new(FakeSlot { hub: self.clone(), name: name.clone() }))
    }
}

/// A name that is taken of the fake hub.
struct FakeSlot {
    hub: FakeTunnels,
    name: TunnelName,
}

#[async_trait]
impl TunnelSlot for FakeSlot {
    async fn serve(self: Box<Self>, stream: Box<dyn ByteStream>) -> Result<(), ConnectorError> {
        let (mut read, mut write) = tokio::io::split(stream.compat());
        tokio::io::copy(&mut read, &mut write)
            .await
            .map(|_bytes| ())
            .map_err(|error| ConnectorError::Connection(error.into()))
    }
}

impl Drop for FakeSlot {
    fn drop(&mut self) {
        self.hub.taken.lock().unwrap().retain(|(_of, name, _port)| *name != self.name);
    }
}
