//! Package managers in sandboxes, from where this machine gets its own packages. These tests go to
//! the registries that the machine is configured for, and are left out where it has no such
//! package manager or no configuration of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use courier_tests::program;
use courier_tests::server::{Server, courier};
use courier_tests::suite::Test;
use courier_tests::tests;

use super::PATIENCE;

pub(crate) const TESTS: &[Test<Server>] = tests![
    a_program_that_was_made_inside_runs,
    pip_downloads_and_installs_with_its_preset,
    npm_views_and_installs_with_its_preset,
    apt_updates_and_installs_with_its_preset,
];

/// Registries are far away, and indexes of distributions large.
const FAR: Duration = Duration::from_secs(300);

/// Runs a script; what it prints.
#[track_caller]
fn out(server: &Server, arguments: &[&str], script: &str) -> String {
    let folder = server.environment.folder();
    let file = folder.path().join("script.sh");
    std::fs::write(&file, script).expect("scratch is ours");
    let mut command = courier(&server.environment, &server.data);
    command.args(["run", "--timeout", "4m"]).args(arguments).arg(file);
    program::run(&mut command, b"", FAR).assert_code(0).out()
}

/// True where a program of this machine answers as the server would ask it; else says what is left
/// out.
fn has(server: &Server, preset: &str, program: &str, arguments: &[&str]) -> bool {
    let ours = courier(&server.environment, &server.data);
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/");
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let has = command.output().is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("left out: preset {preset}, since {program} does not work on this machine");
    }
    has
}

fn a_program_that_was_made_inside_runs(server: &Server) {
    let script = "cp /bin/echo echo-home && ./echo-home home\n\
        sudo cp /bin/echo /usr/local/bin/echo-system && echo-system system";
    assert_eq!(out(server, &[], script), "home\nsystem\n");
}

fn pip_downloads_and_installs_with_its_preset(server: &Server) {
    if !has(server, "pypi", "python3", &["-m", "pip", "--version"]) {
        return;
    }
    let script = "set -e\n\
        python3 -m pip download -q --no-deps --no-cache-dir -d files six && ls files\n\
        python3 -m venv new && new/bin/pip install -q --no-cache-dir six\n\
        new/bin/python -c 'import six; print(\"imported\", six.__name__)'";
    let out = out(server, &["--preset", "pypi"], script);
    assert!(out.starts_with("six-") && out.ends_with("imported six\n"), "{out}");
    assert!(out.contains(".whl"), "{out}");
    let none = refused(server, "python3 -m pip download -q --no-deps --retries 0 -d files six");
    assert_eq!(none, "refused\n", "without the preset nothing is fetched");
}

fn npm_views_and_installs_with_its_preset(server: &Server) {
    if !has(server, "npm", "npm", &["config", "get", "registry"]) {
        return;
    }
    let script = "set -e\n\
        npm view is-number name\n\
        npm install --silent is-number >&2\n\
        node -e 'console.log(require(\"is-number\")(7))'";
    assert_eq!(out(server, &["--preset", "npm"], script), "is-number\ntrue\n");
    let none = refused(server, "npm view --fetch-retries 0 is-number name");
    assert_eq!(none, "refused\n", "without the preset nothing is fetched");
}

fn apt_updates_and_installs_with_its_preset(server: &Server) {
    let lists = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let is_list = |name: &str| {
        let extension = Path::new(name).extension();
        extension.is_some_and(|extension| extension == "list" || extension == "sources")
    };
    let named = lists.into_iter().any(|entry| is_list(&entry.file_name().to_string_lossy()));
    let one = std::fs::metadata("/etc/apt/sources.list").is_ok_and(|file| file.len() > 0);
    if !named && !one {
        eprintln!("left out: preset apt, since this machine has no /etc/apt/sources.list");
        return;
    }
    let script = "set -e\n\
        sudo apt-get update -qq >&2\n\
        sudo apt-get install -qq --no-install-recommends hello >&2\n\
        hello --greeting installed";
    assert_eq!(out(server, &["--preset", "apt"], script), "installed\n");
}

/// What a script prints that may reach nothing, with `refused` where it fails.
#[track_caller]
fn refused(server: &Server, script: &str) -> String {
    let started = std::time::Instant::now();
    let out = out(server, &[], &format!("{script} 2>/dev/null || echo refused"));
    assert!(started.elapsed() < PATIENCE, "a refusal is told at once");
    out
}
