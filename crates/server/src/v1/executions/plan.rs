//! A checked execution: everything that can be refused is refused here, before a sandbox is made.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use courier_client::execution::{ExecutionSpec, FileIn, OutputBound, OutputPolicy, Stdin};
use courier_client::glob::Pattern;
use courier_client::language::Language;
use courier_client::{WriteTarget, full};
use courier_protocol::v1::{ExecutionRequest, SourceFile};
use courier_store::{ProjectRow, Purpose};

use super::super::DEFAULT_TEMPLATE;
use crate::app::App;
use crate::egress::{Asked, EnvOrder};
use crate::http::ApiError;
use crate::sandboxes::{CreateOrder, admit_timeout, check_env};

/// How long a program may run when nobody says.
const TIMEOUT_MS: u64 = 30_000;

/// What a sandbox gets beyond its program's time, for files in and out: the program's own timeout
/// is kept by the guest and by us, this one by the node.
const MARGIN: Duration = Duration::from_secs(30);

/// Bytes of each output stream that are kept when nobody says.
const OUTPUT_BYTES: u64 = 1024 * 1024;

/// Most bytes of each output stream that may be kept.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most files in, arguments, and patterns of files out.
const ITEMS_MAX: usize = 1_024;

/// Longest path, in bytes: Linux's own.
const PATH_MAX: usize = 4_096;

/// An execution that may be made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) order: CreateOrder,
    pub(super) spec: ExecutionSpec,
}

impl Plan {
    pub(super) async fn new(
        app: &App,
        project: &ProjectRow,
        mut request: ExecutionRequest,
    ) -> Result<Self, ApiError> {
        check_counts(&request)?;
        let asked = Duration::from_millis(request.timeout_ms.unwrap_or(TIMEOUT_MS));
        let timeout = admit_timeout(app, asked)?;
        let template = request.template.as_deref().unwrap_or(DEFAULT_TEMPLATE);
        let asked = request.egress.take().map_or(Asked::Nothing, Asked::Whole);
        let environment = EnvOrder::new(app, &project.id, std::mem::take(&mut request.env)).await?;
        check_env(&environment.env)?;
        let mut order = CreateOrder::new(app, project, template, timeout)
            .await?
            .with_egress(app, asked)
            .await?
            .with_limits(request.limits)?
            .require_isolation(app, request.isolation)?;
        order.tokens = environment.tokens;
        order.purpose = Purpose::Execution;
        order.timeout = timeout.saturating_add(MARGIN).saturating_add(app.config.create_timeout);
        let spec = ExecutionSpec { env: environment.env, ..spec(request, timeout)? };
        Ok(Self { order, spec })
    }
}

fn check_counts(request: &ExecutionRequest) -> Result<(), ApiError> {
    for (what, count) in [
        ("files", request.files.len()),
        ("args", request.args.len()),
        ("collect", request.collect.len()),
    ] {
        if count > ITEMS_MAX {
            return Err(ApiError::bad_request(format!("{what} has more than {ITEMS_MAX} entries")));
        }
    }
    if request.args.iter().any(|arg| arg.contains('\0')) {
        return Err(ApiError::bad_request("an argument cannot have a NUL byte"));
    }
    Ok(())
}

fn spec(request: ExecutionRequest, timeout: Duration) -> Result<ExecutionSpec, ApiError> {
    let output = request.output_bytes_max.unwrap_or(OUTPUT_BYTES);
    if output == 0 || output > OUTPUT_BYTES_MAX {
        let message = format!("output_bytes_max must be 1 to {OUTPUT_BYTES_MAX}");
        return Err(ApiError::bad_request(message));
    }
    let files_out = request
        .collect
        .iter()
        .map(|text| Pattern::parse(text))
        .collect::<Result<_, _>>()
        .map_err(|error| ApiError::bad_request(format!("collect: {error}")))?;
    let mut files = request.files.into_iter().map(content).collect::<Result<Vec<_>, _>>()?;
    let (source, file_name) = match (request.code, request.entry) {
        (Some(code), None) => (Bytes::from(code), None),
        (None, Some(entry)) => (take_entry(&mut files, &entry)?, Some(entry)),
        (Some(_), Some(_)) | (None, None) => {
            return Err(ApiError::bad_request("say either code or entry (one of files)"));
        }
    };
    Ok(ExecutionSpec {
        language: language(request.language.as_deref(), file_name.as_deref(), &source)?,
        source,
        file_name,
        args: request.args,
        env: BTreeMap::new(),
        files_in: files.into_iter().map(file_in).collect(),
        files_out,
        stdin: request.stdin.map_or(Stdin::Empty, |text| Stdin::Body(full(text))),
        timeout,
        output: OutputBound { limit_bytes: output, policy: OutputPolicy::Cut },
        cwd: None,
    })
}

fn language(
    name: Option<&str>,
    file_name: Option<&str>,
    source: &[u8],
) -> Result<Language, ApiError> {
    match name {
        Some(name) => {
            Language::from_name(name).map_err(|error| ApiError::bad_request(error.to_string()))
        }
        None => Language::detect(file_name, source).ok_or_else(|| {
            let names = Language::names().join(", ");
            ApiError::bad_request(format!("language is missing: use one of {names}"))
        }),
    }
}

/// A file with its content as bytes.
type Content = (String, Bytes);

fn content(file: SourceFile) -> Result<Content, ApiError> {
    let shown: String = file.path.chars().take(64).collect();
    if file.path.is_empty() || file.path.len() > PATH_MAX || file.path.contains('\0') {
        return Err(ApiError::bad_request(format!("files: {shown:?} is no path")));
    }
    match (file.text, file.base64) {
        (Some(text), None) => Ok((file.path, Bytes::from(text))),
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Ok((file.path, Bytes::from(bytes))),
            Err(error) => Err(ApiError::bad_request(format!("files: {shown:?}: {error}"))),
        },
        (Some(_), Some(_)) | (None, None) => {
            Err(ApiError::bad_request(format!("files: {shown:?} needs either text or base64")))
        }
    }
}

fn take_entry(files: &mut Vec<Content>, entry: &str) -> Result<Bytes, ApiError> {
    if entry.contains('/') || matches!(entry, "" | "." | "..") {
        return Err(ApiError::bad_request("entry must be a name in the home folder, without '/'"));
    }
    let at = files.iter().position(|(path, _bytes)| path == entry);
    let at = at.ok_or_else(|| ApiError::bad_request("entry must be the path of one of files"))?;
    Ok(files.remove(at).1)
}

fn file_in((path, bytes): Content) -> FileIn {
    let length = u64::try_from(bytes.len()).ok();
    FileIn { target: WriteTarget { path, length }, content: full(bytes) }
}
