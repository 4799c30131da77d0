//! What the database must hold before the server starts: a project, a key, the templates.

use std::time::SystemTime;

use courier_server::{ensure_default_project, issue_api_key};
use courier_store::{KeyHash, NewTemplate, Store};
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
        build_id: uuid(&template.build),
        limits: template.limits,
        egress: template.egress.clone(),
    }
}

/// A build's reference as a UUID, which the wire wants: version 8, RFC 9562, made of its hash.
fn uuid(build: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(build.as_bytes()).into();
    let mut number = digest.iter().take(16).fold(0_u128, |n, b| (n << 8) | u128::from(*b));
    number = number & !(0xf << 76) | (0x8 << 76);
    number = number & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let mut parts = Vec::new();
    let mut rest = hex.as_str();
    for length in [8, 4, 4, 4, 12] {
        let (part, more) = rest.split_at(length);
        parts.push(part);
        rest = more;
    }
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_one_uuid_of_the_right_form() {
        let id = uuid("base-0123");
        assert_eq!(id, uuid("base-0123"));
        assert_ne!(id, uuid("base-0124"));
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(id.split('-').nth(2).unwrap().starts_with('8'), "{id}");
        assert!("89ab".contains(id.split('-').nth(3).unwrap().chars().next().unwrap()), "{id}");
    }
}
