//! What sandboxes of a node without a server may reach: the same layers as a server would lay down,
//! without its secrets and tunnels.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use courier_egress::policy::{Compiled, covers};
use courier_protocol::node::{PRESET_SECRETS, Presets};
use courier_types::GuestFile;
use courier_types::egress::{Layer, LayerSource, Layers, Policy, SecretName};

/// What is put in force, and what presets bring along.
#[derive(Debug, Clone, Default)]
pub(crate) struct Granted {
    /// What decides.
    pub(crate) layers: Layers,
    /// Environment that presets want.
    pub(crate) env: BTreeMap<String, String>,
    /// Files that presets want.
    pub(crate) files: Vec<GuestFile>,
}

impl Granted {
    /// Under a template's bound, where there is one; without a word from either side nothing.
    ///
    /// # Errors
    /// A policy cannot be put in force here, or goes beyond the template's.
    pub(crate) async fn new(
        presets: &dyn Presets,
        template: Option<&Policy>,
        own: Option<&Policy>,
    ) -> anyhow::Result<Self> {
        let mut granted = Self::default();
        if let Some(template) = template {
            let policy = granted.resolve(presets, template.clone()).await;
            let policy = policy.context("the template's own egress policy cannot be used")?;
            granted.layers.0.push(Layer { source: LayerSource::Template, policy });
        }
        if let Some(own) = own {
            without_server(own)?;
            let policy = granted.resolve(presets, own.clone()).await?;
            if let Some(bound) = granted.layers.0.first() {
                covers(&bound.policy, &policy).context("the template does not allow that much")?;
            }
            granted.layers.0.push(Layer { source: LayerSource::Sandbox, policy });
        }
        Compiled::new(&granted.layers)?;
        Ok(granted)
    }

    /// Puts rules in the place of presets.
    async fn resolve(
        &mut self,
        presets: &dyn Presets,
        mut policy: Policy,
    ) -> anyhow::Result<Policy> {
        policy.check()?;
        for name in std::mem::take(&mut policy.presets) {
            let preset = presets.resolve(&name).await?;
            policy.rules.extend(preset.rules);
            policy.credentials.extend(preset.credentials);
            self.env.extend(preset.env);
            for file in preset.files {
                self.files.retain(|known| known.path != file.path);
                self.files.push(file);
            }
        }
        policy.check()?;
        Ok(policy)
    }
}

/// Refuses what only a server has.
fn without_server(policy: &Policy) -> anyhow::Result<()> {
    if let Some(name) = policy.tunnels.first() {
        bail!("tunnel {name} needs a server: start one with `courier serve`");
    }
    let secrets = policy.credentials.iter().flat_map(|credential| credential.injection.secrets());
    let secrets: Vec<&SecretName> = secrets.collect();
    if let Some(name) = secrets.iter().find(|name| name.as_str().starts_with(PRESET_SECRETS)) {
        bail!("secret {name}: names that begin with {PRESET_SECRETS:?} belong to presets");
    }
    if let Some(name) = secrets.first() {
        bail!("secret {name} needs a server, which keeps it: start one with `courier serve`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use courier_protocol::node::{PresetError, ResolvedPreset};
    use courier_types::egress::{PresetName, SecretValue};

    use super::*;

    /// One preset: a rule, a credential of its own, a variable and a file.
    struct Mirror;

    #[async_trait]
    impl Presets for Mirror {
        async fn resolve(&self, name: &PresetName) -> Result<ResolvedPreset, PresetError> {
            if name.as_str() != "pypi" {
                let known = vec!["pypi".parse().unwrap()];
                return Err(PresetError::Unknown { name: name.clone(), known });
            }
            Ok(ResolvedPreset {
                rules: policy(r#"{"rules":[{"allow":"mirror.test"}]}"#).rules,
                credentials: policy(
                    r#"{"credentials":[{"host":"mirror.test","secret":"preset.pypi","as":{"bearer":{}}}]}"#,
                )
                .credentials,
                env: [("PIP_INDEX_URL".to_owned(), "https://mirror.test".to_owned())].into(),
                files: vec![GuestFile { path: "/etc/pip.conf".into(), text: String::new() }],
            })
        }

        fn secret(&self, _name: &SecretName) -> Option<SecretValue> {
            None
        }
    }

    fn policy(text: &str) -> Policy {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn without_a_word_there_is_no_layer_and_a_preset_becomes_rules() {
        assert!(Granted::new(&Mirror, None, None).await.unwrap().layers.0.is_empty());
        let own = policy(r#"{"rules":[{"allow":"a.test"}],"presets":["pypi","pypi"]}"#);
        let granted = Granted::new(&Mirror, None, Some(&own)).await.unwrap();
        let [layer] = granted.layers.0.as_slice() else { panic!("{granted:?}") };
        assert!(layer.policy.presets.is_empty());
        assert_eq!(layer.policy.rules.len(), 3);
        assert_eq!((granted.env.len(), granted.files.len()), (1, 1));
    }

    #[tokio::test]
    async fn what_goes_beyond_the_template_or_needs_a_server_is_refused_with_its_name() {
        let template = policy(r#"{"rules":[{"allow":"a.test"}]}"#);
        let refused = async |own: &str| {
            let granted = Granted::new(&Mirror, Some(&template), Some(&policy(own))).await;
            format!("{:#}", granted.unwrap_err())
        };
        assert!(refused(r#"{"rules":[{"allow":"b.test"}]}"#).await.contains("b.test"));
        assert!(refused(r#"{"presets":["npm"]}"#).await.contains("there are: pypi"));
        assert!(refused(r#"{"tunnels":["db"]}"#).await.contains("tunnel db needs a server"));
        let with = |name: &str| {
            format!(
                r#"{{"credentials":[{{"host":"a.test","secret":"{name}","as":{{"bearer":{{}}}}}}]}}"#
            )
        };
        assert!(refused(&with("openai")).await.contains("secret openai needs a server"));
        assert!(refused(&with("preset.pypi")).await.contains("belong to presets"));
        let within = policy(r#"{"rules":[{"allow":"a.test","methods":["GET"]}]}"#);
        let granted = Granted::new(&Mirror, Some(&template), Some(&within)).await.unwrap();
        assert_eq!(granted.layers.0.len(), 2);
    }
}
