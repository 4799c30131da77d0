//! Building templates: what clients send, and what they get.

use serde::{Deserialize, Serialize};

use super::LogLevel;
use crate::secret::GivenSecret;

/// Body of `POST /v3/templates`. Unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewTemplateBuild {
    /// Name of the template, `[namespace/]name[:tag]`; the namespace must be the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags that the build gets when it is ready, beside the one of the name; `default` where there
    /// is none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The same as `name` (deprecated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Cores of its sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<u64>,
    /// Memory of its sandboxes in MiB.
    #[serde(default, rename = "memoryMB", skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// What its sandboxes can write to their disk at least, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free_disk_mb: Option<u64>,
}

/// Answer of `POST /v3/templates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestedTemplateBuild {
    /// Id of the template.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Id of the build, a UUID.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// Whether every project may use the template.
    pub public: bool,
    /// Names of the template, with its namespace.
    pub names: Vec<String>,
    /// Tags that the build gets when it is ready.
    pub tags: Vec<String>,
    /// Names of the template, without its namespace.
    pub aliases: Vec<String>,
}

/// Answer of `GET /templates/{templateID}/files/{hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateFiles {
    /// Whether the archive is there.
    pub present: bool,
    /// Where to PUT it, with its exact `Content-Length`; the URL needs no key and expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Body of `POST /v2/templates/{templateID}/builds/{buildID}`. Unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StartTemplateBuild {
    /// An OCI image to start from; not with `fromTemplate`. Neither: `e2bdev/base`, which stands
    /// for template `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<String>,
    /// A template to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_template: Option<String>,
    /// What the image's registry wants to see; kept in memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image_registry: Option<ImageRegistry>,
    /// Command line that is started in every sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_cmd: Option<String>,
    /// Command line that succeeds when a sandbox is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_cmd: Option<String>,
    /// Nothing that an earlier build made is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// What is done, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<TemplateStep>>,
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TemplateStep {
    /// `RUN`, `COPY`, `WORKDIR`, `USER`, `ENV`.
    #[serde(rename = "type")]
    pub kind: String,
    /// RUN: command, user. COPY: source, destination, owner, mode in octal digits. WORKDIR: path.
    /// USER: name. ENV: name, value, name, value, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// COPY: the uploaded archive, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_hash: Option<String>,
    /// This step and everything after it is done though it was done before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// Credentials of an image's registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum ImageRegistry {
    /// A user and a password or token.
    Registry {
        /// The user.
        username: String,
        /// The password.
        #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
        password: GivenSecret,
    },
    /// A Google service account.
    Gcp {
        /// Its key file.
        #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
        service_account_json: GivenSecret,
    },
    /// An AWS access key: refused, with what to do instead.
    Aws {},
}

/// State of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TemplateBuildStatus {
    /// It was asked for, and not started.
    Waiting,
    /// It is being made.
    Building,
    /// Sandboxes can be made from it.
    Ready,
    /// It failed.
    Error,
}

/// One entry of a build's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuildLogEntry {
    /// When, RFC 3339.
    pub timestamp: String,
    /// One line.
    pub message: String,
    /// How much it matters.
    pub level: LogLevel,
    /// Where: `base`, the number of a step from 1, `finalize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// Why a build failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BuildStatusReason {
    /// For its author.
    pub message: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The newest entries of the log there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_entries: Vec<BuildLogEntry>,
}

/// Answer of `GET /templates/{templateID}/builds/{buildID}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TemplateBuildInfo {
    /// Id of the template.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Id of the build.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// How far it is.
    pub status: TemplateBuildStatus,
    /// Empty: old clients want it.
    pub logs: Vec<String>,
    /// One page of the log.
    pub log_entries: Vec<BuildLogEntry>,
    /// Why it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<BuildStatusReason>,
}

/// Answer of `GET /templates/{templateID}/builds/{buildID}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateBuildLogs {
    /// The entries.
    pub logs: Vec<BuildLogEntry>,
}

/// One build of `GET /templates/{templateID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TemplateBuild {
    /// Its id.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// How far it is.
    pub status: TemplateBuildStatus,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// When its state last changed, RFC 3339.
    pub updated_at: String,
    /// When it ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Cores of its sandboxes, rounded up.
    pub cpu_count: u32,
    /// Memory of its sandboxes in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u32,
    /// Writable disk of its sandboxes in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u32,
    /// Version of the envd protocol inside.
    pub envd_version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_sdk_sends_is_read_and_what_it_leaks_is_ignored() {
        let body = r#"{"steps":[{"type":"COPY","args":["a","b","",""],"filesHash":"00",
            "forceUpload":true,"resolveSymlinks":false,"gzip":true,"force":false}],
            "force":false,"fromImage":"python:3",
            "fromImageRegistry":{"type":"registry","username":"u","password":"p"}}"#;
        let start: StartTemplateBuild = serde_json::from_str(body).unwrap();
        assert_eq!(start.steps.unwrap()[0].kind, "COPY");
        assert!(!format!("{:?}", start.from_image_registry).contains("\"p\""));
    }

    #[test]
    fn every_kind_of_credentials_is_known() {
        for body in [
            r#"{"type":"gcp","serviceAccountJson":"{}"}"#,
            r#"{"type":"aws","awsAccessKeyId":"a","awsSecretAccessKey":"b","awsRegion":"c"}"#,
        ] {
            serde_json::from_str::<ImageRegistry>(body).unwrap();
        }
    }
}
