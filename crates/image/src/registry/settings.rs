//! What the operator says about registries. No host of one is written here.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::dial::{Endpoint, Standing};
use super::reference::{Reference, ReferenceError, RegistryName, is_repository};

/// Why a setting cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A host.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// What stands behind a host.
    #[error("{text:?} is no path in a registry")]
    Path {
        /// The refused text.
        text: String,
    },
    /// What stands behind a comma.
    #[error("{text:?} is no property of a registry: there is only `insecure`")]
    Property {
        /// The refused text.
        text: String,
    },
}

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS, with a certificate that the machine trusts.
    Https,
    /// Plain HTTP: whoever is on the way sees logins, but cannot change pinned images.
    Http,
}

impl Transport {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// A registry that the operator names: `NAME[=HOST[:PORT][/PATH]][,insecure]`. Its endpoint may be
/// private, or on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRegistry {
    /// As references name it.
    pub name: RegistryName,
    /// Where its API is, where that is elsewhere: a mirror, or the API's own host.
    pub at: RegistryName,
    /// What stands there before each repository's name.
    pub path: Option<String>,
    /// How it is spoken to.
    pub transport: Transport,
}

impl FromStr for KnownRegistry {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (address, transport) = match text.split_once(',') {
            None => (text, Transport::Https),
            Some((address, "insecure")) => (address, Transport::Http),
            Some((_, other)) => return Err(SettingError::Property { text: other.to_owned() }),
        };
        let (name, at) = address.split_once('=').unwrap_or((address, address));
        let name: RegistryName = name.parse()?;
        let (at, path) = host_and_path(at)?;
        Ok(Self { name, at, path, transport })
    }
}

/// Where images are whose names have no registry: `HOST[:PORT][/NAMESPACE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRegistry {
    /// The registry.
    pub name: RegistryName,
    /// What stands before names of one component: `python` is `NAMESPACE/python`.
    pub namespace: Option<String>,
}

impl FromStr for DefaultRegistry {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (name, namespace) = host_and_path(text)?;
        Ok(Self { name, namespace })
    }
}

impl fmt::Display for DefaultRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        self.namespace.iter().try_for_each(|namespace| write!(f, "/{namespace}"))
    }
}

fn host_and_path(text: &str) -> Result<(RegistryName, Option<String>), SettingError> {
    let (host, path) = match text.split_once('/') {
        None => (text, None),
        Some((host, path)) => (host, Some(path)),
    };
    if let Some(path) = path.filter(|path| !is_repository(path)) {
        return Err(SettingError::Path { text: path.to_owned() });
    }
    Ok((host.parse()?, path.map(str::to_owned)))
}

/// Whether registries are asked that the operator did not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Others {
    /// Those that are public, over HTTPS.
    #[default]
    Public,
    /// None.
    None,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct RegistrySettings {
    /// Those that the operator names.
    pub known: Vec<KnownRegistry>,
    /// Where names without a registry are looked up.
    pub default: Option<DefaultRegistry>,
    /// Those that are never asked, on any port where none is said, unless they are known as well.
    pub blocked: Vec<RegistryName>,
    /// What of all others.
    pub others: Others,
}

/// Where a repository is.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// `SCHEME://HOST:PORT/v2/REPOSITORY/`.
    pub(super) base: Url,
    /// The repository's name there.
    pub(super) repository: String,
    /// Who wants it to be asked.
    pub(super) standing: Standing,
}

/// Why no registry is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// The name has no registry, and the operator set none for such names.
    #[error(
        "image {reference} names no registry, and this server has none for such names: write \
         HOST/{reference}, or have the server's operator set --registry-default HOST[/NAMESPACE]"
    )]
    NoDefault {
        /// The reference.
        reference: String,
    },
    /// The operator does not want it.
    #[error("registry {registry} is not one that this server's operator allows (--registry)")]
    NotAllowed {
        /// The registry.
        registry: String,
    },
    /// A name that is no address of the web.
    #[error("registry {registry} has no usable address")]
    Address {
        /// The registry.
        registry: String,
    },
}

