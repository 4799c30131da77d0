//! Files into a sandbox.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use courier_client::{ClientError, GuestClient, Refusal, WriteTarget};
use courier_protocol::envd::process::{ProcessConfig, StartRequest};
use courier_protocol::node::{Body, BoxError};
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::tree::{self, Entry};

/// Files are read in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;
/// Files that are made executable by one command.
const CHMOD_AT_ONCE: usize = 500;

/// A body that streams what a reader gives.
pub(crate) fn body(reader: impl AsyncRead + Send + 'static) -> Body {
    let pieces = ReaderStream::with_capacity(reader, PIECE_BYTES);
    let frames = pieces.map_ok(Frame::<Bytes>::data).map_err(|error| -> BoxError { error.into() });
    StreamBody::new(frames).boxed_unsync()
}

/// Puts a file, or a folder with all that is in it, into a sandbox. Returns what stayed out:
/// symbolic links, devices, sockets.
pub(crate) async fn upload(
    guest: &GuestClient,
    host: &Path,
    inside: &str,
) -> anyhow::Result<Vec<PathBuf>> {
    let (entries, skipped) = tree::walk(host, inside)?;
    let mut executable = Vec::new();
    for entry in entries {
        match entry {
            Entry::Folder { guest: path } => make_folder(guest, &path).await?,
            Entry::File { host, guest: path } => {
                let is_executable = file(guest, &host, &path).await?;
                if is_executable {
                    executable.push(path);
                }
            }
        }
    }
    for files in executable.chunks(CHMOD_AT_ONCE) {
        make_executable(guest, files).await?;
    }
    Ok(skipped)
}

/// Streams a reader into one file of a sandbox.
pub(crate) async fn from_reader(
    guest: &GuestClient,
    path: &str,
    reader: impl AsyncRead + Send + 'static,
) -> anyhow::Result<()> {
    let target = WriteTarget { path: path.to_owned(), length: None };
    guest
        .write_file(&target, body(reader))
        .await
        .with_context(|| format!("{path} cannot be written in the sandbox"))
}

async fn make_folder(guest: &GuestClient, path: &str) -> anyhow::Result<()> {
    match guest.make_dir(path).await {
        Ok(_entry) => Ok(()),
        Err(error) if error.refusal() == Some(Refusal::AlreadyExists) => Ok(()),
        Err(error) => {
            Err(anyhow::Error::new(error).context(format!("{path} cannot be made in the sandbox")))
        }
    }
}

/// Streams one file in; true when its owner may execute it.
async fn file(guest: &GuestClient, host: &Path, path: &str) -> anyhow::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    let unreadable = || format!("{} cannot be read", host.display());
    let file = tokio::fs::File::open(host).await.with_context(unreadable)?;
    let metadata = file.metadata().await.with_context(unreadable)?;
    let target = WriteTarget { path: path.to_owned(), length: Some(metadata.len()) };
    // A file that grows while it is read must not break the announced length.
    let content = tokio::io::AsyncReadExt::take(file, metadata.len());
    guest.write_file(&target, body(content)).await.with_context(|| {
        format!("{} cannot be written to {path} in the sandbox", host.display())
    })?;
    Ok(metadata.permissions().mode() & 0o100 != 0)
}

/// Files arrive without the permission to execute them; this gives it back.
async fn make_executable(guest: &GuestClient, files: &[String]) -> anyhow::Result<()> {
    let mut args = vec!["a+x".to_owned(), "--".to_owned()];
    args.extend_from_slice(files);
    let process = ProcessConfig { cmd: "/bin/chmod".to_owned(), args, ..ProcessConfig::default() };
    let request =
        StartRequest { process: Some(process), stdin: Some(false), ..StartRequest::default() };
    let mut events = guest.start(&request, None).await?;
    while let Some(event) = events.next().await? {
        if let courier_client::Event::Ended(ended) = event
            && ended.exit_code != Some(0)
        {
            let what = format!("chmod in the sandbox ended with {}", ended.status);
            return Err(ClientError::Protocol { what }.into());
        }
    }
    Ok(())
}
