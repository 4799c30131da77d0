//! Asking for a build: the template's name, tags and limits become a row that waits.

use courier_protocol::e2b::{NewTemplateBuild, TemplateRef};
use courier_store::{BuildBounds, NewBuild, ProjectRow, RequestedBuild, StoreError};
use courier_types::{BuildId, LimitError, Limits, LimitsRequest};

use crate::app::App;
use crate::http::ApiError;
use crate::templates::{FindError, check_namespace, parse};
use crate::{clock, random};

/// Most tags of one template: a list of them is not paged.
pub(crate) const TAGS_MAX: u64 = 256;

/// Thousandths of a core in a core.
const MILLIS: u64 = 1_000;

/// Seconds after which a project that is at its limit of builds may have ended one.
const BUSY_RETRY_SECS: u16 = 30;

/// Why a build is not asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("a template needs a name")]
    NoName,
    #[error(transparent)]
    Reference(#[from] FindError),
    #[error("Invalid tag: {tag:?}: {}", TAG_RULE)]
    Tag { tag: String },
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error("cpuCount = {0} is out of range: use 1 to {max}", max = Limits::CPU_MILLIS.max / MILLIS)]
    Cpu(u64),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a tag is.
const TAG_RULE: &str =
    "a tag has 1 to 128 characters of a-z, 0-9, '-', '_' and '.', and is no build's id";

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Reference(error) => error.into(),
            RequestError::NoName
            | RequestError::Tag { .. }
            | RequestError::Limit(_)
            | RequestError::Cpu(_) => Self::bad_request(error.to_string()),
            RequestError::Store(
                error @ (StoreError::TooManyTemplates { .. } | StoreError::TooManyTags { .. }),
            ) => Self::bad_request(format!("{error}: delete some first")),
            RequestError::Store(error @ StoreError::TooManyBuilds { .. }) => {
                Self::too_many(error.to_string(), BUSY_RETRY_SECS)
            }
            RequestError::Store(error) => error.into(),
        }
    }
}

/// A build that waits.
#[derive(Debug, Clone)]
pub(crate) struct Requested {
    /// Its id.
    pub(crate) id: BuildId,
    /// Name of its template.
    pub(crate) name: String,
    /// The tags that it gets when it is ready.
    pub(crate) tags: Vec<String>,
    /// What it belongs to.
    pub(crate) of: RequestedBuild,
}

/// Writes a build down that somebody asks for.
pub(crate) async fn request(
    app: &App,
    project: &ProjectRow,
    asked: NewTemplateBuild,
) -> Result<Requested, ApiError> {
    let name = asked.name.as_deref().or(asked.alias.as_deref()).ok_or(RequestError::NoName)?;
    let reference = parse(name).map_err(RequestError::Reference)?;
    check_namespace(project, &reference)?;
    let tags = tags(&reference, asked.tags.as_deref().unwrap_or_default())?;
    let limits = limits(&asked)?;
    let id = random::build_id();
    let new = NewBuild {
        reference: id.to_string(),
        id: id.clone(),
        project_id: project.id.clone(),
        name: reference.name().to_owned(),
        template_id: random::template_id(),
        limits,
        tags: tags.clone(),
    };
    let bounds = BuildBounds {
        builds_max: app.config.builds_max,
        templates_max: app.config.templates_max,
        tags_max: TAGS_MAX,
    };
    let of =
        app.store.request_build(&new, &bounds, clock::now()).await.map_err(RequestError::Store)?;
    Ok(Requested { id, name: new.name, tags, of })
}

/// Tags as clients write them, each once, in their order.
pub(crate) fn parse_tags(given: &[String]) -> Result<Vec<String>, RequestError> {
    let mut tags: Vec<String> = Vec::new();
    for text in given {
        let tag = TemplateRef::parse_tag(text)
            .ok_or_else(|| RequestError::Tag { tag: text.chars().take(64).collect() })?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// The tag of the name and the others; `default` where there is none.
fn tags(reference: &TemplateRef, given: &[String]) -> Result<Vec<String>, RequestError> {
    let named = reference.tag().map(str::to_owned);
    let all: Vec<String> = named.into_iter().chain(given.iter().cloned()).collect();
    let mut tags = parse_tags(&all)?;
    if tags.is_empty() {
        tags.push(TemplateRef::DEFAULT_TAG.to_owned());
    }
    Ok(tags)
}

/// The caps of the sandboxes of a build.
fn limits(asked: &NewTemplateBuild) -> Result<Limits, RequestError> {
    let cpu_millis = match asked.cpu_count {
        Some(0) => return Err(RequestError::Cpu(0)),
        Some(count) => Some(count.checked_mul(MILLIS).ok_or(RequestError::Cpu(count))?),
        None => None,
    };
    // Space for the sandbox's own files is what is asked for; ours are always empty at first.
    let disk_mib = asked.min_free_disk_mb.map(|disk| disk.max(Limits::DISK_MIB.default));
    Ok(LimitsRequest { cpu_millis, memory_mib: asked.memory_mb, disk_mib, ..Default::default() }
        .try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags_of(name: &str, given: &[&str]) -> Vec<String> {
        let given: Vec<String> = given.iter().map(|tag| (*tag).to_owned()).collect();
        tags(&TemplateRef::parse(name).unwrap(), &given).unwrap()
    }

    #[test]
    fn a_build_gets_the_tag_of_its_name_and_the_others_once_or_the_default() {
        assert_eq!(tags_of("a", &[]), ["default"]);
        assert_eq!(tags_of("a:v1", &[]), ["v1"]);
        assert_eq!(tags_of("a:v1", &["V2", "v1", "v2"]), ["v1", "v2"]);
        assert_eq!(tags_of("a", &["v2"]), ["v2"]);
    }

    #[test]
    fn cores_and_memory_are_bounded_and_a_disk_is_never_smaller_than_usual() {
        let asked = |cpu_count, memory_mb, min_free_disk_mb| NewTemplateBuild {
            cpu_count,
            memory_mb,
            min_free_disk_mb,
            ..Default::default()
        };
        let made = limits(&asked(Some(3), Some(1_024), Some(0))).unwrap();
        assert_eq!((made.cpu_millis(), made.memory_mib()), (3_000, 1_024));
        assert_eq!(u64::from(made.disk_mib()), Limits::DISK_MIB.default);
        assert_eq!(limits(&asked(None, None, Some(9_000))).unwrap().disk_mib(), 9_000);
        for odd in [asked(Some(0), None, None), asked(Some(u64::MAX), None, None)] {
            assert!(limits(&odd).is_err(), "{odd:?}");
        }
        assert!(limits(&asked(None, Some(1), None)).is_err());
    }
}
