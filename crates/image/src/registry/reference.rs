//! Names of images as users write them: `python:3.12`, `registry.example:5000/a/b@sha256:…`. Parsed
//! once; what is refused here never gets to a registry.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use courier_types::egress::HostName;

use super::digest::{BlobDigest, BlobDigestError};

/// Longest reference in bytes: more than name, tag and digest may have together.
const REFERENCE_MAX: usize = 512;
/// Longest repository name in bytes. The distribution specification recommends 255 with the host.
const REPOSITORY_MAX: usize = 255;
/// Longest tag in bytes (OCI distribution specification, "Pulling manifests").
const TAG_MAX: usize = 128;
/// The tag of a reference that has neither tag nor digest.
const TAG_UNSAID: &str = "latest";

/// Why a text is no reference. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Too long.
    #[error("an image's name has at most {REFERENCE_MAX} bytes")]
    TooLong,
    /// An address such as a browser takes it.
    #[error("write an image's name without {scheme}")]
    Scheme {
        /// What stands before it.
        scheme: &'static str,
    },
    /// The registry's host or port.
    #[error("{text:?} is no registry: write HOST or HOST:PORT, with a name or an IPv4 address")]
    Registry {
        /// The refused text.
        text: String,
    },
    /// The repository's name.
    #[error(
        "{text:?} is no repository: lower-case letters and digits, with single '.', '_' or '/' or \
         any '-' in between"
    )]
    Repository {
        /// The refused text.
        text: String,
    },
    /// The tag.
    #[error("{text:?} is no tag: 1 to {TAG_MAX} letters, digits, '_', '.' or '-'")]
    Tag {
        /// The refused text.
        text: String,
    },
    /// The digest.
    #[error("the digest of the image's name is of no use")]
    Digest(#[source] BlobDigestError),
}

/// The host of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address.
    Address(Ipv4Addr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for Host {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let address = text.parse().map(Self::Address).ok();
        address
            .or_else(|| text.parse().map(Self::Name).ok())
            .ok_or_else(|| ReferenceError::Registry { text: text.to_owned() })
    }
}

/// A registry as references name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryName {
    /// Its host.
    pub host: Host,
    /// Its port, where it is said.
    pub port: Option<u16>,
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl FromStr for RegistryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refused = || ReferenceError::Registry { text: text.to_owned() };
        let (host, port) = match text.split_once(':') {
            None => (text, None),
            Some((host, port)) => {
                let plain = port.bytes().all(|byte| byte.is_ascii_digit());
                let number = port.parse().ok().filter(|number| plain && *number != 0);
                (host, Some(number.ok_or_else(refused)?))
            }
        };
        let host = host.parse().map_err(|_host_alone| refused())?;
        Ok(Self { host, port })
    }
}

/// Which of a repository's images is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    Tag(String),
    Digest(BlobDigest),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The name of an image, in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub(super) registry: Option<RegistryName>,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<BlobDigest>,
}

impl Reference {
    /// The registry, where the reference names one.
    #[must_use]
    pub const fn registry(&self) -> Option<&RegistryName> {
        self.registry.as_ref()
    }

    /// The repository in it.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest, where the reference is pinned to one.
    #[must_use]
    pub const fn digest(&self) -> Option<BlobDigest> {
        self.digest
    }

