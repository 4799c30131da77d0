//! What a template reference means: `[namespace/]name[:tag]`, where the name may be an id and the
//! tag the id of a build.
//!
//! A project sees its own templates, then the installation's; those that others have made public by
//! their namespace or id. Somebody else's template and none at all give the same answer.

use courier_protocol::e2b::{TemplateRef, TemplateRefError};
use courier_store::{BuildKey, BuildRow, ProjectRow, StoreError, TagRow, TemplateRow};

use crate::app::App;
use crate::http::ApiError;

/// Longest text of a reference that an error repeats, in characters: that of a whole reference.
const SHOWN_MAX: usize = TemplateRef::MAX_LEN;

/// Why a reference means nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error("Invalid template reference: {text:?}: {source}")]
    Reference { text: String, source: TemplateRefError },
    #[error("template '{reference}' not found: `GET /templates` lists what there is")]
    NoTemplate { reference: String },
    #[error(
        "template '{reference}' not found: it has no build with tag '{tag}'; its tags: {}",
        join(known)
    )]
    NoBuild { reference: String, tag: String, known: Vec<TagRow> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn join(tags: &[TagRow]) -> String {
    let tags: Vec<&str> = tags.iter().map(|tag| tag.tag.as_str()).collect();
    if tags.is_empty() { "none, for no build of it is ready".to_owned() } else { tags.join(", ") }
}

impl From<FindError> for ApiError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Reference { .. } => Self::bad_request(error.to_string()),
            FindError::NoTemplate { .. } | FindError::NoBuild { .. } => {
                Self::not_found(error.to_string())
            }
            FindError::Store(error) => error.into(),
        }
    }
}

/// What a reference means now.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The reference, in its canonical form.
    pub(crate) reference: TemplateRef,
    /// The template.
    pub(crate) template: TemplateRow,
    /// The build that sandboxes are made from.
    pub(crate) build: BuildRow,
}

/// The reference of a text.
pub(crate) fn parse(text: &str) -> Result<TemplateRef, FindError> {
    TemplateRef::parse(text).map_err(|source| FindError::Reference {
        text: text.chars().take(SHOWN_MAX).collect(),
        source,
    })
}

/// The template that a reference names, whatever its tag, which the project may use.
pub(crate) async fn template(
    app: &App,
    project: &ProjectRow,
    text: &str,
) -> Result<(TemplateRef, TemplateRow), FindError> {
    let reference = parse(text)?;
    let row = match reference.namespace() {
        Some(namespace) if namespace != project.slug => {
            app.store.find_public_template(namespace, reference.name()).await?
        }
        Some(_) | None => app.store.find_template(&project.id, reference.name()).await?,
    };
    match row {
        Some(row) => Ok((reference, row)),
        None => Err(FindError::NoTemplate { reference: reference.to_string() }),
    }
}

/// The build that a reference means now. A project's own template goes before the installation's of
/// that name, but only where it has such a build: a name that was only asked for hides nothing.
pub(crate) async fn build(app: &App, project: &ProjectRow, text: &str) -> Result<Found, FindError> {
    let (reference, template) = template(app, project, text).await?;
    if let Some(build) = ready(app, &template, &reference).await? {
        return Ok(Found { reference, template, build });
    }
    if reference.namespace().is_none()
        && let Some(installed) = app.store.find_installed_template(reference.name()).await?
        && let Some(build) = ready(app, &installed, &reference).await?
    {
        return Ok(Found { reference, template: installed, build });
    }
    Err(no_build(app, &template, &reference).await?)
}

/// The build that a name means among the installation's own templates, whatever the project calls
/// so.
pub(crate) async fn installed(app: &App, name: &str) -> Result<Found, FindError> {
    let reference = parse(name)?;
    let Some(template) = app.store.find_installed_template(reference.name()).await? else {
        return Err(FindError::NoTemplate { reference: reference.to_string() });
    };
    match ready(app, &template, &reference).await? {
        Some(build) => Ok(Found { reference, template, build }),
        None => Err(no_build(app, &template, &reference).await?),
    }
}

async fn no_build(
    app: &App,
    template: &TemplateRow,
    reference: &TemplateRef,
) -> Result<FindError, StoreError> {
    let known = app.store.list_tags(&template.id).await?;
    let tag = reference.tag().unwrap_or(TemplateRef::DEFAULT_TAG).to_owned();
    Ok(FindError::NoBuild { reference: reference.to_string(), tag, known })
}

/// The build of a template that a reference's tag means.
async fn ready(
    app: &App,
    template: &TemplateRow,
    reference: &TemplateRef,
) -> Result<Option<BuildRow>, StoreError> {
    let tag = reference.tag().unwrap_or(TemplateRef::DEFAULT_TAG);
    let id = tag.parse().ok();
    let key = id.as_ref().map_or(BuildKey::Tag(tag), BuildKey::Id);
    app.store.find_ready_build(&template.id, &key).await
}

/// The project's own template that a reference names: for whoever wants to change it.
pub(crate) async fn owned(
    app: &App,
    project: &ProjectRow,
    text: &str,
) -> Result<(TemplateRef, TemplateRow), ApiError> {
    let reference = parse(text)?;
    check_namespace(project, &reference)?;
    let (reference, row) = template(app, project, text).await?;
    if row.project_id.as_ref() == Some(&project.id) {
        return Ok((reference, row));
    }
    let whose = if row.project_id.is_some() { "another project" } else { "the installation" };
    Err(ApiError::forbidden(format!("template '{reference}' belongs to {whose}")))
}

/// Refuses a namespace that is not the project's.
pub(crate) fn check_namespace(
    project: &ProjectRow,
    reference: &TemplateRef,
) -> Result<(), ApiError> {
    match reference.namespace() {
        Some(namespace) if namespace != project.slug => Err(ApiError::bad_request(format!(
            "namespace '{namespace}' is not this project's, which is '{}'",
            project.slug
        ))),
        Some(_) | None => Ok(()),
    }
}
