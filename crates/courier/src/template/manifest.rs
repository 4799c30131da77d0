//! What is known of a built template, in `TEMPLATES/NAME.json`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use courier_types::egress::Policy;
use courier_types::{BuildConfig, Limits, TemplateId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::TemplateError;

/// Suffix of images.
const IMAGE: &str = "erofs";
/// Suffix of manifests.
const MANIFEST: &str = "json";

/// A template that is built and ready to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Template {
    /// Its name, e.g. `base`.
    pub(crate) name: String,
    /// Its id on the wire, the same for every build of it.
    pub(crate) template_id: TemplateId,
    /// The build: the stem of the image's file name, made of what went in.
    pub(crate) build: String,
    /// The build before it, whose image is kept for sandboxes that are being made just now.
    pub(crate) previous: Option<String>,
    /// Hash of the recipe.
    pub(crate) recipe: String,
    /// SHA-256 of the guest daemon inside.
    pub(crate) guest: String,
    /// What that binary looked like, to see without reading it that it is the same.
    pub(crate) guest_stamp: GuestStamp,
    /// When it was built.
    pub(crate) created: Timestamp,
    /// Size of the image in bytes.
    pub(crate) size_bytes: u64,
    /// The caps of its sandboxes when nobody says otherwise.
    pub(crate) limits: Limits,
    /// What its sandboxes may reach at most; absent bounds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) egress: Option<Policy>,
    /// What the build says about its sandboxes.
    #[serde(default)]
    pub(crate) config: BuildConfig,
    /// Our binaries that went in, besides the guest daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) binaries: Vec<Binary>,
}

/// A binary that a build has taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binary {
    /// What it looked like, to see without reading it that it is the same.
    pub(crate) stamp: GuestStamp,
    /// Its SHA-256 in hexadecimal.
    pub(crate) hash: String,
}

/// Size, time and place of a file: while they stay, so does its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GuestStamp {
    path: PathBuf,
    size: u64,
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl GuestStamp {
    /// Looks at the file.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn of(path: &Path) -> Result<Self, TemplateError> {
        let missing = |source| TemplateError::GuestMissing { path: path.to_owned(), source };
        let meta = fs::metadata(path).map_err(missing)?;
        Ok(Self {
            path: path.to_owned(),
            size: meta.len(),
            inode: meta.ino(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
        })
    }
}

impl Template {
    /// Reads the manifest of a template; `None` when it was never built, or its image is gone.
    ///
    /// # Errors
    /// The manifest cannot be read or is damaged.
    pub(crate) fn read(templates: &Path, name: &str) -> Result<Option<Self>, TemplateError> {
        let path = manifest_of(templates, name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TemplateError::host("read", &path)(error)),
        };
        let template: Self = serde_json::from_slice(&text)
            .map_err(|source| TemplateError::Manifest { path, source })?;
        let there = template.image(templates).is_file();
        Ok(there.then_some(template))
    }

    /// Publishes the manifest: readers see the old one or this one, whole.
    ///
    /// # Errors
    /// The host refused to write it.
    pub(crate) fn write(&self, templates: &Path) -> Result<(), TemplateError> {
        let path = manifest_of(templates, &self.name);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| TemplateError::Manifest { path: path.clone(), source })?;
        let mut file = tempfile::NamedTempFile::new_in(templates)
            .map_err(TemplateError::host("write below", templates))?;
        let published = file
            .write_all(&text)
            .and_then(|()| {
                use std::os::unix::fs::PermissionsExt as _;
                file.as_file().set_permissions(fs::Permissions::from_mode(0o644))
            })
            .and_then(|()| file.as_file().sync_all())
            .and_then(|()| file.persist(&path).map_err(|error| error.error))
            .and_then(|_file| fs::File::open(templates)?.sync_all());
        published.map_err(TemplateError::host("write", &path))
    }

    /// The image's file.
    pub(crate) fn image(&self, templates: &Path) -> PathBuf {
        image_of(templates, &self.build)
    }

    /// The id that every build of a template of this name has.
    pub(crate) fn id_of(name: &str) -> TemplateId {
        let hash: [u8; 32] = Sha256::digest(format!("template {name}")).into();
        let mut random = [0; TemplateId::RANDOM_BYTES];
        random.iter_mut().zip(hash).for_each(|(byte, hashed)| *byte = hashed);
        TemplateId::from_random(random)
    }
}

