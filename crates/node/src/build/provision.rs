//! The hidden step after a registry's image: what sandboxes cannot do without.

use courier_client::Refusal;
use courier_protocol::envd::build::Provisioned;
use courier_protocol::node::{BuildError, BuildLogLevel};

use super::log::Log;
use super::run::{Command, run};
use super::sandbox::BuildSandbox;

/// Goes up when provisioning does something else than before, so that images are provisioned anew.
pub(super) const VERSION: u32 = 1;

/// What a package manager is called by to install Bash, without asking and without leaving its
/// caches behind where it can do without.
const INSTALL_BASH: [(&str, &str); 8] = [
    ("apk", "apk add --no-cache bash"),
    (
        "apt-get",
        "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes \
         --no-install-recommends bash && rm -rf /var/lib/apt/lists/*",
    ),
    ("dnf", "dnf --assumeyes install bash && dnf clean all"),
    ("microdnf", "microdnf --assumeyes install bash && microdnf clean all"),
    ("yum", "yum --assumeyes install bash && yum clean all"),
    ("pacman", "pacman --sync --refresh --noconfirm bash"),
    ("zypper", "zypper --non-interactive install bash"),
    ("opkg", "opkg update && opkg install bash"),
];

/// Makes a file system one that sandboxes can be made from.
///
/// # Errors
/// It lacks what nothing in it can install.
pub(super) async fn provision(sandbox: &BuildSandbox, log: &Log) -> Result<(), BuildError> {
    log.say(BuildLogLevel::Info, "making the image fit for sandboxes");
    let provisioned = ask(sandbox, log).await?;
    if provisioned.missing.is_empty() {
        return Ok(());
    }
    let shell = "/bin/sh";
    let manager = provisioned.package_manager.as_deref();
    let known = INSTALL_BASH.iter().find(|(name, _script)| Some(*name) == manager);
    let Some((name, script)) = known.filter(|_| !provisioned.missing.iter().any(|m| m == shell))
    else {
        return Err(lacking(log, &provisioned));
    };
    let line = format!("{name}: install bash");
    log.say(BuildLogLevel::Info, format!("the image has no /bin/bash; {line}"));
    run(sandbox, log, &Command::script(&line, shell, script, &[])).await?;
    let provisioned = ask(sandbox, log).await?;
    if provisioned.missing.is_empty() { Ok(()) } else { Err(lacking(log, &provisioned)) }
}

async fn ask(sandbox: &BuildSandbox, log: &Log) -> Result<Provisioned, BuildError> {
    match sandbox.root().provision().await {
        Ok(provisioned) => Ok(provisioned),
        Err(error) => {
            let full = error.refusal() == Some(Refusal::Exhausted);
            let what =
                if full { "the build's disk is full" } else { "the image cannot be provisioned" };
            Err(sandbox.explain(what, error, log).await)
        }
    }
}

fn lacking(log: &Log, provisioned: &Provisioned) -> BuildError {
    log.failed(format!(
        "the image lacks {}: start from one of a whole distribution, or add it there",
        provisioned.missing.join(" and ")
    ))
}
