//! What a registry says an image is: indices, manifests and configurations, of the OCI image
//! specification 1.1 and of Docker (version 2, schema 2). A document that could be read as two
//! different things is refused.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::digest::BlobDigest;
use super::platform::Platform;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Configurations of images that containers are made from.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Layers that are in the registry itself.
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Most characters of a registry's text that an error repeats.
const TEXT_MAX: usize = 100;

/// Why a document is no image for us. The image's fault, or the registry's.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON of that form.
    #[error("the {what} cannot be read")]
    Json {
        /// Which document.
        what: &'static str,
        /// What was met.
        #[source]
        source: serde_json::Error,
    },
    /// The old form of Docker's registries, whose digests say nothing about the layers.
    #[error("it is of Docker's schema 1, which no digest protects: push it again with newer tools")]
    Schema1,
    /// Something that is in registries, but is no image.
    #[error("it is no image: its type is {media_type:?}")]
    Type {
        /// What it says it is.
        media_type: String,
    },
    /// It says to be two things.
    #[error("the manifest says to be two things at once")]
    Ambiguous,
    /// It lacks something.
    #[error("the {what} lacks {field}")]
    Lacks {
        /// Which document.
        what: &'static str,
        /// What it lacks.
        field: &'static str,
    },
    /// An index in an index.
    #[error("its index leads to another index")]
    Nested,
    /// A layer that is elsewhere, or of an unknown form.
    #[error("layer {number} cannot be had: its type is {media_type:?}")]
    Layer {
        /// Which, counted from 1.
        number: usize,
        /// What it says it is.
        media_type: String,
    },
    /// Too many layers.
    #[error("it has {count} layers: at most {most} are possible")]
    Layers {
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

/// Something that a registry has: what it is, its name, and its size as it is sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
}

/// An image for one platform.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a manifest's address leads to.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

/// Reads what came with that `Content-Type`.
pub(super) fn read(
    bytes: &[u8],
    content_type: Option<&str>,
    layers_max: usize,
) -> Result<Document, ManifestError> {
    let json = |source| ManifestError::Json { what: "manifest", source };
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(json)?;
    if raw.schema_version == 1 || raw.fs_layers.is_some() {
        return Err(ManifestError::Schema1);
    }
    let sent_as = content_type.map(essence).filter(|text| is_known(text));
    let said = raw.media_type.as_deref();
    if said.zip(sent_as).is_some_and(|(said, sent_as)| said != sent_as) {
        return Err(ManifestError::Ambiguous);
    }
    let media_type = said.or(sent_as);
    if let Some(other) = media_type.filter(|text| !is_known(text)) {
        return Err(ManifestError::Type { media_type: cut(other) });
    }
    let is_index = match media_type {
        Some(text) => text == OCI_INDEX || text == DOCKER_LIST,
        None => raw.manifests.is_some(),
    };
    let other_kind = (raw.config.is_some() || raw.layers.is_some(), raw.manifests.is_some());
    match (is_index, other_kind) {
        (true, (true, _)) | (false, (_, true)) => return Err(ManifestError::Ambiguous),
        (true, (false, _)) | (false, (_, false)) => {}
    }
    if is_index {
        let lacks = ManifestError::Lacks { what: "index", field: "manifests" };
        return Ok(Document::Index(raw.manifests.ok_or(lacks)?));
    }
    manifest(raw, layers_max).map(Document::Manifest)
}

fn manifest(raw: RawDocument, layers_max: usize) -> Result<Manifest, ManifestError> {
    let lacks = |field| ManifestError::Lacks { what: "manifest", field };
    let config = raw.config.ok_or_else(|| lacks("config"))?;
    let layers = raw.layers.ok_or_else(|| lacks("layers"))?;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(ManifestError::Type { media_type: cut(&config.media_type) });
    }
    if layers.len() > layers_max {
        return Err(ManifestError::Layers { count: layers.len(), most: layers_max });
    }
    let refused = |layer: &&Descriptor| !LAYERS.contains(&layer.media_type.as_str());
    if let Some((number, layer)) = (1..).zip(&layers).find(|(_, layer)| refused(layer)) {
        let media_type = cut(&layer.media_type);
        return Err(ManifestError::Layer { number, media_type });
    }
    Ok(Manifest { config, layers })
}

/// An image's configuration (OCI image specification, "Image Configuration"), as far as it counts
/// here: entry point and command do not.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) platform: Platform,
    pub(super) diff_ids: Vec<BlobDigest>,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(flatten)]
    platform: Platform,
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<BlobDigest>>,
}