    /// What is asked of the registry: the digest if there is one, whatever the tag says.
    pub(super) fn version(&self) -> Version {
        match (self.digest, &self.tag) {
            (Some(digest), _tag) => Version::Digest(digest),
            (None, Some(tag)) => Version::Tag(tag.clone()),
            (None, None) => Version::Tag(TAG_UNSAID.to_owned()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        match (&self.tag, &self.digest) {
            (None, None) => write!(f, ":{TAG_UNSAID}"),
            (Some(tag), None) => write!(f, ":{tag}"),
            (None, Some(digest)) => write!(f, "@{digest}"),
            (Some(tag), Some(digest)) => write!(f, ":{tag}@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > REFERENCE_MAX {
            return Err(ReferenceError::TooLong);
        }
        let schemes = ["https://", "http://", "docker://", "oci:"];
        if let Some(scheme) = schemes.into_iter().find(|scheme| text.starts_with(scheme)) {
            return Err(ReferenceError::Scheme { scheme });
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(digest.parse().map_err(ReferenceError::Digest)?)),
        };
        let (registry, rest) = split_registry(name)?;
        let (repository, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        if repository.len() > REPOSITORY_MAX || !is_repository(repository) {
            return Err(ReferenceError::Repository { text: repository.to_owned() });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { text: tag.to_owned() });
        }
        let (repository, tag) = (repository.to_owned(), tag.map(str::to_owned));
        Ok(Self { registry, repository, tag, digest })
    }
}

/// The first component is a registry where it could be nothing else, as all other tools have it:
/// where it has a dot or a colon, or is `localhost`.
fn split_registry(name: &str) -> Result<(Option<RegistryName>, &str), ReferenceError> {
    let Some((first, rest)) = name.split_once('/') else { return Ok((None, name)) };
    if !first.contains(['.', ':']) && first != "localhost" {
        return Ok((None, name));
    }
    Ok((Some(first.parse()?), rest))
}

/// Components of letters and digits with separators in between (OCI distribution specification,
/// "Pulling manifests").
pub(super) fn is_repository(text: &str) -> bool {
    text.split('/').all(|component| {
        let bytes = component.as_bytes();
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends =
            bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
        let separators = bytes.split(alphanumeric).filter(|between| !between.is_empty());
        let is_separator = |between: &[u8]| {
            matches!(between, b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-')
        };
        ends && separators.into_iter().all(is_separator)
    })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=TAG_MAX).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[track_caller]
    fn canonical(text: &str) -> String {
        let reference: Reference = text.parse().unwrap();
        let canonical = reference.to_string();
        // A name that is canonical already stays as it is.
        assert_eq!(canonical.parse::<Reference>().unwrap().to_string(), canonical);
        canonical
    }

    #[test]
    fn names_are_read_as_other_tools_read_them() {
        assert_eq!(canonical("debian"), "debian:latest");
        assert_eq!(canonical("python:3.12"), "python:3.12");
        assert_eq!(canonical("team/app"), "team/app:latest");
        assert_eq!(canonical("registry.example/team/app:1"), "registry.example/team/app:1");
        assert_eq!(canonical("Registry.EXAMPLE:5000/a"), "registry.example:5000/a:latest");
        assert_eq!(canonical("localhost/a"), "localhost/a:latest");
        assert_eq!(canonical("192.0.2.1:5000/a:b"), "192.0.2.1:5000/a:b");
        assert_eq!(canonical(&format!("a@{DIGEST}")), format!("a@{DIGEST}"));
        let both = format!("r.example:5000/a/b:t@{DIGEST}");
        assert_eq!(canonical(&both), both);
        assert_eq!(both.parse::<Reference>().unwrap().version().to_string(), DIGEST);
        assert_eq!("a".parse::<Reference>().unwrap().version().to_string(), "latest");
        assert_eq!(canonical("a--b/c__d/e.f_g"), "a--b/c__d/e.f_g:latest");
    }

    #[test]
    fn what_is_no_name_is_refused_and_says_what_would_be_one() {
        let refused = [
            ("", "repository"),
            ("UPPER", "repository"),
            ("a//b", "repository"),
            ("/a", "repository"),
            ("a/", "repository"),
            ("../a", "is no registry"),
            ("a/../b", "repository"),
            ("a/..%2fb", "repository"),
            ("a?b", "repository"),
            ("a b", "repository"),
            ("a_-b", "repository"),
            ("a:", "is no tag"),
            ("a:.b", "is no tag"),
            ("a:b/c", "is no registry"),
            ("a:b:c", "is no tag"),
            ("r.example:0/a", "is no registry"),
            ("r.example:+5/a", "is no registry"),
            ("r.example:66000/a", "is no registry"),
            ("[::1]:5000/a", "is no registry"),
            ("user@r.example/a", "digest"),
            ("0x7f.1/a", "is no registry"),
            ("a@sha256:00", "digest"),
            ("https://r.example/a", "without https://"),
            ("docker://r.example/a", "without docker://"),
        ];
        for (text, why) in refused {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert_eq!("a".repeat(513).parse::<Reference>(), Err(ReferenceError::TooLong));
        assert!("a".repeat(256).parse::<Reference>().is_err());
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }
}
