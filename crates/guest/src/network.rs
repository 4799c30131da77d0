//! What the network needs inside: the resolver's address, the sandbox's own CA in every trust store,
//! and the files of presets. All of it can be put in place again: a restarted server says it anew.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use courier_protocol::envd::init::Init;

/// Where Debian keeps a machine's own CAs; `update-ca-certificates` reads them there.
pub(crate) const CA_FILE: &str = "usr/local/share/ca-certificates/courier-sandbox.crt";

/// Where the resolver is named.
pub(crate) const RESOLV_CONF: &str = "etc/resolv.conf";

/// The bundles that programs read, by distribution: Debian, Ubuntu, Alpine and Arch; Fedora; SUSE;
/// older Alpine. The first is made where there is none.
const BUNDLES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];

/// Variables that name a bundle: OpenSSL (so Python, Ruby and PHP too), requests, curl, git, pip,
/// cargo, the AWS tools. Those that read the system's own bundle anyway lose nothing by it.
const BUNDLE_VARS: [&str; 7] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
];

/// Node.js has its own list and adds this file to it.
const EXTRA_VAR: &str = "NODE_EXTRA_CA_CERTS";

/// Why the network is not prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path that is not absolute, or leads upwards.
    #[error("{path:?} is not an absolute path without '..'")]
    Path {
        /// The path.
        path: String,
    },
}

/// Puts everything in place below `root`. Returns the environment that makes programs trust the CA.
pub(crate) fn prepare(root: &Path, init: &Init) -> Result<BTreeMap<String, String>, PrepareError> {
    // One try of 5 s, then the next: the answer comes from the host's side of the link.
    let resolver = format!("nameserver {}\noptions timeout:5 attempts:2\n", init.nameserver);
    replace(&root.join(RESOLV_CONF), &resolver)?;
    for file in &init.files {
        let relative =
            file.path.strip_prefix('/').filter(|path| !path.split('/').any(|s| s == ".."));
        let Some(relative) = relative else {
            return Err(PrepareError::Path { path: file.path.clone() });
        };
        replace(&root.join(relative), &file.text)?;
    }
    if init.ca_bundle.is_empty() {
        return Ok(BTreeMap::new());
    }
    let bundle = install(root, &init.ca_bundle)?;
    let mut trust: BTreeMap<String, String> =
        BUNDLE_VARS.iter().map(|name| ((*name).to_owned(), format!("/{bundle}"))).collect();
    trust.insert(EXTRA_VAR.to_owned(), format!("/{CA_FILE}"));
    Ok(trust)
}

/// Installs the CA; returns the bundle that has it.
fn install(root: &Path, pem: &str) -> Result<&'static str, PrepareError> {
    let own = root.join(CA_FILE);
    let before = read(&own)?;
    replace(&own, pem)?;
    let mut found = None;
    for bundle in BUNDLES {
        let path = root.join(bundle);
        if !path.is_file() {
            continue;
        }
        found.get_or_insert(bundle);
        add(&path, pem, before.as_deref())?;
    }
    let bundle = match found {
        Some(bundle) => bundle,
        None => {
            let [first, ..] = BUNDLES;
            replace(&root.join(first), pem)?;
            first
        }
    };
    Ok(bundle)
}

/// Adds the CA to a bundle, in place of the one that an earlier `init` had put there.
fn add(path: &Path, pem: &str, before: Option<&str>) -> Result<(), PrepareError> {
    let failed = |source| PrepareError::Write { path: path.to_owned(), source };
    let before = before.filter(|before| !before.is_empty());
    let text = if before.is_some() { read(path)? } else { None };
    match (text, before) {
        (Some(text), Some(before)) if text.contains(before) => {
            if before == pem {
                Ok(())
            } else {
                replace(path, &text.replace(before, pem))
            }
        }
        // The usual case: nothing is read, only the end is written.
        (_, _) => {
            let mut file = fs::OpenOptions::new().append(true).open(path).map_err(failed)?;
            file.write_all(format!("\n{pem}").as_bytes()).map_err(failed)
        }
    }
}

/// A file's text; `None` where there is none.
fn read(path: &Path) -> Result<Option<String>, PrepareError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PrepareError::Write { path: path.to_owned(), source }),
    }
}

/// Writes a file anew, in place of whatever has its name (an image's `resolv.conf` is often a link
/// that leads nowhere).
fn replace(path: &Path, text: &str) -> Result<(), PrepareError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| PrepareError::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o644).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use courier_types::{GuestFile, SandboxId, Timestamp};

    use super::*;

    fn init(ca: &str) -> Init {
        Init {
            env_vars: BTreeMap::new(),
            default_user: "user".into(),
            default_workdir: String::new(),
            sandbox_id: SandboxId::from_random([1; 20]),
            template_id: String::new(),
            timestamp: Timestamp::from_micros(0),
            disk_bytes: 0,
            nameserver: Ipv4Addr::new(192, 0, 0, 1),
            ca_bundle: ca.into(),
            files: Vec::new(),
        }
    }

    #[test]
    fn the_ca_is_in_the_bundle_once_however_often_it_is_told() {
        let root = tempfile::tempdir().unwrap();
        let bundle = root.path().join(BUNDLES[0]);
        fs::create_dir_all(bundle.parent().unwrap()).unwrap();
        fs::write(&bundle, "SYSTEM\n").unwrap();
        for ca in ["FIRST\n", "FIRST\n", "SECOND\n"] {
            let trust = prepare(root.path(), &init(ca)).unwrap();
            assert_eq!(trust["SSL_CERT_FILE"], format!("/{}", BUNDLES[0]));
            let text = fs::read_to_string(&bundle).unwrap();
            assert_eq!(text, format!("SYSTEM\n\n{ca}"));
        }
    }

    #[test]
    fn a_resolver_is_written_over_a_link_that_leads_nowhere() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        let resolv = root.path().join("etc/resolv.conf");
        std::os::unix::fs::symlink("../run/none/resolv.conf", &resolv).unwrap();
        prepare(root.path(), &init("")).unwrap();
        assert!(fs::read_to_string(&resolv).unwrap().starts_with("nameserver 192.0.0.1\n"));
    }

    #[test]
    fn a_file_never_goes_upwards() {
        let root = tempfile::tempdir().unwrap();
        for path in ["relative", "/../x", "/a/../../x"] {
            let mut init = init("");
            init.files = vec![GuestFile { path: path.into(), text: String::new() }];
            assert!(prepare(root.path(), &init).is_err(), "{path}");
        }
    }

    #[test]
    fn an_image_without_any_bundle_gets_one() {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path(), &init("CA\n")).unwrap();
        assert_eq!(fs::read_to_string(root.path().join(BUNDLES[0])).unwrap(), "CA\n");
    }
}