impl RegistrySettings {
    /// The reference with its registry, and with the namespace of the default one.
    pub(super) fn qualified(&self, reference: &Reference) -> Result<Reference, SiteError> {
        if reference.registry.is_some() {
            return Ok(reference.clone());
        }
        let none = || SiteError::NoDefault { reference: reference.to_string() };
        let default = self.default.as_ref().ok_or_else(none)?;
        let mut qualified = reference.clone();
        qualified.registry = Some(default.name.clone());
        if let (Some(namespace), false) = (&default.namespace, reference.repository.contains('/')) {
            qualified.repository = format!("{namespace}/{}", reference.repository);
        }
        Ok(qualified)
    }

    /// Where a qualified reference leads.
    pub(super) fn site(&self, reference: &Reference) -> Result<Site, SiteError> {
        let none = || SiteError::NoDefault { reference: reference.to_string() };
        let name = reference.registry.as_ref().ok_or_else(none)?;
        let is_default = self.default.as_ref().is_some_and(|default| same(&default.name, name));
        let plain;
        let (registry, standing) = match self.known(name) {
            Some(known) => (known, Standing::Operator),
            None if is_default || (self.others == Others::Public && !self.is_blocked(name)) => {
                let (at, transport) = (name.clone(), Transport::Https);
                plain = KnownRegistry { name: name.clone(), at, path: None, transport };
                let by_operator = if is_default { Standing::Operator } else { Standing::Caller };
                (&plain, by_operator)
            }
            None => return Err(SiteError::NotAllowed { registry: name.to_string() }),
        };
        let repository = match &registry.path {
            Some(path) => format!("{path}/{}", reference.repository),
            None => reference.repository.clone(),
        };
        let (scheme, at) = (registry.transport.scheme(), &registry.at);
        let base = format!("{scheme}://{at}/v2/{repository}/").parse();
        let base = base.map_err(|_no_url| SiteError::Address { registry: name.to_string() })?;
        Ok(Site { base, repository, standing })
    }

    fn is_blocked(&self, name: &RegistryName) -> bool {
        let port = name.port.unwrap_or(Transport::Https.port());
        let is = |blocked: &RegistryName| blocked.port.is_none_or(|blocked| blocked == port);
        self.blocked.iter().any(|blocked| blocked.host == name.host && is(blocked))
    }

    fn known(&self, name: &RegistryName) -> Option<&KnownRegistry> {
        self.known.iter().find(|known| {
            let port = |name: &RegistryName| name.port.unwrap_or(known.transport.port());
            known.name.host == name.host && port(&known.name) == port(name)
        })
    }

    /// On whose word an endpoint is dialled that a registry of that standing leads to: what the
    /// operator named is open to the registries that the operator named, and to no other.
    pub(super) fn standing(&self, of: Standing, to: &Endpoint) -> Standing {
        let is = |name: &RegistryName, transport: Transport| {
            name.host == to.host && name.port.unwrap_or(transport.port()) == to.port
        };
        let known = self.known.iter().any(|known| is(&known.at, known.transport));
        let default = || self.default.as_ref().is_some_and(|at| is(&at.name, Transport::Https));
        match of {
            Standing::Operator if known || default() => Standing::Operator,
            Standing::Operator | Standing::Caller => Standing::Caller,
        }
    }
}

