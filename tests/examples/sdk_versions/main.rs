//! Runs many versions of the official SDKs, unmodified, against this build, and writes
//! `docs/sdk-versions.md` from what came of it: `cargo xtask sdks`.
//!
//! Each version is installed into a folder of its own below `target/sdk-versions`, by npm or pip as
//! this machine has them, and stays there for the next run. What a version is held to stands in
//! `tests/sdk/versions`. All run in domain mode, the only one that the oldest know.

mod install;
mod table;
mod versions;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use courier_tests::dns::Dns;
use courier_tests::environment::Environment;
use courier_tests::sdk::{self, Mode};
use courier_tests::server::{Options, Server, courier, free_port};
use courier_tests::{host, program};

use crate::install::Installed;
use crate::versions::{PACKAGES, Package};

/// The template of the code interpreter.
const TEMPLATE: &str = "code-interpreter-v1";

/// A build of it from nothing takes minutes.
const BUILD: Duration = Duration::from_secs(1_200);

/// No version takes longer for its checks.
const CHECKS: Duration = Duration::from_secs(240);

/// An address of its own, so that tests of SDKs may run meanwhile.
const DNS: &str = "127.77.77.78";

/// What a check of one version came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    /// The version has no such thing.
    Absent,
}

/// What one version came to: its checks in their order, or why there are none.
#[derive(Debug)]
struct Run {
    version: &'static str,
    checks: Vec<(String, Outcome)>,
    trouble: Option<String>,
}

impl Run {
    /// True where nothing failed but what is known to fail.
    fn is_good(&self, package: &Package) -> bool {
        let failed = |(name, outcome): &(String, Outcome)| {
            matches!(outcome, Outcome::Failed(_)) && package.reason(self.version, name).is_none()
        };
        self.trouble.is_none() && !self.checks.iter().any(failed)
    }
}

struct World {
    server: Server,
    dns: Dns,
    domain: String,
}

impl World {
    fn make() -> Self {
        let environment = Environment::load();
        let folder = environment.folder();
        eprintln!("building template {TEMPLATE}, where it is not there yet");
        let mut build = courier(&environment, &folder.path().join("data"));
        build.args(["template", "build", TEMPLATE]);
        program::run(&mut build, b"", BUILD).assert_code(0);
        let domain = format!("versions.test:{}", free_port());
        let arguments = vec!["--domain".to_owned(), domain.clone()];
        let server = Server::start(&environment, Options { arguments, ..Options::default() });
        Self { server, dns: Dns::start_at(DNS), domain }
    }

    /// Runs the checks of one version.
    fn run(&self, package: &Package, version: &'static str, scripts: &Path) -> Run {
        let root = self.server.environment.sdk.with_file_name("sdk-versions");
        let trouble = |text: String| Run { version, checks: Vec::new(), trouble: Some(text) };
        let installed = match Installed::get(package, version, &root, &self.server.environment.sdk)
        {
            Ok(installed) => installed,
            Err(error) => return trouble(format!("not installed: {error}")),
        };
        let script = match installed.take(scripts, package) {
            Ok(script) => script,
            Err(error) => return trouble(format!("not run: {error}")),
        };
        let mode = Mode::Domain { dns: &self.dns, domain: &self.domain };
        let mut command = sdk::interpreter(&self.server, mode, &installed.interpreter);
        command.current_dir(&installed.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        let ended = program::run(command.arg(script), b"", CHECKS);
        let checks: Vec<(String, Outcome)> = ended.out().lines().filter_map(parse).collect();
        self.server.kill_all();
        if checks.is_empty() {
            let words = ended.err();
            let last = words.lines().rev().find(|line| !line.trim().is_empty());
            return trouble(format!("no check ran: {}", last.unwrap_or_default().trim()));
        }
        Run { version, checks, trouble: None }
    }
}

/// One line of a script.
fn parse(line: &str) -> Option<(String, Outcome)> {
    let (word, rest) = line.split_once(' ')?;
    match word {
        "ok" => Some((rest.to_owned(), Outcome::Passed)),
        "absent" => Some((rest.to_owned(), Outcome::Absent)),
        "failed" => {
            let (name, why) = rest.split_once(": ")?;
            Some((name.to_owned(), Outcome::Failed(why.to_owned())))
        }
        _ => None,
    }
}

fn main() -> ExitCode {
    let world = World::make();
    let sources = world.server.environment.sources.clone();
    let mut results = Vec::new();
    let mut good = true;
    for package in PACKAGES {
        let mut runs = Vec::new();
        for version in package.versions {
            let run = world.run(package, version, &sources.join("sdk/versions"));
            let is_good = run.is_good(package);
            good &= is_good;
            eprintln!("{} {version}: {}", package.name, if is_good { "ok" } else { "FAILED" });
            runs.push(run);
        }
        results.push((package, runs));
    }
    let page = sources.with_file_name("docs").join("sdk-versions.md");
    std::fs::write(&page, table::render(&results)).expect("the page can be written");
    eprintln!("wrote {}", page.display());
    let scratch = world.server.environment.scratch.clone();
    drop(world);
    host::end_launchers_below(&scratch);
    // It is empty, unless something that failed is to be looked at.
    drop(std::fs::remove_dir(&scratch));
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
