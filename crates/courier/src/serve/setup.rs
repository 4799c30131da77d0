//! What the database must hold before the server starts: a project, a key, the templates.

use std::time::SystemTime;

use courier_server::{ensure_default_project, issue_api_key};
use courier_store::{KeyHash, NewTemplate, Store};
use courier_types::BuildId;
use sha2::{Digest as _, Sha256};

use crate::folder::{self, Folder};
use crate::template::Template;

/// Name of the key that the first start makes.
const KEY_NAME: &str = "first";

/// Opens the database and completes it. Returns the API key where it was made just now.
pub(crate) async fn store(
    folder: &Folder,
    templates: &[Template],
) -> anyhow::Result<(Store, Option<String>)> {
    let store = Store::open(&folder.database()).await?;
    for template in templates {
        store.register_template(&registered(template), SystemTime::now().into()).await?;
    }
    let project = ensure_default_project(&store).await?;
    if let Some(key) = folder.read_api_key()? {
        let hash = KeyHash::new(Sha256::digest(key.as_bytes()).into());
        if store.project_of_key(&hash).await?.is_some() {
            return Ok((store, None));
        }
        tracing::warn!("the key in the data folder is not in the database: making another");
    }
    let (_row, key) = issue_api_key(&store, &project, KEY_NAME).await?;
    folder::write_private(&folder.api_key(), format!("{}\n", key.expose()).as_bytes())?;
    Ok((store, Some(key.expose().to_owned())))
}

fn registered(template: &Template) -> NewTemplate {
    NewTemplate {
        id: template.template_id.clone(),
        project_id: None,
        names: vec![template.name.clone()],
        build: template.build.clone(),
        build_id: build_id(&template.build),
        config: template.config.clone(),
        limits: template.limits,
        egress: template.egress.clone(),
    }
}

/// A build's reference as the id that the wire wants, made of its hash.
fn build_id(build: &str) -> BuildId {
    let digest: [u8; 32] = Sha256::digest(build.as_bytes()).into();
    let mut number = [0; 16];
    number.iter_mut().zip(digest).for_each(|(byte, hashed)| *byte = hashed);
    BuildId::from_hash(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_one_id_for_ever() {
        let id = build_id("base-0123");
        assert_eq!(id, build_id("base-0123"));
        assert_ne!(id, build_id("base-0124"));
        // What rows of earlier versions have.
        assert_eq!(id.as_str(), "e2f108f9-f40a-8435-b5f1-303d9590f69d");
    }
}