fn same(one: &RegistryName, other: &RegistryName) -> bool {
    let port = |name: &RegistryName| name.port.unwrap_or(Transport::Https.port());
    one.host == other.host && port(one) == port(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(known: &[&str], default: Option<&str>, others: Others) -> RegistrySettings {
        RegistrySettings {
            known: known.iter().map(|text| text.parse().unwrap()).collect(),
            default: default.map(|text| text.parse().unwrap()),
            blocked: Vec::new(),
            others,
        }
    }

    #[test]
    fn a_blocked_registry_is_not_asked_as_one_of_the_others() {
        let mut blocked = settings(&["both.test"], None, Others::Public);
        blocked.blocked =
            ["b.test", "both.test", "p.test:5000"].map(|name| name.parse().unwrap()).into();
        for reference in ["b.test/a", "B.test:8443/a", "p.test:5000/a"] {
            assert!(site(&blocked, reference).unwrap_err().contains("allows"), "{reference}");
        }
        for reference in ["both.test/a", "p.test/a", "x.b.test/a"] {
            site(&blocked, reference).unwrap();
        }
    }

    #[track_caller]
    fn site(settings: &RegistrySettings, reference: &str) -> Result<(String, Standing), String> {
        let reference = reference.parse().unwrap();
        let qualified = settings.qualified(&reference).map_err(|error| error.to_string())?;
        let site = settings.site(&qualified).map_err(|error| error.to_string())?;
        Ok((site.base.to_string(), site.standing))
    }

    #[test]
    fn a_name_without_a_registry_needs_a_setting_and_says_which() {
        let none = settings(&[], None, Others::Public);
        let error = site(&none, "python:3.12").unwrap_err();
        assert!(error.contains("HOST/python:3.12") && error.contains("--registry-default"));
        let set = settings(&[], Some("r.example/library"), Others::None);
        let at = |reference| site(&set, reference).unwrap();
        let python = "https://r.example/v2/library/python/".to_owned();
        assert_eq!(at("python:3.12"), (python.clone(), Standing::Operator));
        assert_eq!(at("r.example:443/library/python").0, python);
        assert_eq!(at("team/app").0, "https://r.example/v2/team/app/");
    }

    #[test]
    fn other_registries_are_public_ones_over_https_or_none() {
        let open = settings(&["r.example:5000,insecure"], None, Others::Public);
        let at = |reference| site(&open, reference).unwrap();
        let known = "http://r.example:5000/v2/a/".to_owned();
        assert_eq!(at("r.example:5000/a"), (known, Standing::Operator));
        let other = "https://r.example:5001/v2/a/".to_owned();
        assert_eq!(at("r.example:5001/a"), (other, Standing::Caller));
        let closed = settings(&["r.example"], None, Others::None);
        assert!(site(&closed, "r.example:443/a").is_ok());
        let error = site(&closed, "s.example/a").unwrap_err();
        assert!(error.contains("s.example") && error.contains("--registry"), "{error}");
    }

    #[test]
    fn a_name_may_stand_for_an_api_elsewhere() {
        let set = settings(
            &["hub.example=mirror.example:5000/proxy,insecure"],
            Some("hub.example/library"),
            Others::None,
        );
        let at = site(&set, "python").unwrap().0;
        assert_eq!(at, "http://mirror.example:5000/v2/proxy/library/python/");
        let refused = ["", "a b", "r.example,secure", "r.example=", "r.example=s.example/../a"];
        for text in refused {
            assert!(text.parse::<KnownRegistry>().is_err(), "{text}");
        }
        assert!("r.example/UP".parse::<DefaultRegistry>().is_err());
        let default: DefaultRegistry = "r.example:1/library".parse().unwrap();
        assert_eq!(default.to_string(), "r.example:1/library");
    }

    #[test]
    fn what_the_operator_named_is_not_open_to_those_that_a_caller_named() {
        let set = settings(&["r.example:5000,insecure"], Some("d.example"), Others::Public);
        let endpoint = |text: &str| Endpoint::of(&text.parse().unwrap()).unwrap();
        let inside = endpoint("http://r.example:5000/x");
        assert_eq!(set.standing(Standing::Operator, &inside), Standing::Operator);
        assert_eq!(set.standing(Standing::Caller, &inside), Standing::Caller);
        let other = endpoint("http://r.example/x");
        assert_eq!(set.standing(Standing::Operator, &other), Standing::Caller);
        let default = endpoint("https://d.example/x");
        assert_eq!(set.standing(Standing::Operator, &default), Standing::Operator);
    }
}
