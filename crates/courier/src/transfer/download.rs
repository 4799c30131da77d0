//! Files out of a sandbox.

use anyhow::Context as _;
use courier_client::GuestClient;
use courier_protocol::envd::filesystem::{EntryInfo, FileType};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::sink::{Existing, Sink, SinkError};

/// Most entries in all listings of one transfer, what stays inside included: a guest can make them
/// up without an end.
const MAX_LISTED: usize = 200_000;

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

/// A folder level by level: each listing is as bounded as one answer, all of them together by
/// [`MAX_LISTED`]. Names are the guest's; the sink lets plain ones through only.
async fn folder(
    guest: &GuestClient,
    path: &str,
    sink: &mut Sink,
    name: &str,
    fetched: &mut Fetched,
) -> anyhow::Result<()> {
    let mut listed = 0_usize;
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
        listed = listed.saturating_add(entries.len());
        if listed > MAX_LISTED {
            let limit = format!("{MAX_LISTED} files, folders and links");
            return Err(SinkError::TooMuch { limit }.into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use courier_client::{Transport, TransportError, full};
    use courier_protocol::envd::connect::{self, Codec};
    use courier_protocol::envd::filesystem::{EntryResponse, ListDirResponse};
    use courier_protocol::node::Body;
    use std::path::Path;
    use std::sync::Arc;

    /// A guest that shows one folder with these names, and is endless below it.
    struct Liar {
        names: Vec<(String, FileType)>,
    }

    fn entry(name: &str, kind: FileType) -> EntryInfo {
        EntryInfo { name: name.to_owned(), kind: kind.into(), ..EntryInfo::default() }
    }

    #[async_trait]
    impl Transport for Liar {
        async fn send(
            &self,
            request: http::Request<Body>,
        ) -> Result<http::Response<Body>, TransportError> {
            let proto = http::Response::builder().header("content-type", "application/proto");
            let answer = match request.uri().path() {
                "/filesystem.Filesystem/Stat" => {
                    let entry = Some(entry("top", FileType::Directory));
                    proto.body(full(connect::encode(Codec::Proto, &EntryResponse { entry })))
                }
                "/filesystem.Filesystem/ListDir" => {
                    let entries = self.names.iter().map(|(name, kind)| entry(name, *kind));
                    let listing = ListDirResponse { entries: entries.collect() };
                    proto.body(full(connect::encode(Codec::Proto, &listing)))
                }
                _file => http::Response::builder().body(full("content")),
            };
            Ok(answer.unwrap())
        }
    }

    async fn fetch(folder: &Path, names: &[(&str, FileType)]) -> anyhow::Result<Fetched> {
        let names = names.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        let guest = GuestClient::new(Arc::new(Liar { names }));
        let mut sink = Sink::open(folder, 1 << 20)?;
        download(&guest, "/data", &mut sink, "out", Existing::Replace).await
    }

    #[tokio::test]
    async fn names_of_a_hostile_guest_write_nothing_outside_the_folder() {
        for name in ["../evil", "/evil", "..", "a/../../evil", ""] {
            let outer = tempfile::tempdir().unwrap();
            let inner = outer.path().join("inner");
            std::fs::create_dir(&inner).unwrap();
            assert!(fetch(&inner, &[(name, FileType::File)]).await.is_err(), "{name:?}");
            assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1, "{name:?}");
            assert_eq!(std::fs::read_dir(inner.join("out")).unwrap().count(), 0, "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_tree_without_a_bottom_ends_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = fetch(dir.path(), &[("deeper", FileType::Directory)]).await.unwrap_err();
        assert!(error.to_string().contains("name"), "{error}");
    }

    #[tokio::test]
    async fn a_tree_of_links_without_an_end_ends_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..50_000).map(|number| format!("link{number}")).collect();
        let mut entries: Vec<(&str, FileType)> =
            names.iter().map(|name| (name.as_str(), FileType::Symlink)).collect();
        entries.extend([("a", FileType::Directory), ("b", FileType::Directory)]);
        let error = fetch(dir.path(), &entries).await.unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_comes_twice_does_not_replace_what_came_first() {
        let dir = tempfile::tempdir().unwrap();
        let twice = [("a", FileType::File), ("a", FileType::File)];
        assert!(fetch(dir.path(), &twice).await.is_err());
        assert_eq!(std::fs::read_to_string(dir.path().join("out/a")).unwrap(), "content");
    }
}
