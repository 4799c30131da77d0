//! `courier sandbox cp`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use courier_client::{GuestClient, Refusal};
use courier_protocol::envd::filesystem::FileType;
use courier_types::SandboxId;

use super::remote;
use crate::api::Api;
use crate::output::printable_name;
use crate::transfer::sink::{Existing, Sink};
use crate::transfer::{download, upload};

/// A copy out is cut at this size: a sandbox may show a sparse file as large as it likes.
const MAX_OUT_BYTES: u64 = 1 << 40;

/// Flags of `courier sandbox cp`.
///
/// Folders are copied whole, symbolic links in them are left out. A path inside is absolute or
/// relative to the home folder. Into an existing folder, the source goes under its own name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// From: ID:PATH, PATH or - for standard input
    #[arg(value_name = "FROM")]
    from: Place,
    /// To: PATH, ID:PATH or - for standard output
    #[arg(value_name = "TO")]
    to: Place,
    /// User inside
    #[arg(long, short, value_name = "NAME")]
    user: Option<String>,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Guest { id: SandboxId, path: String },
    Host(PathBuf),
    Stdio,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdio);
        }
        if let Some((id, path)) = text.split_once(':')
            && let Ok(id) = id.parse()
        {
            if path.is_empty() {
                return Err("name a path inside: ID:PATH".to_owned());
            }
            return Ok(Self::Guest { id, path: path.to_owned() });
        }
        if text.is_empty() {
            return Err("name a path".to_owned());
        }
        Ok(Self::Host(text.into()))
    }
}

/// Copies.
pub(crate) async fn run(args: &Args, api: &Api) -> anyhow::Result<ExitCode> {
    let user = args.user.as_deref();
    match (&args.from, &args.to) {
        (Place::Guest { id, path }, Place::Host(host)) => {
            let guest = remote::open(api, id).await?.as_user(user);
            let (folder, name) = destination(host, path)?;
            let mut sink = Sink::open(&folder, MAX_OUT_BYTES)?;
            // The user named the destination; what lies below a folder was not named.
            let existing = if host.is_dir() { Existing::Keep } else { Existing::Replace };
            let fetched = download::download(&guest, path, &mut sink, &name, existing).await?;
            for path in &fetched.skipped {
                eprintln!(
                    "courier: left out: {} (neither a file nor a folder)",
                    printable_name(path)
                );
            }
        }
        (Place::Guest { id, path }, Place::Stdio) => {
            let guest = remote::open(api, id).await?.as_user(user);
            download::to_writer(&guest, path, &mut tokio::io::stdout()).await?;
        }
        (Place::Host(host), Place::Guest { id, path }) => {
            let guest = remote::open(api, id).await?.as_user(user);
            let inside = destination_inside(&guest, host, path).await?;
            for path in upload::upload(&guest, host, &inside).await? {
                eprintln!("courier: left out: {} (neither a file nor a folder)", path.display());
            }
        }
        (Place::Stdio, Place::Guest { id, path }) => {
            let guest = remote::open(api, id).await?.as_user(user);
            upload::from_reader(&guest, path, tokio::io::stdin()).await?;
        }
        (Place::Guest { .. }, Place::Guest { .. }) => {
            bail!("one end must be on this machine: copy out first, then in")
        }
        (Place::Host(_) | Place::Stdio, Place::Host(_) | Place::Stdio) => {
            bail!("one end must be in a sandbox: write it as ID:PATH")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The path inside to write to: under its own name into a folder that is there.
async fn destination_inside(
    guest: &GuestClient,
    host: &Path,
    path: &str,
) -> anyhow::Result<String> {
    let is_folder = match guest.stat(path).await {
        Ok(entry) => FileType::try_from(entry.kind) == Ok(FileType::Directory),
        Err(error) if error.refusal() == Some(Refusal::NotFound) => path.ends_with('/'),
        Err(error) => return Err(error.into()),
    };
    match (is_folder, host.file_name()) {
        (true, Some(name)) => {
            let name = name.to_str().context("the name is not UTF-8; write one: ID:PATH")?;
            Ok(format!("{}/{name}", path.trim_end_matches('/')))
        }
        (false, _) | (true, None) => Ok(path.to_owned()),
    }
}

/// The folder of the host to write to, and the name there.
fn destination(host: &Path, inside: &str) -> anyhow::Result<(PathBuf, String)> {
    if host.is_dir() {
        let name = inside.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        // The folder's own content where the path has no name, as of `/`.
        let name = if name == "." || name == ".." { "" } else { name };
        return Ok((host.to_owned(), name.to_owned()));
    }
    let name = host
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} is no name for a file", host.display()))?;
    let folder = match host.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    Ok((folder, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_inside_begins_with_an_id() {
        let id = "i0123456789abcdefghij";
        let place: Place = format!("{id}:/a:b").parse().unwrap();
        assert_eq!(place, Place::Guest { id: id.parse().unwrap(), path: "/a:b".into() });
        assert_eq!("-".parse(), Ok(Place::Stdio));
        assert_eq!("c:\\x".parse(), Ok(Place::Host("c:\\x".into())));
        assert!(format!("{id}:").parse::<Place>().is_err());
    }

    #[test]
    fn a_file_goes_under_its_own_name_into_a_folder_and_under_a_new_one_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_owned();
        assert_eq!(destination(&folder, "/x/y").unwrap(), (folder.clone(), "y".into()));
        assert_eq!(destination(&folder.join("z"), "/x/y").unwrap(), (folder, "z".into()));
        assert_eq!(destination(Path::new("z"), "y").unwrap(), (".".into(), "z".into()));
    }
}
