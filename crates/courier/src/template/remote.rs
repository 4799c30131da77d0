//! The templates of a running server: `courier template ls`, `tag`, `rm`, `logs`.

use std::process::ExitCode;

use courier_protocol::e2b::{
    AssignTags, AssignedTags, DeleteTags, LogLevel, Template, TemplateAlias, TemplateBuild,
    TemplateBuildInfo, TemplateBuildLogs, TemplateBuildStatus, TemplateTag, TemplateWithBuilds,
};
use courier_protocol::v1::{TemplateConfig, TemplateDetail};
use courier_types::{BuildConfig, Limits};
use serde::Serialize;

use super::Form;
use super::details::Details;
use crate::api::{Api, ApiError};
use crate::output;

/// Most entries of one page of a build's log.
const LOG_PAGE: usize = 100;
/// Pages of a log that are read before it is cut: as much as a server keeps.
const MAX_LOG_PAGES: usize = 1_000;
/// Characters of a build's id in tables, which are enough to tell builds apart.
const SHORT_ID: usize = 8;

/// A template with its tags, as `ls --json` prints it.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    template: Template,
    tags: Vec<TemplateTag>,
    /// Size of the build's image in bytes, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// Prints the templates that a server has.
///
/// # Errors
/// It cannot be asked.
pub(super) async fn list(api: &Api, form: Form) -> anyhow::Result<ExitCode> {
    let templates: Vec<Template> = api.get("/templates").await?;
    let mut all = Vec::new();
    for template in templates {
        let path = format!("/templates/{}/tags", template.template_id);
        // Where something is not there, it was removed in between, or has no build that is ready.
        let tags = there(api.get(&path).await)?.unwrap_or_default();
        let build = format!("{}:{}", template.template_id, template.build_id);
        let detail = there(api.get(&format!("/v1/templates/{}", segment(&build))).await)?;
        let size_bytes = detail.and_then(|detail: TemplateDetail| detail.size_bytes);
        all.push(Listed { template, tags, size_bytes });
    }
    match form {
        Form::Json => output::line(&serde_json::to_string_pretty(&all)?)?,
        Form::Table => output::print(&table(&all))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `None` for what is not there.
fn there<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn table(all: &[Listed]) -> String {
    let head = ["NAME", "TAGS", "BUILD", "STATE", "SIZE", "BUILDS", "MEMORY", "UPDATED"];
    let mut rows = vec![head.map(str::to_owned)];
    for Listed { template, tags, size_bytes } in all {
        let name = template.names.first().or(template.aliases.first());
        let tags: Vec<&str> = tags.iter().map(|tag| tag.tag.as_str()).collect();
        rows.push([
            output::printable_name(name.unwrap_or(&template.template_id)),
            output::printable_name(&tags.join(",")),
            template.build_id.chars().take(SHORT_ID).collect(),
            state(template.build_status).to_owned(),
            size_bytes.map_or_else(String::new, |size| format!("{} MiB", size >> 20)),
            template.build_count.to_string(),
            format!("{} MiB", template.memory_mb),
            template.updated_at.clone(),
        ]);
    }
    crate::table::text(&rows)
}

pub(super) const fn state(status: TemplateBuildStatus) -> &'static str {
    match status {
        TemplateBuildStatus::Waiting => "waiting",
        TemplateBuildStatus::Building => "building",
        TemplateBuildStatus::Ready => "ready",
        TemplateBuildStatus::Error => "error",
    }
}

/// Lets tags mean a build from now on.
///
/// # Errors
/// There is no such build, or a tag is none.
pub(super) async fn tag(api: &Api, target: String, tags: Vec<String>) -> anyhow::Result<ExitCode> {
    let body = AssignTags { target, tags };
    let assigned: AssignedTags = api.post("/templates/tags", &body).await?;
    let tags = assigned.tags.join(", ");
    output::line(&format!("build {} is {}", assigned.build_id, output::printable_name(&tags)))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes tags away.
///
/// # Errors
/// There is no such template.
pub(super) async fn untag(api: &Api, name: String, tags: Vec<String>) -> anyhow::Result<ExitCode> {
    api.delete_with("/templates/tags", &DeleteTags { name, tags }).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a template is made of, its builds and its tags.
///
/// # Errors
/// There is no such template or build.
pub(super) async fn inspect(api: &Api, name: &str, form: Form) -> anyhow::Result<ExitCode> {
    let detail: TemplateDetail = api.get(&format!("/v1/templates/{}", segment(name))).await?;
    let id = &detail.template_id;
    let all: TemplateWithBuilds = api.get(&format!("/templates/{id}")).await?;
    let tags: Vec<TemplateTag> = api.get(&format!("/templates/{id}/tags")).await?;
    if let Form::Json = form {
        let whole = serde_json::json!({ "build": detail, "builds": all.builds, "tags": tags });
        output::line(&serde_json::to_string_pretty(&whole)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let details = Details {
        name: detail.names.first().map_or(name, String::as_str),
        template_id: id,
        build: &detail.build_id,
        tags: &detail.tags,
        created: &detail.created_at,
        size_bytes: detail.size_bytes,
        image_digest: detail.image_digest.as_deref(),
        config: config(detail.config),
        limits: Limits::try_from(detail.limits.over(Limits::default())).unwrap_or_default(),
        egress: detail.egress.as_ref(),
    };
    output::print(&details.text())?;
    output::print(&format!("\n{}", builds(&all.builds, &tags)))?;
    Ok(ExitCode::SUCCESS)
}

fn config(body: TemplateConfig) -> BuildConfig {
    let TemplateConfig { user, workdir, env, start, ready } = body;
    BuildConfig { user, workdir, env, start, ready }
}

/// The builds of a template, newest first, each with the tags that mean it.
fn builds(all: &[TemplateBuild], tags: &[TemplateTag]) -> String {
    let mut rows = vec![["BUILD", "STATE", "TAGS", "CREATED"].map(str::to_owned)];
    for build in all {
        let own = tags.iter().filter(|tag| tag.build_id == build.build_id);
        let own: Vec<&str> = own.map(|tag| tag.tag.as_str()).collect();
        rows.push([
            build.build_id.clone(),
            state(build.status).to_owned(),
            output::printable_name(&own.join(",")),
            build.created_at.clone(),
        ]);
    }
    crate::table::text(&rows)
}

/// Removes a template with all its builds.
///
/// # Errors
/// There is none of that name, or sandboxes run from it.
pub(super) async fn remove(api: &Api, name: &str) -> anyhow::Result<ExitCode> {
    let alias: TemplateAlias = api.get(&format!("/templates/aliases/{}", segment(name))).await?;
    api.delete(&format!("/templates/{}", alias.template_id)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the log of a build.
///
/// # Errors
/// There is no such build.
pub(super) async fn logs(api: &Api, build: &str, form: Form) -> anyhow::Result<ExitCode> {
    let template = template_of(api, build).await?;
    let mut offset = 0;
    for _page in 0..MAX_LOG_PAGES {
        // The offset counts entries, as the SDKs do; the cursor of `logs` is a time, of which
        // several entries may have the same.
        let path = format!(
            "/templates/{template}/builds/{build}/status?logsOffset={offset}&limit={LOG_PAGE}"
        );
        let info: TemplateBuildInfo = api.get(&path).await?;
        if info.log_entries.is_empty() {
            break;
        }
        offset += info.log_entries.len();
        for entry in &info.log_entries {
            let line = match form {
                Form::Json => serde_json::to_string(entry)?,
                Form::Table => {
                    let level = level(entry.level);
                    let step = entry.step.as_deref().unwrap_or("-");
                    let message = output::printable_name(entry.message.trim_end());
                    format!("{} {level:5} {step:>8} {message}", entry.timestamp)
                }
            };
            output::line(&line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The template of a build: the wire names builds only below their templates.
async fn template_of(api: &Api, build: &str) -> anyhow::Result<String> {
    let templates: Vec<Template> = api.get("/templates").await?;
    // The installation's own are built elsewhere.
    for template in templates.into_iter().filter(|template| !template.is_default) {
        let path =
            format!("/templates/{}/builds/{}/logs?limit=1", template.template_id, segment(build));
        match api.get::<TemplateBuildLogs>(&path).await {
            Ok(_known) => return Ok(template.template_id),
            Err(ApiError::Refused { status, .. })
                if status == http::StatusCode::NOT_FOUND
                    || status == http::StatusCode::BAD_REQUEST => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!(
        "there is no build {build:?}: `courier template inspect NAME` lists those of a template"
    )
}

const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, status: TemplateBuildStatus, tags: &[&str]) -> Listed {
        let text = |text: &str| text.to_owned();
        let tag = |tag: &&str| TemplateTag {
            tag: text(tag),
            build_id: text("b"),
            created_at: text("2026-01-01T00:00:00Z"),
        };
        Listed {
            template: Template {
                template_id: text("t0"),
                build_id: text("0190d5a0-0000-7000-8000-000000000000"),
                cpu_count: 2,
                memory_mb: 512,
                disk_size_mb: 2_048,
                public: false,
                aliases: vec![text(name)],
                names: vec![format!("project/{name}")],
                created_at: text("2026-01-01T00:00:00Z"),
                updated_at: text("2026-01-02T00:00:00Z"),
                created_by: None,
                last_spawned_at: None,
                spawn_count: 3,
                build_count: 4,
                envd_version: text("0.1.0"),
                build_status: status,
                is_default: false,
            },
            tags: tags.iter().map(tag).collect(),
            size_bytes: tags.first().map(|_tag| 300 << 20),
        }
    }

    #[test]
    fn the_table_shows_tags_builds_and_state() {
        let all = [
            listed("web", TemplateBuildStatus::Ready, &["default", "v1"]),
            listed("broken", TemplateBuildStatus::Error, &[]),
        ];
        insta::assert_snapshot!(table(&all));
    }

    #[test]
    fn a_name_cannot_lead_to_another_path() {
        assert_eq!(segment("a/../b:c?d#e%"), "a%2F..%2Fb%3Ac%3Fd%23e%25");
    }
}
