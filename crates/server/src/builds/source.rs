//! What a build starts from: an image of a registry, or another build. Images under `e2bdev/`, which
//! the SDKs ask for when nobody says anything, are the installation's own templates of that name.

use courier_protocol::e2b::{ImageRegistry, StartTemplateBuild};
use courier_protocol::node::{BuildSource, RegistryLogin};
use courier_store::{BuildKey, ProjectRow, StoreError};
use courier_types::egress::Policy;

use crate::app::App;
use crate::http::ApiError;
use crate::templates::{self, FindError};

/// The image of a build that names neither image nor template, as the SDKs have it.
const DEFAULT_IMAGE: &str = "e2bdev/base";

/// Whose images are our templates, in the forms that users write.
const E2B: [&str; 3] = ["e2bdev/", "docker.io/e2bdev/", "index.docker.io/e2bdev/"];

/// What our templates of such a name may be called beside that: theirs have a version in it.
const SUFFIXES: [&str; 2] = ["", "-v1"];

/// Longest reference of an image, in bytes: beyond every registry's own limits.
const IMAGE_MAX: usize = 512;

/// The user name with which Google's registries take a service account's key file.
const GCP_USER: &str = "_json_key";

/// Why there is nothing to start from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("use fromImage or fromTemplate, not both")]
    Both,
    #[error("{image:?} is no reference of an image")]
    Image { image: String },
    #[error("fromImageRegistry goes with fromImage only")]
    LoginWithoutImage,
    #[error(
        "AWS access keys are not exchanged for a login here: give fromImageRegistry of type \
         \"registry\", with user AWS and the password of `aws ecr get-login-password`"
    )]
    Aws,
    #[error(transparent)]
    Template(#[from] FindError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Both
            | SourceError::Image { .. }
            | SourceError::LoginWithoutImage
            | SourceError::Aws => Self::bad_request(error.to_string()),
            SourceError::Template(error) => error.into(),
            SourceError::Store(error) => error.into(),
        }
    }
}

/// What a build starts from.
#[derive(Debug)]
pub(super) struct Source {
    /// It.
    pub(super) source: BuildSource,
    /// What sandboxes made from that may reach at most, and so those of the new build.
    pub(super) egress: Option<Policy>,
}

/// Finds what a build starts from.
pub(super) async fn find(
    app: &App,
    project: &ProjectRow,
    asked: &StartTemplateBuild,
) -> Result<Source, SourceError> {
    let image = match (&asked.from_image, &asked.from_template) {
        (Some(_), Some(_)) => return Err(SourceError::Both),
        (None, Some(_)) if asked.from_image_registry.is_some() => {
            return Err(SourceError::LoginWithoutImage);
        }
        (None, Some(template)) => {
            let found = templates::build(app, project, template).await?;
            return Ok(from_build(found.build));
        }
        (Some(image), None) => image.as_str(),
        (None, None) => DEFAULT_IMAGE,
    };
    if let Some(source) = own(app, image).await? {
        return Ok(source);
    }
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if image.is_empty() || image.len() > IMAGE_MAX || image.contains(odd) {
        return Err(SourceError::Image { image: image.chars().take(64).collect() });
    }
    let login = asked.from_image_registry.as_ref().map(login).transpose()?;
    let source = BuildSource::Image { reference: image.to_owned(), login };
    Ok(Source { source, egress: None })
}

fn from_build(build: courier_store::BuildRow) -> Source {
    let source = BuildSource::Build { build: build.reference, config: build.config };
    Source { source, egress: build.egress }
}

/// The installation's template that an image stands for.
async fn own(app: &App, image: &str) -> Result<Option<Source>, SourceError> {
    let Some(name) = E2B.iter().find_map(|prefix| image.strip_prefix(prefix)) else {
        return Ok(None);
    };
    // Whatever tag of theirs it is, ours is the newest.
    let name = name.split([':', '@']).next().unwrap_or(name);
    for suffix in SUFFIXES {
        let found = app.store.find_installed_template(&format!("{name}{suffix}")).await?;
        let Some(template) = found else { continue };
        let key = BuildKey::Tag(courier_store::DEFAULT_TAG);
        if let Some(build) = app.store.find_ready_build(&template.id, &key).await? {
            return Ok(Some(from_build(build)));
        }
    }
    Ok(None)
}

fn login(given: &ImageRegistry) -> Result<RegistryLogin, SourceError> {
    match given {
        ImageRegistry::Registry { username, password } => {
            Ok(RegistryLogin { user: username.clone(), password: password.value().clone() })
        }
        ImageRegistry::Gcp { service_account_json } => Ok(RegistryLogin {
            user: GCP_USER.to_owned(),
            password: service_account_json.value().clone(),
        }),
        ImageRegistry::Aws {} => Err(SourceError::Aws),
    }
}
