//! One version of one package, in a folder of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::versions::{From, Package};

/// What is in a folder once the install has come to its end.
const STAMP: &str = "installed";

/// An installed version.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) folder: PathBuf,
    pub(crate) interpreter: PathBuf,
}

impl Installed {
    /// Installs a version, where it is not there yet. Node and pip are those of the tests' own SDKs.
    pub(crate) fn get(
        package: &Package,
        version: &str,
        root: &Path,
        sdk: &Path,
    ) -> io::Result<Self> {
        let kind = match package.from {
            From::Npm => "npm",
            From::PyPi => "pypi",
        };
        let name = package.name.replace(['@', '/'], "_");
        let folder = root.join(format!("{kind}-{name}-{version}"));
        let interpreter = match package.from {
            From::Npm => sdk.join("node_modules/.bin/node"),
            From::PyPi => folder.join("venv/bin/python"),
        };
        if !folder.join(STAMP).exists() {
            std::fs::create_dir_all(&folder)?;
            match package.from {
                From::Npm => npm(&folder, &format!("{}@{version}", package.name))?,
                From::PyPi => {
                    let own = format!("{}=={version}", package.name);
                    let companion = package.companion(version);
                    pip(&folder, sdk, [Some(own.as_str()), companion].into_iter().flatten())?;
                }
            }
            std::fs::write(folder.join(STAMP), "")?;
        }
        Ok(Self { folder, interpreter })
    }

    /// Copies the scripts to where they find the version; the one that is for this package.
    pub(crate) fn take(&self, scripts: &Path, package: &Package) -> io::Result<PathBuf> {
        for entry in std::fs::read_dir(scripts)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), self.folder.join(entry.file_name()))?;
            }
        }
        let ending = match package.from {
            From::Npm => "mjs",
            From::PyPi => "py",
        };
        Ok(self.folder.join(format!("{}.{ending}", package.script)))
    }
}

fn npm(folder: &Path, what: &str) -> io::Result<()> {
    // Without one, npm looks for a project in the folders above.
    std::fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
    let mut command = Command::new("npm");
    command.args(["install", "--no-audit", "--no-fund", "--loglevel=error", what]);
    run(command.current_dir(folder))
}

fn pip<'a>(folder: &Path, sdk: &Path, what: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let python = sdk.join("python/bin/python");
    let own = folder.join("venv");
    run(Command::new(&python).args(["-m", "venv", "--without-pip"]).arg(&own))?;
    let mut command = Command::new(&python);
    command.args(["-m", "pip", "--python"]).arg(own.join("bin/python"));
    run(command.args(["install", "--quiet", "--disable-pip-version-check"]).args(what))
}

fn run(command: &mut Command) -> io::Result<()> {
    let ended = command.output()?;
    if ended.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&ended.stderr);
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(io::Error::other(last.trim().to_owned()))
}
