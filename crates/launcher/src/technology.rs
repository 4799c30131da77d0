//! runsc: where it is, and whether it is new enough.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::wire::Refusal;

/// Where runsc is looked for; the environment is not asked.
const PLACES: [&str; 4] =
    ["/usr/local/bin/runsc", "/usr/local/sbin/runsc", "/usr/bin/runsc", "/usr/sbin/runsc"];
/// The oldest release (a date) that runs an EROFS root with an overlay in a directory on systrap.
/// Newer ones are welcome; see docs/decisions/0002-runsc-version.md.
const OLDEST: u32 = 20_240_408;
/// What to do about a missing or old one.
const REMEDY: &str = "install runsc from Debian's bookworm-backports (apt-get install -t \
                      bookworm-backports runsc) or a newer release from gVisor's own site";

/// A runsc that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runsc {
    /// Its file.
    pub(crate) path: PathBuf,
    /// Its version as it says it: `0.0~20240729.0`.
    pub(crate) version: String,
}

/// Device, inode and time of change: another file has another one.
type FileId = (u64, u64, i64);

/// Finds runsc, and looks at it again only when its file has changed: asking costs 15 ms.
#[derive(Debug)]
pub(crate) struct Finder {
    places: Vec<PathBuf>,
    seen: Mutex<Option<(FileId, Runsc)>>,
}

impl Finder {
    /// Looks in one place only, or in the usual ones.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let places = path.map_or_else(|| PLACES.map(PathBuf::from).to_vec(), |path| vec![path]);
        Self { places, seen: Mutex::new(None) }
    }

    /// The runsc to use.
    pub(crate) fn find(&self) -> Result<Runsc, Refusal> {
        let found = self.places.iter().find_map(|path| Some((path, path.metadata().ok()?)));
        let Some((path, meta)) = found else {
            let places: Vec<String> = self.places.iter().map(|p| p.display().to_string()).collect();
            return Err(unavailable(format!("runsc is not installed ({})", places.join(", "))));
        };
        let file = (meta.dev(), meta.ino(), meta.mtime());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, runsc)) = seen.as_ref()
            && *known == file
        {
            return Ok(runsc.clone());
        }
        let runsc = Runsc { path: path.clone(), version: ask(path)? };
        *seen = Some((file, runsc.clone()));
        Ok(runsc)
    }
}

fn ask(path: &Path) -> Result<String, Refusal> {
    let output = Command::new(path)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| unavailable(format!("{} does not run: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("runsc version "));
    match version.map(|version| (version, release(version))) {
        Some((version, Some(date))) if date >= OLDEST => Ok(version.to_owned()),
        Some((version, Some(_old))) => Err(unavailable(format!(
            "runsc {version} is too old, {OLDEST} is the oldest that works"
        ))),
        _ => Err(unavailable(format!("{} does not tell its version", path.display()))),
    }
}

/// The date in `0.0~20240729.0` or `release-20240729.0`.
fn release(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).find(|part| part.len() == 8)?.parse().ok()
}

fn unavailable(what: String) -> Refusal {
    Refusal::Unavailable { what, remedy: REMEDY.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(dir: &Path, says: &str) -> Finder {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("runsc");
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Finder::new(Some(path))
    }

    #[test]
    fn debians_and_upstreams_versions_are_dates() {
        assert_eq!(release("0.0~20240729.0"), Some(20_240_729));
        assert_eq!(release("release-20251013.0"), Some(20_251_013));
        assert_eq!(release("VERSION_MISSING"), None);
    }

    #[test]
    fn a_missing_an_old_and_a_silent_runsc_are_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Finder::new(Some(dir.path().join("none"))).find();
        let old = fake(dir.path(), "runsc version 0.0~20221219.0").find();
        let silent = fake(dir.path(), "hello").find();
        for (answer, word) in [(missing, "not installed"), (old, "too old"), (silent, "tell")] {
            let Err(Refusal::Unavailable { what, remedy }) = answer else { panic!("{answer:?}") };
            assert!(what.contains(word) && remedy.contains("bookworm-backports"), "{what}");
        }
    }
}
