//! One build at a time in a template folder, whichever process it is in.

use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::TemplateError;

/// The lock is root's alone.
const LOCK_MODE: u32 = 0o600;
/// How often a lock that somebody else has is tried.
const TRY_EVERY: Duration = Duration::from_millis(200);
/// A build takes a minute; on a slow line some. Longer than this, somebody is stuck.
const MOST_MINUTES: u64 = 30;

/// Held while anything is built; the kernel frees it with the process.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

/// Takes the lock, waiting for another build to end.
///
/// # Errors
/// The folder cannot be written, or the other build does not end.
pub(crate) async fn take(templates: &Path) -> Result<Lock, TemplateError> {
    take_within(templates, Duration::from_mins(MOST_MINUTES)).await
}

async fn take_within(templates: &Path, limit: Duration) -> Result<Lock, TemplateError> {
    let path = templates.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(LOCK_MODE)
        .open(&path)
        .map_err(TemplateError::host("open", &path))?;
    // Whoever can open it can lock it, and so keep root from building.
    file.set_permissions(Permissions::from_mode(LOCK_MODE))
        .map_err(TemplateError::host("open", &path))?;
    let attempt = async {
        let mut tries = tokio::time::interval(TRY_EVERY);
        let mut has_told = false;
        loop {
            tries.tick().await;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if has_told => {}
                Err(Errno::WOULDBLOCK) => {
                    has_told = true;
                    eprintln!("courier: another process is building templates; waiting for it");
                }
                Err(error) => return Err(TemplateError::host("lock", &path)(error.into())),
            }
        }
    };
    let minutes = limit.as_secs() / 60;
    let busy = || TemplateError::Busy { folder: templates.to_owned(), minutes };
    tokio::time::timeout(limit, attempt).await.map_err(|_elapsed| busy())??;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_build_waits_and_gives_up_when_the_first_never_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path()).await.unwrap();
        let second = take_within(folder.path(), TRY_EVERY * 2).await;
        assert!(matches!(second, Err(TemplateError::Busy { .. })));
        drop(first);
        assert!(take(folder.path()).await.is_ok());
    }
}
