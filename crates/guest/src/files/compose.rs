//! `POST /files/compose`: one file made of others, which are then removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use rustix::fs::{Gid, OFlags, Uid};
use serde::Deserialize;

use crate::context::Context;
use crate::filesystem::error::FilesystemError;
use crate::filesystem::{Watches, directories};
use crate::http::{self as answers, Response};
use crate::path;
use crate::user::User;

use super::error::FilesError;
use super::incoming::Incoming;
use super::metadata::Metadata;
use super::reader::CHUNK;
use super::sink::{not_a_file, open_for_writing};
use super::upload::Written;

/// Longest request: some thousand paths.
pub(crate) const REQUEST_MAX: usize = 1 << 20;

/// What to make of what.
#[derive(Debug, Deserialize)]
struct Request {
    #[serde(default, alias = "sourcePaths")]
    source_paths: Vec<String>,
    #[serde(default)]
    destination: String,
    #[serde(default)]
    username: Option<String>,
}

/// Makes a file of the files that the body names, in that order. The destination appears whole or
/// not at all; the sources go only when it is there.
///
/// # Errors
/// [`FilesError`].
pub(super) async fn compose(
    context: &Context,
    username: Option<String>,
    incoming: &mut Incoming,
) -> Result<Response, FilesError> {
    let mut body = Vec::new();
    while let Some(bytes) = incoming.next().await? {
        if body.len() + bytes.len() > REQUEST_MAX {
            return Err(FilesError::LongCompose);
        }
        body.extend_from_slice(&bytes);
    }
    let request: Request = serde_json::from_slice(&body).map_err(FilesError::Compose)?;
    if request.source_paths.is_empty() {
        return Err(FilesError::NoSources);
    }
    if request.destination.is_empty() {
        return Err(FilesError::NoDestination);
    }
    let user = context.user(request.username.or(username).as_deref())?;
    let resolve = |text: &str| path::resolve(text, &user.home).map_err(FilesystemError::from);
    let destination = resolve(&request.destination)?;
    let mut sources = Vec::new();
    for source_path in request.source_paths {
        let source = resolve(&source_path)?;
        if source == destination {
            return Err(FilesError::SourceIsDestination { source_path });
        }
        sources.push(source);
    }
    let written = Written::new(&destination, &Metadata::new());
    let watches = Arc::clone(context.watches());
    let work = move || assemble(&sources, &destination, &user, &watches);
    tokio::task::spawn_blocking(work).await.map_err(FilesystemError::from)??;
    Ok(answers::json(StatusCode::OK, &written))
}

fn assemble(
    sources: &[PathBuf],
    destination: &Path,
    user: &User,
    watches: &Watches,
) -> Result<(), FilesystemError> {
    for source in sources {
        let status =
            fs::metadata(source).map_err(|error| FilesystemError::io("stat", source, error))?;
        if !status.is_file() {
            let kind = if status.is_dir() { "directory" } else { "special file" };
            return Err(not_a_file(source, kind));
        }
    }
    let parent = destination.parent().unwrap_or(Path::new("/"));
    directories::ensure(parent, user, watches)?;
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| FilesystemError::io("name a part of", destination, errno))?;
    let part = parent.join(format!(".compose-{:016x}.part", u64::from_ne_bytes(random)));
    let assembled = concatenate(sources, &part, user).and_then(|()| {
        fs::rename(&part, destination)
            .map_err(|error| FilesystemError::io("compose", destination, error))
    });
    if assembled.is_err() {
        // The error that is told is the first one; the part may not even have been made.
        let _ = fs::remove_file(&part);
        return assembled;
    }
    for source in sources {
        match fs::remove_file(source) {
            // It was named twice, or someone else removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.map_err(|error| FilesystemError::io("remove", source, error))?,
        }
    }
    Ok(())
}

fn concatenate(sources: &[PathBuf], part: &Path, user: &User) -> Result<(), FilesystemError> {
    let file = open_for_writing(part, OFlags::EXCL)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
        .map_err(|errno| FilesystemError::io("change the owner of", part, errno))?;
    let mut buffer = vec![0; CHUNK];
    for source in sources {
        append(source, &file, part, &mut buffer)?;
    }
    Ok(())
}

fn append(
    source: &Path,
    mut file: &File,
    part: &Path,
    buffer: &mut [u8],
) -> Result<(), FilesystemError> {
    use std::io::{Read as _, Write as _};
    let mut reader =
        File::open(source).map_err(|error| FilesystemError::io("open", source, error))?;
    loop {
        let length = match reader.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FilesystemError::io("read", source, error)),
        };
        file.write_all(buffer.get(..length).unwrap_or_default())
            .map_err(|error| FilesystemError::io("write", part, error))?;
    }
}
