//! What the daemon itself put into the file system, and which is no part of any template: its own
//! program, the resolver, the files of presets, and the sandbox's own CA in the trust stores.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_archive::EntryPath;
use courier_types::GuestFile;
use memchr::memmem;

use crate::network::{CA_FILE, RESOLV_CONF};

/// The guest daemon, and the link to it that stands in for `sudo`. Images get theirs of the running
/// version.
pub(super) const DAEMON: &str = "usr/local/bin/courier-guest";
pub(super) const SUDO: &str = "usr/bin/sudo";

/// The CA's name in links that tools for trust stores make: `courier-sandbox.pem` and numbers.
const CA_NAME: &[u8] = b"courier-sandbox";

/// What the daemon put there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    /// Certificate of the sandbox's CA (PEM), without what is around it; empty where there is none.
    pem: String,
    /// The same, as it is in binary stores.
    der: Vec<u8>,
    files: Vec<GuestFile>,
}

/// What becomes of a file's content in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// It is the file's own.
    Kept(Vec<u8>),
    /// The file is not in the layer.
    LeftOut,
}

impl Own {
    /// What the node told the daemon to put there.
    pub(crate) fn new(ca_bundle: &str, files: &[GuestFile]) -> Self {
        let pem = ca_bundle.trim().to_owned();
        let base64: String =
            pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        // What is no certificate is in no binary store.
        let der = STANDARD.decode(base64).unwrap_or_default();
        Self { pem, der, files: files.to_vec() }
    }

    /// Whether nothing at that path is ever in a layer.
    pub(super) fn is_at(path: &EntryPath) -> bool {
        [DAEMON, RESOLV_CONF, CA_FILE].iter().any(|own| path.as_bytes() == own.as_bytes())
    }

    /// Whether a link is the daemon's `sudo`, or leads to the CA.
    pub(super) fn is_link(path: &EntryPath, target: &[u8]) -> bool {
        let name = target.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_sudo = path.as_bytes() == SUDO.as_bytes()
            && target.strip_prefix(b"/") == Some(DAEMON.as_bytes());
        is_sudo || memmem::find(name, CA_NAME).is_some()
    }

    /// The content that a file has in a layer: without the CA, where it is a bundle of
    /// certificates. A file of a preset as the daemon wrote it, a bundle of only the CA, and a
    /// binary store with the CA are left out; tools make the last anew.
    pub(super) fn content(&self, path: &EntryPath, content: Vec<u8>) -> Content {
        let is_preset = self.files.iter().any(|file| {
            file.path.strip_prefix('/').map(str::as_bytes) == Some(path.as_bytes())
                && file.text.as_bytes() == content
        });
        if is_preset || contains(&content, &self.der) {
            return Content::LeftOut;
        }
        if !contains(&content, self.pem.as_bytes()) {
            return Content::Kept(content);
        }
        let rest = without(&content, self.pem.as_bytes());
        if rest.trim_ascii().is_empty() { Content::LeftOut } else { Content::Kept(rest) }
    }
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && memmem::find(content, part).is_some()
}

/// Takes every occurrence of a certificate out, with its line's end, and with the empty line that
/// the daemon puts before it at a bundle's end.
fn without(content: &[u8], pem: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(start) = memmem::find(rest, pem) {
        let (before, found) = rest.split_at(start);
        let behind = found.get(pem.len()..).unwrap_or_default();
        let behind = behind.strip_prefix(b"\n").unwrap_or(behind);
        let is_last = behind.is_empty() && before.ends_with(b"\n\n");
        let before = if is_last { before.strip_suffix(b"\n").unwrap_or(before) } else { before };
        kept.extend_from_slice(before);
        rest = behind;
    }
    kept.extend_from_slice(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nQUJDREVGR0g=\n-----END CERTIFICATE-----\n";

    fn own() -> Own {
        Own::new(PEM, &[GuestFile { path: "/etc/pip.conf".into(), text: "mirror".into() }])
    }

    #[track_caller]
    fn assert_becomes(content: &str, expected: Option<&str>) {
        let path = EntryPath::new("etc/ssl/certs/ca-certificates.crt").unwrap();
        let content = own().content(&path, content.into());
        let expected = expected.map_or(Content::LeftOut, |kept| Content::Kept(kept.into()));
        assert_eq!(content, expected);
    }

    #[test]
    fn a_bundle_is_in_a_layer_as_it_was_before_the_daemon_added_its_ca() {
        assert_becomes("A\n", Some("A\n"));
        assert_becomes(&format!("A\n\n{PEM}"), Some("A\n"));
        assert_becomes(&format!("A\n{PEM}B\n"), Some("A\nB\n"));
        assert_becomes(&format!("A\n{PEM}B\n\n{PEM}"), Some("A\nB\n"));
        assert_becomes(PEM, None);
        assert_becomes(&format!("\n{PEM}"), None);
    }

    #[test]
    fn a_binary_store_with_the_ca_is_left_out() {
        assert_becomes("JKS\u{1}ABCDEFGH\u{2}", None);
        assert_becomes("JKS\u{1}ABCDEFG", Some("JKS\u{1}ABCDEFG"));
    }

    #[test]
    fn a_file_of_a_preset_is_left_out_only_as_the_daemon_wrote_it() {
        let path = EntryPath::new("etc/pip.conf").unwrap();
        assert_eq!(own().content(&path, b"mirror".to_vec()), Content::LeftOut);
        let kept = Content::Kept(b"another".to_vec());
        assert_eq!(own().content(&path, b"another".to_vec()), kept);
        let elsewhere = EntryPath::new("pip.conf").unwrap();
        let kept = Content::Kept(b"mirror".to_vec());
        assert_eq!(own().content(&elsewhere, b"mirror".to_vec()), kept);
    }

    #[test]
    fn links_to_the_ca_and_the_daemons_sudo_are_left_out() {
        let at = |path: &str, target: &str| {
            Own::is_link(&EntryPath::new(path).unwrap(), target.as_bytes())
        };
        assert!(at("usr/bin/sudo", "/usr/local/bin/courier-guest"));
        assert!(!at("usr/bin/sudo", "/opt/sudo"));
        assert!(at("etc/ssl/certs/x.pem", "/usr/local/share/ca-certificates/courier-sandbox.crt"));
        assert!(at("etc/ssl/certs/0123abcd.0", "courier-sandbox.pem"));
        assert!(!at("etc/ssl/certs/0123abcd.0", "another.pem"));
    }

    #[test]
    fn without_a_ca_nothing_is_searched_for() {
        let path = EntryPath::new("f").unwrap();
        assert_eq!(Own::default().content(&path, b"x".to_vec()), Content::Kept(b"x".to_vec()));
    }
}
