//! From root to an ordinary user: what needs root is the launcher's, and it runs by then.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::passwd::{self, User};

/// The system user that the server runs as.
pub(crate) const USER: &str = "courier";
/// Kept from the environment when the server starts itself again; the flags carry the rest.
const DROPPED_FLAG: &str = "--dropped";

/// The user to become, when we are root, there is one, and nobody said otherwise.
pub(crate) fn user_to_become(stay: bool) -> anyhow::Result<Option<User>> {
    if !rustix::process::geteuid().is_root() || stay {
        return Ok(None);
    }
    let user =
        passwd::find(USER).context("the users of this machine cannot be read from /etc/passwd")?;
    if user.is_none() {
        tracing::warn!(
            "the server runs as root, which it does not need: make a user for it with \
             `useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {USER}`"
        );
    }
    Ok(user)
}

/// Gives the user what the server writes: the data folder and the files right in it, and the CA.
/// The launcher's folder and the templates stay root's.
pub(crate) fn hand_over(data: &Path, user: User) -> anyhow::Result<()> {
    let give = |path: &Path| {
        chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("{} cannot be given to user {USER}", path.display()))
    };
    give(data)?;
    give_files(data, &give)?;
    let ca = data.join("ca");
    if ca.is_dir() {
        give(&ca)?;
        for domain in std::fs::read_dir(&ca)? {
            let domain = domain?;
            if domain.file_type()?.is_dir() {
                give(&domain.path())?;
                give_files(&domain.path(), &give)?;
            }
        }
    }
    Ok(())
}

/// Only plain files: a link that somebody put there would lead `chown` elsewhere.
fn give_files(folder: &Path, give: &impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for item in std::fs::read_dir(folder)? {
        let item = item?;
        if item.file_type()?.is_file() {
            give(&item.path())?;
        }
    }
    Ok(())
}

/// Starts this program again as the user, with the same flags. Returns only on failure.
pub(crate) fn become_user(user: User) -> anyhow::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .arg(DROPPED_FLAG)
        // Without root, the standard library also drops the supplementary groups.
        .uid(user.uid)
        .gid(user.gid)
        .exec();
    anyhow::Error::new(error).context(format!(
        "{} cannot be started as user {USER}: can that user execute it?",
        program.display()
    ))
}
