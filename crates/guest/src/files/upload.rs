//! `POST /files`: a form with files in it, or the bytes of one file.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use http::request::Parts;
use http::{StatusCode, header};
use serde::Serialize;

use crate::context::Context;
use crate::http::{self as answers, Response};
use crate::path;
use crate::user::User;

use super::disposition::{self, Disposition};
use super::error::FilesError;
use super::incoming::Incoming;
use super::metadata::{self, Metadata};
use super::multipart::{Event, Multipart};
use super::query::Query;
use super::sink::{Sink, Target};

/// Most files of one request.
pub(crate) const FILES_MAX: usize = 10_000;

/// A file that was written, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Written {
    /// Last component of its path.
    name: String,
    /// Its absolute path.
    path: String,
    /// Always `file`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The metadata that it was given.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
}

impl Written {
    /// The file at `path`, which has that metadata now.
    pub(super) fn new(path: &std::path::Path, metadata: &Metadata) -> Self {
        let name = path.file_name().unwrap_or_default();
        Self {
            name: name.to_string_lossy().into_owned(),
            path: path.to_string_lossy().into_owned(),
            kind: "file",
            metadata: metadata.clone(),
        }
    }
}

/// Writes what the body holds. Files that were whole before an error stay.
///
/// # Errors
/// [`FilesError`].
pub(super) async fn upload(
    context: &Context,
    user: User,
    query: Query,
    head: &Parts,
    incoming: &mut Incoming,
) -> Result<Response, FilesError> {
    incoming.decode(&head.headers)?;
    let metadata = Arc::new(metadata::from_headers(&head.headers)?);
    let content_type = head.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map_or("", |value| value.to_str().unwrap_or("?"));
    let essence = disposition::parse(content_type).map(|(essence, _)| essence).unwrap_or_default();
    let uploads = Uploads {
        context,
        user,
        path: query.path.filter(|path| !path.is_empty()),
        metadata,
        seen: HashSet::new(),
        written: Vec::new(),
    };
    let written = if essence == "application/octet-stream" {
        uploads.raw(incoming).await?
    } else if essence.starts_with("multipart/") {
        uploads.form(Multipart::new(content_type)?, incoming).await?
    } else {
        return Err(FilesError::ContentType { content_type: content_type.to_owned() });
    };
    Ok(answers::json(StatusCode::OK, &written))
}

/// What one request uploads.
struct Uploads<'a> {
    context: &'a Context,
    user: User,
    /// Where everything goes, when it was said; else the parts say.
    path: Option<String>,
    metadata: Arc<Metadata>,
    seen: HashSet<PathBuf>,
    written: Vec<Written>,
}

impl Uploads<'_> {
    async fn raw(mut self, incoming: &mut Incoming) -> Result<Vec<Written>, FilesError> {
        let path = self.path.take().ok_or(FilesError::NoPath)?;
        let (path, mut sink) = self.begin(&path)?;
        if let Err(error) = fill(&mut sink, incoming).await {
            sink.abandon().await;
            return Err(error);
        }
        self.end(path, sink).await?;
        Ok(self.written)
    }

    async fn form(
        mut self,
        mut parser: Multipart,
        incoming: &mut Incoming,
    ) -> Result<Vec<Written>, FilesError> {
        let mut current = None;
        let taken = self.take_parts(&mut parser, incoming, &mut current).await;
        if let Some((_, sink)) = current.take() {
            sink.abandon().await;
        }
        taken?;
        Ok(self.written)
    }

    /// Writes the files of a form; the one that is being written is `current`.
    async fn take_parts(
        &mut self,
        parser: &mut Multipart,
        incoming: &mut Incoming,
        current: &mut Option<(PathBuf, Sink)>,
    ) -> Result<(), FilesError> {
        loop {
            while let Some(event) = parser.next_event()? {
                match (event, &mut *current) {
                    (Event::Part(disposition), _) => *current = self.begin_part(&disposition)?,
                    (Event::Data(bytes), Some((_, sink))) => sink.write(bytes).await?,
                    // Of a field that is no file.
                    (Event::Data(_), None) => {}
                    (Event::PartEnd, current) => {
                        if let Some((path, sink)) = current.take() {
                            self.end(path, sink).await?;
                        }
                    }
                }
            }
            match incoming.next().await? {
                Some(bytes) => parser.push(bytes),
                None => return Ok(parser.finish()?),
            }
        }
    }

    fn begin_part(
        &mut self,
        disposition: &Disposition,
    ) -> Result<Option<(PathBuf, Sink)>, FilesError> {
        if disposition.name.as_deref() != Some("file") {
            return Ok(None);
        }
        let path = self.path.clone().or_else(|| disposition.filename.clone());
        let path = path.filter(|path| !path.is_empty()).ok_or(FilesError::NoFilename)?;
        self.begin(&path).map(Some)
    }

    fn begin(&mut self, path: &str) -> Result<(PathBuf, Sink), FilesError> {
        let path = path::resolve(path, &self.user.home)
            .map_err(crate::filesystem::error::FilesystemError::from)?;
        if self.seen.len() >= FILES_MAX {
            return Err(FilesError::TooManyFiles);
        }
        if !self.seen.insert(path.clone()) {
            return Err(FilesError::Duplicate { path });
        }
        let sink = Sink::new(Target {
            path: path.clone(),
            user: self.user.clone(),
            metadata: Arc::clone(&self.metadata),
            watches: Arc::clone(self.context.watches()),
        });
        Ok((path, sink))
    }

    async fn end(&mut self, path: PathBuf, sink: Sink) -> Result<(), FilesError> {
        sink.finish().await?;
        self.written.push(Written::new(&path, &self.metadata));
        Ok(())
    }
}

/// Writes all of a body.
async fn fill(sink: &mut Sink, incoming: &mut Incoming) -> Result<(), FilesError> {
    while let Some(bytes) = incoming.next().await? {
        sink.write(bytes).await?;
    }
    Ok(())
}
