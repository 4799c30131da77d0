//! The official SDKs, unmodified, run against a server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::dns::Dns;
use crate::program;
use crate::server::Server;

/// No file of SDK tests takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// How an SDK is pointed at the server.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a> {
    /// Two variables with URLs; sandboxes are found by headers, over plain HTTP.
    Url,
    /// A domain; sandboxes are found by name, over TLS with the server's private CA.
    Domain {
        /// The name server that knows the domain.
        dns: &'a Dns,
        /// The domain, with its port.
        domain: &'a str,
    },
}

/// Runs one file of `tests/sdk/js` and panics with its output unless every test in it passed.
#[track_caller]
pub fn javascript(server: &Server, mode: Mode<'_>, file: &str) {
    let modules = server.environment.sdk.join("node_modules");
    assert!(modules.is_dir(), "{} is missing: run scripts/setup", modules.display());
    // Modules are looked for from the importing file upwards, so the tests go beside them.
    let folder = beside(&server.environment.sdk, &server.environment.sources.join("sdk/js"), "js");
    let mut command = interpreter(server, mode, &modules.join(".bin/node"));
    command.args(["--test", "--test-reporter=tap", "--test-concurrency=1"]);
    command.arg(folder.join(file));
    program::run(&mut command, b"", PATIENCE).assert_code(0);
}

/// Runs one file of `tests/sdk/python` and panics with its output unless every test in it passed.
#[track_caller]
pub fn python(server: &Server, mode: Mode<'_>, file: &str) {
    let python = server.environment.sdk.join("python/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/setup", python.display());
    let folder = server.environment.sources.join("sdk/python");
    let mut command = interpreter(server, mode, &python);
    command.current_dir(&folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["-m", "unittest", "-v", file.trim_end_matches(".py")]);
    program::run(&mut command, b"", PATIENCE).assert_code(0);
}

/// A language of the SDKs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// From npm.
    JavaScript,
    /// From PyPI.
    Python,
}

/// Holds the oldest SDK of a language that passes against what every version is held to
/// (`tests/sdk/versions`),
/// and panics with the output unless every check passed.
#[track_caller]
pub fn oldest(server: &Server, mode: Mode<'_>, language: Language) {
    let sdk = &server.environment.sdk;
    let old = sdk.join("old");
    let (program, file) = match language {
        Language::JavaScript => (sdk.join("node_modules/.bin/node"), "core.mjs"),
        Language::Python => (old.join("python/bin/python"), "core.py"),
    };
    assert!(old.join("stamp").is_file(), "{} is missing: run scripts/setup", old.display());
    let folder = beside(&old, &server.environment.sources.join("sdk/versions"), "versions");
    let mut command = interpreter(server, mode, &program);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(folder.join(file));
    program::run(&mut command, b"", PATIENCE).assert_code(0);
}

/// Copies the files of a folder to a folder of that name beside the SDKs.
fn beside(sdk: &Path, sources: &Path, name: &str) -> PathBuf {
    let folder = sdk.join("tests").join(name);
    std::fs::create_dir_all(&folder).expect("the SDK folder is ours");
    for entry in std::fs::read_dir(sources).expect("the tests' sources are there").flatten() {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("the folder is ours");
    }
    folder
}

/// A program that finds the server as an SDK does, with nothing else in its environment.
#[must_use]
pub fn interpreter(server: &Server, mode: Mode<'_>, program: &Path) -> Command {
    let url = format!("http://{}", server.address);
    let mut command = match mode {
        Mode::Url => {
            let mut command = Command::new(program);
            command.env_clear().env("E2B_API_URL", &url).env("E2B_SANDBOX_URL", &url);
            command.env("E2B_VOLUME_API_URL", &url).env("COURIER_TEST_MODE", "url");
            command
        }
        Mode::Domain { dns, domain } => {
            let folder = server.data.parent().expect("a data folder is in a folder");
            let name = domain.split(':').next().unwrap_or(domain);
            let authority = server.data.join("ca").join(name).join("ca.pem");
            let mut command = dns.command(folder, program);
            command.env_clear().env("E2B_DOMAIN", domain).env("COURIER_TEST_MODE", "domain");
            command.env("NODE_EXTRA_CA_CERTS", &authority).env("SSL_CERT_FILE", &authority);
            command
        }
    };
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("E2B_API_KEY", &server.key);
    command
}
