//! `--in HOST[:GUEST]` and `--out GUEST[:HOST]`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use courier_client::GuestClient;

use crate::output::printable_name;
use crate::transfer::download::{self, Fetched};
use crate::transfer::sink::{Existing, Sink};
use crate::transfer::upload;

/// A file or folder of the host for the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileIn {
    host: PathBuf,
    guest: String,
}

impl FromStr for FileIn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, guest) = split(text)?;
        let guest = match guest {
            Some(guest) => guest.to_owned(),
            None => name_of(host)
                .ok_or_else(|| format!("{host:?} has no name of its own: write HOST:GUEST"))?,
        };
        Ok(Self { host: host.into(), guest })
    }
}

impl FileIn {
    /// Fails early where there is nothing to read.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        std::fs::metadata(&self.host)
            .map(|_there| ())
            .with_context(|| format!("--in: {} cannot be read", self.host.display()))
    }

    /// Puts it in; says what stayed out.
    pub(crate) async fn put(&self, guest: &GuestClient) -> anyhow::Result<()> {
        for path in upload::upload(guest, &self.host, &self.guest).await? {
            eprintln!("courier: left out: {} (neither a file nor a folder)", path.display());
        }
        Ok(())
    }
}

/// A file or folder of the sandbox for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileOut {
    guest: String,
    host: Option<PathBuf>,
}

impl FromStr for FileOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (guest, host) = split(text)?;
        if host.is_none() && name_of(guest).is_none() {
            return Err(format!("{guest:?} has no name of its own: write GUEST:HOST"));
        }
        Ok(Self { guest: guest.to_owned(), host: host.map(PathBuf::from) })
    }
}

impl FileOut {
    /// Fails early where there is no folder to write to.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let (folder, _name, _existing) = self.destination()?;
        anyhow::ensure!(folder.is_dir(), "--out: {} is not a folder", folder.display());
        Ok(())
    }

    /// Fetches it; says what stayed inside.
    pub(crate) async fn fetch(
        &self,
        guest: &GuestClient,
        max_bytes: u64,
    ) -> anyhow::Result<Fetched> {
        let (folder, name, existing) = self.destination()?;
        let mut sink = Sink::open(&folder, max_bytes)?;
        let fetched = download::download(guest, &self.guest, &mut sink, &name, existing).await?;
        for path in &fetched.skipped {
            eprintln!(
                "courier: left inside: {} (neither a file nor a folder)",
                printable_name(path)
            );
        }
        Ok(fetched)
    }

    /// The path inside.
    pub(crate) fn guest(&self) -> &str {
        &self.guest
    }

    /// The folder to write to, the name there, and whether that name may be replaced: only where
    /// the user wrote it.
    fn destination(&self) -> anyhow::Result<(PathBuf, String, Existing)> {
        let own_name = || name_of(&self.guest).context("--out: name the path on this machine");
        match &self.host {
            None => Ok((PathBuf::from("."), own_name()?, Existing::Keep)),
            Some(host) if host.is_dir() => Ok((host.clone(), own_name()?, Existing::Keep)),
            Some(host) => {
                let name = host
                    .file_name()
                    .and_then(|name| name.to_str())
                    .with_context(|| format!("--out: {} is no name", host.display()))?;
                let folder = match host.parent() {
                    Some(folder) if folder != Path::new("") => folder.to_owned(),
                    Some(_) | None => PathBuf::from("."),
                };
                Ok((folder, name.to_owned(), Existing::Replace))
            }
        }
    }
}

/// Splits at the last colon; a part that is empty is a mistake.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    match text.rsplit_once(':') {
        Some((first, second)) if !first.is_empty() && !second.is_empty() => {
            Ok((first, Some(second)))
        }
        None if !text.is_empty() => Ok((text, None)),
        Some(_) | None => Err("a path is missing before or after the colon".to_owned()),
    }
}

/// The last component of a path, unless it is no name.
fn name_of(path: &str) -> Option<String> {
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    (!matches!(name, "" | "." | "..")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_in_under_its_own_name_unless_another_is_given() {
        let parsed = |text: &str| text.parse::<FileIn>().map(|file| (file.host, file.guest));
        assert_eq!(parsed("a/b.csv"), Ok(("a/b.csv".into(), "b.csv".into())));
        assert_eq!(parsed("a:/data/x"), Ok(("a".into(), "/data/x".into())));
        for text in ["", ":", "a:", ":b", "..", "/"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_name_that_the_user_wrote_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().display();
        let at = |text: String| text.parse::<FileOut>().unwrap().destination().unwrap();
        assert_eq!(at("/x/y".into()), (".".into(), "y".into(), Existing::Keep));
        assert_eq!(at(format!("y:{shown}")), (dir.path().into(), "y".into(), Existing::Keep));
        assert_eq!(at(format!("y:{shown}/z")), (dir.path().into(), "z".into(), Existing::Replace));
        assert_eq!(at("y:z".into()), (".".into(), "z".into(), Existing::Replace));
    }

    #[test]
    fn an_out_path_without_a_name_needs_one_on_the_host() {
        assert!("/".parse::<FileOut>().is_err());
        assert!("/:rootfs".parse::<FileOut>().is_ok());
    }
}
