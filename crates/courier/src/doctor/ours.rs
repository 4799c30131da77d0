//! Checks of what is ours: rights, binaries, templates, the system user, the server.

use std::path::Path;

use super::check::Check;
use crate::config::{Config, TEMPLATE};
use crate::folder::Folder;
use crate::template::{self, TemplateError};

/// The system user that the server becomes when root starts it.
const USER: &str = "courier";
/// Free space for building a template (root file system, packages, image) and a few sandboxes.
const ROOM_MIB: u64 = 4 * 1024;
/// Free space without which not even a sandbox's disk has room.
const LEAST_MIB: u64 = 256;

/// All of them.
pub(crate) fn checks(config: &Config) -> Vec<Check> {
    vec![
        rights(config, rustix::process::geteuid().is_root()),
        binary("launcher", &config.launcher_binary),
        binary("guest daemon", &config.guest_binary),
        room("disk", &config.data),
        base(config),
        system_user(),
        server(config),
    ]
}

/// Sandboxes are made by root: us, or a launcher that root has started.
fn rights(config: &Config, is_root: bool) -> Check {
    const NAME: &str = "root";
    let socket = config.launcher_dir.join("launcher.sock");
    if is_root {
        return Check::good(NAME, "we are root, so the launcher can be started");
    }
    if socket.exists() {
        return Check::good(NAME, format!("a launcher is at {}", socket.display()));
    }
    Check::missing(
        NAME,
        "we are not root and no launcher runs: use sudo, or `courier sandbox` with a server that \
         root has started",
    )
}

fn binary(name: &'static str, path: &Path) -> Check {
    if path.is_file() {
        return Check::good(name, path.display().to_string());
    }
    Check::missing(name, format!("{} is not there: install it beside `courier`", path.display()))
}

fn room(name: &'static str, folder: &Path) -> Check {
    let there = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let Ok(space) = rustix::fs::statvfs(there) else {
        return Check::missing(name, format!("{} cannot be looked at", there.display()));
    };
    let free_mib = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
    let found = format!("{free_mib} MiB free for {}", folder.display());
    match free_mib {
        free if free >= ROOM_MIB => Check::good(name, found),
        free if free >= LEAST_MIB => {
            Check::advice(name, format!("{found}; building a template takes {ROOM_MIB}"))
        }
        _ => Check::missing(name, format!("{found}: make room, or use another folder (--data)")),
    }
}

fn base(config: &Config) -> Check {
    const NAME: &str = "template base";
    let built = || -> Result<Option<String>, TemplateError> {
        let is_current = template::is_current(config, TEMPLATE)?;
        let found = template::list(config)?.into_iter().find(|t| t.name == TEMPLATE);
        Ok(found.filter(|_template| is_current).map(|template| template.build))
    };
    match built() {
        Ok(Some(build)) => Check::good(NAME, build),
        Ok(None) => {
            Check::advice(NAME, "is not built or out of date; the first use by root builds it")
                .mended_by([template::build_command(config, TEMPLATE)])
        }
        Err(error) => Check::missing(NAME, error.to_string()),
    }
}

fn system_user() -> Check {
    const NAME: &str = "user courier";
    match crate::passwd::find(USER) {
        Ok(Some(user)) => Check::good(NAME, format!("uid {}, for `courier serve`", user.uid)),
        Ok(None) => Check::advice(NAME, "is not there: `courier serve` of root would stay root")
            .mended_by([format!(
                "useradd --system --user-group --home-dir /var/lib/courier --no-create-home \
                 --shell /usr/sbin/nologin {USER}"
            )]),
        Err(error) => Check::advice(NAME, format!("/etc/passwd cannot be read: {error}")),
    }
}

fn server(config: &Config) -> Check {
    const NAME: &str = "server";
    match Folder::new(&config.data).running_server() {
        Ok(Some(server)) => Check::note(NAME, format!("{} (process {})", server.url, server.pid)),
        Ok(None) => Check::note(NAME, format!("none runs for {}", config.data.display())),
        Err(error) => Check::advice(NAME, format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_missing_binary_is_told_with_its_path() {
        let check = binary("launcher", Path::new("/nonexistent/courier-launcher"));
        assert_eq!(check.verdict, Verdict::Missing);
        assert!(check.found.contains("/nonexistent/courier-launcher"));
    }

    #[test]
    fn room_is_looked_for_where_the_folder_will_be() {
        let check = room("disk", Path::new("/nonexistent/deep/folder"));
        assert!(check.found.ends_with("/nonexistent/deep/folder"), "{}", check.found);
    }
}