/// Reads a configuration.
pub(super) fn read_config(bytes: &[u8]) -> Result<Config, ManifestError> {
    let json = |source| ManifestError::Json { what: "configuration", source };
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(json)?;
    let run = raw.config.unwrap_or_default();
    // A variable without a value is taken from nowhere: there is no environment to inherit from.
    let pair = |text: String| {
        let (name, value) = text.split_once('=')?;
        let usable = !name.is_empty() && !text.contains('\0');
        usable.then(|| (name.to_owned(), value.to_owned()))
    };
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Config {
        platform: raw.platform,
        diff_ids: raw.rootfs.diff_ids.unwrap_or_default(),
        env: run.env.unwrap_or_default().into_iter().filter_map(pair).collect(),
        workdir: said(run.working_dir),
        user: said(run.user),
    })
}

fn is_known(media_type: &str) -> bool {
    [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].contains(&media_type)
}

/// A `Content-Type` without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LAYERS_MAX: usize = 3;

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": BlobDigest::of(b"").to_string(), "size": 0})
    }

    fn manifest_of(layers: &[&str]) -> Value {
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor(layer)).collect();
        json!({"schemaVersion": 2, "config": descriptor(CONFIGS[0]), "layers": layers})
    }

    #[track_caller]
    fn refused(document: &Value, content_type: Option<&str>) -> String {
        let bytes = document.to_string();
        read(bytes.as_bytes(), content_type, LAYERS_MAX).unwrap_err().to_string()
    }

    #[test]
    fn manifests_and_indices_are_told_apart_by_their_type_or_by_what_they_have() {
        let read = |value: &Value, sent_as| read(value.to_string().as_bytes(), sent_as, LAYERS_MAX);
        let manifest = manifest_of(&LAYERS[..3]);
        for sent_as in [None, Some(OCI_MANIFEST), Some("text/plain"), Some(DOCKER_MANIFEST)] {
            let Ok(Document::Manifest(image)) = read(&manifest, sent_as) else { panic!() };
            assert_eq!(image.layers.len(), 3);
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [descriptor(OCI_MANIFEST)]});
        let sent_as = format!("{OCI_INDEX}; charset=utf-8");
        let Ok(Document::Index(entries)) = read(&index, Some(&sent_as)) else { panic!() };
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn what_could_be_two_things_is_refused() {
        let mut both = manifest_of(&[]);
        both["manifests"] = json!([]);
        assert!(refused(&both, None).contains("two things"));
        assert!(refused(&both, Some(OCI_MANIFEST)).contains("two things"));
        let mut manifest = manifest_of(&[]);
        assert!(refused(&manifest, Some(OCI_INDEX)).contains("two things"));
        manifest["mediaType"] = json!(OCI_MANIFEST);
        assert!(refused(&manifest, Some(DOCKER_MANIFEST)).contains("two things"));
        let twice = r#"{"schemaVersion":2,"layers":[],"layers":[]}"#;
        assert!(read(twice.as_bytes(), None, LAYERS_MAX).is_err());
    }

    #[test]
    fn what_is_no_image_for_us_is_refused_by_name() {
        let schema1 = json!({"schemaVersion": 1, "fsLayers": []});
        assert!(refused(&schema1, None).contains("schema 1"));
        let mut chart = manifest_of(&[]);
        chart["config"] = descriptor("application/vnd.cncf.helm.config.v1+json");
        assert!(refused(&chart, None).contains("helm"));
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let error = refused(&manifest_of(&[LAYERS[0], foreign]), None);
        assert!(error.contains("layer 2") && error.contains("foreign"), "{error}");
        let nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        assert!(refused(&manifest_of(&[nondistributable]), None).contains("layer 1"));
        assert!(refused(&manifest_of(&[LAYERS[0]; 4]), None).contains("4 layers: at most 3"));
        let mut wrong = manifest_of(&[LAYERS[0]]);
        wrong["layers"][0]["size"] = json!(-1);
        assert!(refused(&wrong, None).contains("cannot be read"));
        wrong["layers"][0] = json!({"mediaType": LAYERS[0], "digest": "sha256:../..", "size": 1});
        assert!(refused(&wrong, None).contains("cannot be read"));
        assert!(refused(&json!({"schemaVersion": 2}), None).contains("lacks config"));
    }

    #[test]
    fn a_configuration_gives_start_state_and_names_of_layers() {
        let id = BlobDigest::of(b"").to_string();
        let text = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers",
            "diff_ids": [id]}, "config": {"Env": ["PATH=/bin:/x=y", "NONE", "=x", "A="],
            "WorkingDir": "/srv", "User": "", "Cmd": ["x"]}});
        let config = read_config(text.to_string().as_bytes()).unwrap();
        assert_eq!(config.platform.to_string(), "linux/amd64");
        assert_eq!(config.diff_ids.len(), 1);
        let env = [("PATH".to_owned(), "/bin:/x=y".to_owned()), ("A".to_owned(), String::new())];
        assert_eq!(config.env, env);
        assert_eq!((config.workdir.as_deref(), config.user), (Some("/srv"), None));
        let bare = json!({"rootfs": {"diff_ids": null}, "config": null});
        assert!(read_config(bare.to_string().as_bytes()).unwrap().diff_ids.is_empty());
        assert!(read_config(b"{}").is_err());
    }
}
