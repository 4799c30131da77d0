//! Files out of a sandbox.

use anyhow::Context as _;
use courier_client::GuestClient;
use courier_protocol::envd::filesystem::{EntryInfo, FileType};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::sink::{Existing, Sink};

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Files.
    pub(crate) files: u64,
    /// Bytes of their contents.
    pub(crate) bytes: u64,
    /// What stayed inside: symbolic links, devices, sockets.
    pub(crate) skipped: Vec<String>,
}

/// Fetches a file or a folder as `name` into the sink.
pub(crate) async fn download(
    guest: &GuestClient,
    path: &str,
    sink: &mut Sink,
    name: &str,
    existing: Existing,
) -> anyhow::Result<Fetched> {
    let entry = guest
        .stat(path)
        .await
        .with_context(|| format!("{path} cannot be fetched from the sandbox"))?;
    let mut fetched = Fetched::default();
    match kind(&entry) {
        Kind::File => file(guest, path, sink, (name, existing), &mut fetched).await?,
        // The user named the folder, not what is in it: that replaces nothing.
        Kind::Folder => folder(guest, path, sink, name, &mut fetched).await?,
        Kind::Other => anyhow::bail!("{path} in the sandbox is neither a file nor a folder"),
    }
    Ok(fetched)
}

enum Kind {
    File,
    Folder,
    Other,
}

fn kind(entry: &EntryInfo) -> Kind {
    match FileType::try_from(entry.kind) {
        Ok(FileType::File) => Kind::File,
        Ok(FileType::Directory) => Kind::Folder,
        Ok(FileType::Symlink | FileType::Unspecified) | Err(_) => Kind::Other,
    }
}

/// A folder level by level: each listing is as bounded as one answer, and the sink bounds the
/// whole. Names are the guest's; the sink lets plain ones through only.
async fn folder(
    guest: &GuestClient,
    path: &str,
    sink: &mut Sink,
    name: &str,
    fetched: &mut Fetched,
) -> anyhow::Result<()> {
    let mut pending = vec![(path.trim_end_matches('/').to_owned(), name.to_owned())];
    while let Some((path, name)) = pending.pop() {
        if !name.is_empty() {
            sink.folder(name.as_bytes())?;
        }
        let shown = if path.is_empty() { "/" } else { &path };
        let entries = guest
            .list_dir(shown, 1)
            .await
            .with_context(|| format!("{shown} cannot be listed in the sandbox"))?;
        for entry in entries {
            let below = format!("{path}/{}", entry.name);
            let target =
                if name.is_empty() { entry.name.clone() } else { format!("{name}/{}", entry.name) };
            match kind(&entry) {
                _ if entry.is_symlink => fetched.skipped.push(below),
                Kind::Folder => pending.push((below, target)),
                Kind::File => file(guest, &below, sink, (&target, Existing::Keep), fetched).await?,
                Kind::Other => fetched.skipped.push(below),
            }
        }
    }
    Ok(())
}

async fn file(
    guest: &GuestClient,
    path: &str,
    sink: &mut Sink,
    (name, existing): (&str, Existing),
    fetched: &mut Fetched,
) -> anyhow::Result<()> {
    let failed = || format!("{path} cannot be fetched from the sandbox");
    let mut draft = sink.file(name.as_bytes(), existing)?;
    let mut content = guest.read_file(path).await.with_context(failed)?.body;
    while let Some(frame) = content.frame().await {
        let frame = frame.map_err(|error| anyhow::anyhow!(error)).with_context(failed)?;
        if let Ok(piece) = frame.into_data() {
            sink.count_bytes(piece.len())?;
            fetched.bytes = fetched.bytes.saturating_add(piece.len().try_into().unwrap_or(0));
            draft.write(&piece)?;
        }
    }
    draft.finish()?;
    fetched.files = fetched.files.saturating_add(1);
    Ok(())
}

/// Streams one file of a sandbox to a writer.
pub(crate) async fn to_writer(
    guest: &GuestClient,
    path: &str,
    writer: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    let failed = || format!("{path} cannot be fetched from the sandbox");
    let mut content = guest.read_file(path).await.with_context(failed)?.body;
    while let Some(frame) = content.frame().await {
        let frame = frame.map_err(|error| anyhow::anyhow!(error)).with_context(failed)?;
        if let Ok(piece) = frame.into_data() {
            writer.write_all(&piece).await?;
        }
    }
    writer.flush().await?;
    Ok(())
}
