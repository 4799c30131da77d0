//! Checks of what is installed.

use std::path::Path;
use std::process::{Command, Stdio};

use super::check::Check;
use super::host::Host;
use crate::template::{Mirror, has_suite, of_suite};

/// The oldest runsc that the launcher takes: a date.
const OLDEST_RUNSC: u64 = 20_240_408;
/// The Debian release whose own runsc is too old, and whose backports have a newer one.
const BACKPORTED: &str = "bookworm";
/// Where the backports come from when the machine does not have them yet.
const BACKPORTS_LIST: &str = "/etc/apt/sources.list.d/courier-backports.list";

/// Programs, their Debian packages and what they are for.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("mkfs.ext4", "e2fsprogs", "for sandboxes' disks"),
    ("mmdebstrap", "mmdebstrap", "for building templates"),
    ("mkfs.erofs", "erofs-utils", "for building templates"),
];

/// All of them.
pub(crate) fn checks(host: &Host) -> Vec<Check> {
    let mut checks = vec![runsc(host)];
    checks.extend(PROGRAMS.iter().map(|(name, package, purpose)| match host.program(name) {
        Some(path) => Check::good(name, format!("{}, {purpose}", path.display())),
        None => {
            Check::missing(name, format!("is not installed; it is {purpose}")).mended_by([
                "apt-get update".to_owned(),
                format!("apt-get install --yes {package}"),
            ])
        }
    }));
    checks
}

fn runsc(host: &Host) -> Check {
    const NAME: &str = "runsc";
    let Some(path) = host.program(NAME) else {
        return Check::missing(NAME, "is not installed").mended_by(runsc_commands(host));
    };
    let Some(version) = runsc_version(&path) else {
        return Check::missing(NAME, format!("{} does not tell its version", path.display()))
            .mended_by(runsc_commands(host));
    };
    match release(&version) {
        Some(date) if date >= OLDEST_RUNSC => {
            Check::good(NAME, format!("{version} at {}", path.display()))
        }
        Some(_) | None => Check::missing(
            NAME,
            format!("{version} is too old: {OLDEST_RUNSC} is the oldest that works"),
        )
        .mended_by(runsc_commands(host)),
    }
}

/// What runsc says of itself.
pub(crate) fn runsc_version(path: &Path) -> Option<String> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix("runsc version ").map(str::to_owned))
}

/// The date in `0.0~20240729.0` or `release-20251013.0`.
fn release(version: &str) -> Option<u64> {
    version.split(|c: char| !c.is_ascii_digit()).find(|part| part.len() == 8)?.parse().ok()
}

/// The commands that install a runsc that is new enough.
fn runsc_commands(host: &Host) -> Vec<String> {
    let codename = host.release("VERSION_CODENAME").unwrap_or_default();
    let suite = format!("{BACKPORTED}-backports");
    let backports = (!has_suite(&suite)).then(|| of_suite(BACKPORTED, &suite)).flatten();
    install_runsc(&codename, &suite, backports.as_ref())
}

fn install_runsc(codename: &str, suite: &str, backports: Option<&Mirror>) -> Vec<String> {
    if codename != BACKPORTED {
        return vec!["apt-get update".to_owned(), "apt-get install --yes runsc".to_owned()];
    }
    let source = backports.map(|mirror| format!("echo '{}' > {BACKPORTS_LIST}", mirror.line()));
    let install = ["apt-get update".to_owned(), format!("apt-get install --yes -t {suite} runsc")];
    source.into_iter().chain(install).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::check::Verdict;
    use super::*;

    fn with_runsc(says: &str) -> Check {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("usr/bin/runsc");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        runsc(&Host::at(root.path()))
    }

    #[test]
    fn an_old_runsc_is_told_with_its_version_and_the_oldest_that_works() {
        let check = with_runsc("runsc version 0.0~20221219.0");
        assert_eq!(check.verdict, Verdict::Missing);
        assert_eq!(check.found, "0.0~20221219.0 is too old: 20240408 is the oldest that works");
        assert!(!check.mend.is_empty());
        assert_eq!(with_runsc("runsc version 0.0~20240729.0").verdict, Verdict::Good);
    }

    #[test]
    fn bookworm_gets_runsc_from_the_backports_of_the_machines_own_mirror() {
        let mirror = Mirror::named("http://mirror.example/debian", "bookworm-backports");
        assert_eq!(
            install_runsc("bookworm", "bookworm-backports", Some(&mirror)),
            [
                "echo 'deb http://mirror.example/debian bookworm-backports main' \
                 > /etc/apt/sources.list.d/courier-backports.list",
                "apt-get update",
                "apt-get install --yes -t bookworm-backports runsc",
            ]
        );
        assert_eq!(install_runsc("trixie", "bookworm-backports", None).len(), 2);
    }

    #[test]
    fn a_machine_without_the_tools_is_told_their_packages() {
        let root = tempfile::tempdir().unwrap();
        let checks = checks(&Host::at(root.path()));
        assert!(checks.iter().all(|check| check.verdict == Verdict::Missing));
        let erofs = "apt-get install --yes erofs-utils".to_owned();
        assert!(checks.iter().any(|check| check.mend.contains(&erofs)));
    }
}
