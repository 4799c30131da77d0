//! What the container tools of the machine are told about registries: `/etc/containers/registries.conf`
//! (containers-registries.conf(5), version 2) and Docker's `/etc/docker/daemon.json`.
//!
//! What they say that has no meaning here is passed over: nobody wrote those files for us.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use courier_image::registry::{DefaultRegistry, KnownRegistry, RegistryName, RegistrySettings};
use serde::Deserialize;
use url::Url;

/// Largest file that is read.
const FILE_MAX: u64 = 1024 * 1024;
/// Where Docker's mirrors have the images whose names are one word (Docker, "Registry mirror").
const DOCKER_NAMESPACE: &str = "library";

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Containers {
    unqualified_search_registries: Vec<String>,
    registry: Vec<ContainersRegistry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainersRegistry {
    prefix: Option<String>,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirror: Vec<ContainersMirror>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainersMirror {
    location: String,
    insecure: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Docker {
    registry_mirrors: Vec<String>,
}

/// What the files below that root folder say; nothing where there are none.
pub(super) fn settings(root: &Path) -> RegistrySettings {
    let mut settings = RegistrySettings::default();
    let containers: Containers =
        file(&root.join("etc/containers/registries.conf"), |text| Ok(toml::from_str(text)?));
    settings.known.extend(containers.registry.iter().filter_map(known));
    settings.blocked.extend(containers.registry.iter().filter_map(blocked));
    let mut unqualified = containers.unqualified_search_registries.iter();
    settings.default = unqualified.find_map(|text| text.parse().ok());
    if settings.default.is_none() {
        let docker: Docker =
            file(&root.join("etc/docker/daemon.json"), |text| Ok(serde_json::from_str(text)?));
        if let Some((known, default)) = docker.registry_mirrors.iter().find_map(|url| mirror(url)) {
            settings.known.push(known);
            settings.default = Some(default);
        }
    }
    settings
}

/// A registry that nobody on this machine is to use. Parts of one cannot be blocked here.
fn blocked(registry: &ContainersRegistry) -> Option<RegistryName> {
    let name = registry.prefix.as_deref().or(registry.location.as_deref())?;
    registry.blocked.then(|| name.parse().ok())?
}

/// A registry that is elsewhere or without TLS. The first mirror counts, as it does for the tools.
fn known(registry: &ContainersRegistry) -> Option<KnownRegistry> {
    let name = registry.prefix.as_deref().or(registry.location.as_deref())?;
    let location = registry.location.as_deref().unwrap_or(name);
    let (at, insecure) = registry.mirror.first().map_or((location, registry.insecure), |mirror| {
        (mirror.location.as_str(), mirror.insecure)
    });
    if registry.blocked || name.contains(['/', '*']) {
        return None;
    }
    let insecure = if insecure { ",insecure" } else { "" };
    format!("{name}={at}{insecure}").parse().ok()
}

fn mirror(url: &str) -> Option<(KnownRegistry, DefaultRegistry)> {
    let url: Url = url.parse().ok()?;
    let host = url.host_str()?;
    let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let insecure = if url.scheme() == "http" { ",insecure" } else { "" };
    let path = url.path().trim_end_matches('/');
    let known = format!("{name}={name}{path}{insecure}").parse().ok()?;
    Some((known, format!("{name}/{DOCKER_NAMESPACE}").parse().ok()?))
}

/// What a file says; nothing where there is none. One that cannot be read is told and passed over:
/// builds that need nothing of it go on.
fn file<T: Default>(path: &Path, parse: impl FnOnce(&str) -> anyhow::Result<T>) -> T {
    let read = || -> anyhow::Result<T> {
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => file.take(FILE_MAX).read_to_string(&mut text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
            Err(error) => return Err(error.into()),
        };
        parse(&text)
    };
    read().unwrap_or_else(|error| {
        let (path, error) = (path.display(), format!("{error:#}"));
        tracing::warn!(%path, error, "what this machine says about registries cannot be read");
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(containers: &str, docker: &str) -> RegistrySettings {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in
            [("containers/registries.conf", containers), ("docker/daemon.json", docker)]
        {
            let path = root.path().join("etc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        settings(root.path())
    }

    #[test]
    fn what_the_container_tools_know_is_known() {
        let text = r#"
            unqualified-search-registries = ["hub.test/library", "other.test"]
            short-name-mode = "enforcing"
            [[registry]]
            prefix = "hub.test"
            location = "api.hub.test"
            [[registry.mirror]]
            location = "mirror.test:5000/proxy"
            insecure = true
            [[registry]]
            location = "blocked.test"
            blocked = true
            [[registry]]
            prefix = "*.wild.test"
            location = "wild.test"
        "#;
        let found = of(text, r#"{"registry-mirrors": ["https://docker.test"]}"#);
        assert_eq!(found.default.unwrap().to_string(), "hub.test/library");
        assert_eq!(found.known, ["hub.test=mirror.test:5000/proxy,insecure".parse().unwrap()]);
        assert_eq!(found.blocked, ["blocked.test".parse().unwrap()]);
    }

    #[test]
    fn dockers_mirror_is_where_names_without_a_registry_are() {
        let found = of("", r#"{"registry-mirrors": ["http://mirror.test:5000/"], "debug": true}"#);
        assert_eq!(found.default.unwrap().to_string(), "mirror.test:5000/library");
        assert_eq!(found.known, ["mirror.test:5000,insecure".parse().unwrap()]);
        let none = of("[[registry]\nbroken", "broken");
        assert!(none.known.is_empty() && none.default.is_none());
    }
}