/// The image of a build. Names have dots, so nothing takes the place of what follows one.
pub(crate) fn image_of(templates: &Path, build: &str) -> PathBuf {
    templates.join(format!("{build}.{IMAGE}"))
}

fn manifest_of(templates: &Path, name: &str) -> PathBuf {
    templates.join(format!("{name}.{MANIFEST}"))
}

/// Removes the images that no template refers to. Sandboxes that run from one keep it open.
///
/// # Errors
/// The host refused.
pub(crate) fn prune(templates: &Path, kept: &[Template]) -> Result<(), TemplateError> {
    let keep: Vec<PathBuf> = kept
        .iter()
        .flat_map(|template| std::iter::once(&template.build).chain(&template.previous))
        .map(|build| image_of(templates, build))
        .collect();
    let folder = fs::read_dir(templates).map_err(TemplateError::host("read", templates))?;
    for path in folder.flatten().map(|entry| entry.path()) {
        let is_image = path.extension().is_some_and(|extension| extension == IMAGE);
        if is_image && !keep.contains(&path) {
            fs::remove_file(&path).map_err(TemplateError::host("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A template with its image and manifest in place.
    pub(crate) fn built(folder: &Path, name: &str, build: &str) -> Template {
        let guest = folder.join("guest");
        fs::write(&guest, "guest").unwrap();
        fs::write(image_of(folder, build), "image").unwrap();
        let template = Template {
            name: name.to_owned(),
            template_id: Template::id_of(name),
            build: build.to_owned(),
            previous: None,
            recipe: "recipe".to_owned(),
            guest: "guest".to_owned(),
            guest_stamp: GuestStamp::of(&guest).unwrap(),
            created: Timestamp::from_micros(0),
            size_bytes: 5,
            limits: Limits::default(),
            egress: None,
            config: BuildConfig::default(),
            binaries: Vec::new(),
        };
        template.write(folder).unwrap();
        template
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_only_while_its_image_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let template = built(folder.path(), "base", "base-1");
        assert_eq!(Template::read(folder.path(), "base").unwrap(), Some(template.clone()));
        fs::remove_file(template.image(folder.path())).unwrap();
        assert_eq!(Template::read(folder.path(), "base").unwrap(), None);
    }

    #[test]
    fn a_name_with_a_dot_stays_whole() {
        let folder = tempfile::tempdir().unwrap();
        built(folder.path(), "python-3.12", "python-3.12-ab");
        for file in ["python-3.12.json", "python-3.12-ab.erofs"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        assert!(Template::read(folder.path(), "python-3").unwrap().is_none());
    }

    #[test]
    fn a_damaged_manifest_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("base.json"), "{").unwrap();
        let error = Template::read(folder.path(), "base").unwrap_err().to_string();
        assert!(error.contains("base.json"), "{error}");
    }

    #[test]
    fn pruning_keeps_the_current_and_the_previous_image() {
        let folder = tempfile::tempdir().unwrap();
        for build in ["base-1", "base-2"] {
            fs::write(image_of(folder.path(), build), "").unwrap();
        }
        let mut template = built(folder.path(), "base", "base-3");
        template.previous = Some("base-2".to_owned());
        prune(folder.path(), &[template]).unwrap();
        let left = |build| image_of(folder.path(), build).exists();
        assert!(!left("base-1") && left("base-2") && left("base-3"));
    }

    #[test]
    fn a_policy_in_a_manifest_is_read_strictly_and_its_absence_is_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        let mut template = built(folder.path(), "base", "base-1");
        let text = serde_json::to_string(&template).unwrap();
        assert!(!text.contains("egress"), "{text}");
        template.egress = Some(Policy::internet());
        template.write(folder.path()).unwrap();
        assert_eq!(Template::read(folder.path(), "base").unwrap(), Some(template.clone()));
        let odd = text.replace("\"limits\"", "\"egress\":{\"rule\":[]},\"limits\"");
        fs::write(folder.path().join("base.json"), odd).unwrap();
        let error = Template::read(folder.path(), "base").unwrap_err();
        assert!(matches!(error, TemplateError::Manifest { .. }), "{error}");
    }

    #[test]
    fn a_template_keeps_its_id_over_all_its_builds() {
        assert_eq!(Template::id_of("base"), Template::id_of("base"));
        assert_ne!(Template::id_of("base"), Template::id_of("other"));
    }
}
