//! Presets and tunnels as an operator might have configured them.

use courier_protocol::node::{OfferedTunnel, PresetError, Presets, ResolvedPreset, TunnelNames};
use courier_types::egress::{PresetName, SecretName, SecretValue};
use courier_types::{GuestFile, ProjectId};
use serde_json::json;

/// The credential of the mirror behind preset `pypi`.
pub(crate) const MIRROR_PASSWORD: &str = "canary-of-the-mirror";

/// One preset, `pypi`, with a mirror that wants a credential.
pub(crate) struct FakePresets;

impl Presets for FakePresets {
    fn resolve(&self, name: &PresetName) -> Result<ResolvedPreset, PresetError> {
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

/// One tunnel, `db`, for everybody.
pub(crate) struct FakeTunnels;

impl TunnelNames for FakeTunnels {
    fn offered(&self, _project: &ProjectId) -> Vec<OfferedTunnel> {
        vec![OfferedTunnel { name: "db".parse().unwrap(), port: 5432 }]
    }
}
