//! Mirrors: where packages come from, and who one has to be there.
//!
//! An address and its password part right here, when the address is parsed; after that no text has
//! both.

use std::fmt::Write as _;

use courier_protocol::node::PRESET_SECRETS;
use courier_protocol::percent;
use courier_types::egress::{
    Action, Credential, Destination, HostName, HostPattern, Injection, Method, PathPattern,
    PortRange, Protocol, Rule, SecretName, SecretValue, Template,
};
use sha2::{Digest as _, Sha256};
use url::{Host, Url};

use super::error::ConfigurationError;

/// Bytes of the hash in a secret's name: two mirrors of one machine never share 8.
const NAME_HASH_BYTES: usize = 8;

/// Who one has to be.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// `Authorization: Basic`, of a user and a password.
    Basic {
        /// The user; not secret.
        username: String,
        /// The password.
        password: SecretValue,
    },
    /// `Authorization: Basic`, of which only the whole is known or fit to be told nobody.
    WholeBasic(SecretValue),
    /// `Authorization: Bearer`.
    Bearer(SecretValue),
    /// `Authorization` with nothing before the value, as cargo sends it.
    Raw(SecretValue),
}

impl Login {
    const fn value(&self) -> &SecretValue {
        match self {
            Self::Basic { password: value, .. }
            | Self::WholeBasic(value)
            | Self::Bearer(value)
            | Self::Raw(value) => value,
        }
    }

    /// What distinguishes it from others at the same place, beside the value.
    fn kind(&self) -> String {
        match self {
            Self::Basic { username, .. } => format!("basic {username}"),
            Self::WholeBasic(_) => "whole".to_owned(),
            Self::Bearer(_) => "bearer".to_owned(),
            Self::Raw(_) => "raw".to_owned(),
        }
    }

    /// The value of an `Authorization` header, for what the node itself asks.
    pub(crate) fn header(&self) -> Vec<u8> {
        use base64::Engine as _;
        let value = self.value().expose();
        match self {
            Self::Basic { username, .. } => {
                let pair = [username.as_bytes(), b":", value].concat();
                let text = base64::engine::general_purpose::STANDARD.encode(pair);
                format!("Basic {text}").into_bytes()
            }
            Self::WholeBasic(_) => [b"Basic ", value].concat(),
            Self::Bearer(_) => [b"Bearer ", value].concat(),
            Self::Raw(_) => value.to_vec(),
        }
    }

    fn injection(&self, secret: SecretName) -> Option<Injection> {
        let header = |before: &str| {
            let value: Template = format!("{before}${{secrets.{secret}}}").parse().ok()?;
            Some(Injection::Header { name: "authorization".to_owned(), value })
        };
        match self {
            Self::Basic { username, .. } => {
                Some(Injection::Basic { username: username.clone(), secret })
            }
            Self::Bearer(_) => Some(Injection::Bearer { secret }),
            Self::WholeBasic(_) => header("Basic "),
            Self::Raw(_) => header(""),
        }
    }
}

/// A mirror: an address without a password, and who one has to be there.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    /// Its address: `http` or `https`, a name or an IPv4 address, no user, query or fragment.
    pub(crate) url: Url,
    /// Who one has to be.
    pub(crate) login: Option<Login>,
    /// Where it was found, for messages.
    pub(crate) origin: String,
}

impl Mirror {
    /// Reads an address, with or without a user and a password.
    pub(crate) fn parse(text: &str, origin: &str) -> Result<Self, ConfigurationError> {
        let refused = |why: String| {
            let origin = origin.to_owned();
            ConfigurationError::Address { origin, why }
        };
        let mut url: Url =
            text.trim().parse().map_err(|e: url::ParseError| refused(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("it begins neither with http:// nor with https://".into()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it has a query or a fragment".into()));
        }
        let login = login_of(&url).map_err(|()| refused("its user cannot be decoded".into()))?;
        // Both succeed for every address with a host, as http and https ones have.
        let cut = url.set_username("").and_then(|()| url.set_password(None));
        cut.map_err(|()| refused("it has no host".into()))?;
        let mirror = Self { url, login, origin: origin.to_owned() };
        mirror.destination()?;
        Ok(mirror)
    }

    /// Its host as a policy names it.
    pub(crate) fn destination(&self) -> Result<Destination, ConfigurationError> {
        destination(&self.url, &self.origin)
    }

    /// Its host's name; `None` for an address.
    pub(crate) fn host(&self) -> Option<HostName> {
        host_of(&self.url)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        port_of(&self.url)
    }

    /// Everything below its path; `None` where that is everything, or cannot be written as a
    /// pattern.
    pub(crate) fn below(&self) -> Option<PathPattern> {
        below(self.url.path())
    }

    /// Its text without a slash at the end.
    pub(crate) fn text(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    /// The address of something below it.
    pub(crate) fn join(&self, path: &str) -> Option<Url> {
        let mut base = self.url.clone();
        base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
        base.join(path).ok()
    }
}

/// A user without a password is a token: then the whole is secret.
fn login_of(url: &Url) -> Result<Option<Login>, ()> {
    use base64::Engine as _;
    let decode = |text: &str| percent::decode(text).ok_or(());
    let username = String::from_utf8(decode(url.username())?).map_err(|_not_text| ())?;
    match url.password() {
        None if username.is_empty() => Ok(None),
        None => {
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{username}:"));
            Ok(Some(Login::WholeBasic(SecretValue::new(text.into_bytes()))))
        }
        Some(password) => {
            if username.contains(':') || username.chars().any(char::is_control) {
                return Err(());
            }
            let password = SecretValue::new(decode(password)?);
            Ok(Some(Login::Basic { username, password }))
        }
    }
}

/// The host of an address as a policy names it.
pub(crate) fn destination(url: &Url, origin: &str) -> Result<Destination, ConfigurationError> {
    let origin = || origin.to_owned();
    match url.host() {
        Some(Host::Domain(name)) => {
            let host: HostName =
                name.parse().map_err(|error: courier_types::egress::HostError| {
                    ConfigurationError::Address { origin: origin(), why: error.to_string() }
                })?;
            if host.labels().next_back() == Some("localhost") {
                return Err(ConfigurationError::Loopback { origin: origin() });
            }
            Ok(Destination::Host(HostPattern::Exact(host)))
        }
        Some(Host::Ipv4(address)) if address.is_loopback() || address.is_unspecified() => {
            Err(ConfigurationError::Loopback { origin: origin() })
        }
        Some(Host::Ipv4(address)) => Ok(Destination::Net(address.into())),
        Some(Host::Ipv6(address)) if address.is_loopback() || address.is_unspecified() => {
            Err(ConfigurationError::Loopback { origin: origin() })
        }
        Some(Host::Ipv6(_)) | None => {
            let why = "sandboxes reach names and IPv4 addresses only".to_owned();
            Err(ConfigurationError::Address { origin: origin(), why })
        }
    }
}

/// The name in an address; `None` for an IP address.
pub(crate) fn host_of(url: &Url) -> Option<HostName> {
    url.domain().and_then(|name| name.parse().ok())
}

/// The port of an address.
pub(crate) fn port_of(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(443)
}

/// The pattern of everything below a path; `None` for the root and for what no pattern can say.
pub(crate) fn below(path: &str) -> Option<PathPattern> {
    let path = path.trim_end_matches('/');
    if path.is_empty() { None } else { format!("{path}/*").parse().ok() }
}

/// Which requests may go to a host: those that fetch.
pub(crate) fn reading() -> Vec<Method> {
    ["GET", "HEAD"].iter().filter_map(|name| name.parse().ok()).collect()
}

/// What a preset lets through at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    to: Destination,
    port: u16,
    protocol: Protocol,
    paths: Vec<PathPattern>,
}

impl Site {
    /// The host of an address: below these paths, or everywhere when there are none.
    pub(crate) fn new(
        url: &Url,
        paths: Vec<PathPattern>,
        origin: &str,
    ) -> Result<Self, ConfigurationError> {
        let protocol = if url.scheme() == "https" { Protocol::Https } else { Protocol::Http };
        Ok(Self { to: destination(url, origin)?, port: port_of(url), protocol, paths })
    }

    fn is_at(&self, other: &Self) -> bool {
        (&self.to, self.port, self.protocol) == (&other.to, other.port, other.protocol)
    }
}

/// One rule for each place.
pub(crate) fn rules(sites: Vec<Site>) -> Vec<Rule> {
    let mut places: Vec<Site> = Vec::new();
    for site in sites {
        match places.iter_mut().find(|place| place.is_at(&site)) {
            Some(place) if place.paths.is_empty() || site.paths.is_empty() => place.paths.clear(),
            Some(place) => {
                for path in site.paths {
                    if !place.paths.contains(&path) {
                        place.paths.push(path);
                    }
                }
            }
            None => places.push(site),
        }
    }
    let rule = |site: Site| Rule {
        ports: PortRange::one(site.port).into_iter().collect(),
        protocols: vec![site.protocol],
        methods: reading(),
        paths: site.paths,
        ..Rule::new(Action::Allow, site.to)
    };
    places.into_iter().map(rule).collect()
}

/// A login and where it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    preset: &'static str,
    host: HostName,
    port: u16,
    path: Option<PathPattern>,
    login: Login,
}

impl Placed {
    /// The login of a mirror, below its path.
    ///
    /// # Errors
    /// The mirror is one to which a credential cannot be added.
    pub(crate) fn of(
        preset: &'static str,
        mirror: &Mirror,
        path: Option<PathPattern>,
    ) -> Result<Option<Self>, ConfigurationError> {
        let Some(login) = mirror.login.clone() else { return Ok(None) };
        let refused = |why| ConfigurationError::Credential { origin: mirror.origin.clone(), why };
        if mirror.url.scheme() != "https" {
            return Err(refused("the mirror is asked in clear; give its address with https://"));
        }
        let host = mirror.host().ok_or_else(|| {
            refused("the mirror has an address instead of a name, which no certificate is for")
        })?;
        Ok(Some(Self { preset, host, port: mirror.port(), path, login }))
    }

    /// The name of its secret. It says which place the value belongs to, so that a value never goes
    /// to another place, whatever becomes of the configuration while a sandbox lives.
    pub(crate) fn secret_name(&self) -> Option<SecretName> {
        let mut hash = Sha256::new();
        let path = self.path.as_ref().map(ToString::to_string).unwrap_or_default();
        for part in [self.host.as_str(), &self.port.to_string(), &path, &self.login.kind()] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let mut name = format!("{PRESET_SECRETS}{}.", self.preset);
        for byte in hash.finalize().iter().take(NAME_HASH_BYTES) {
            // Writing to a string does not fail.
            let _infallible = write!(name, "{byte:02x}");
        }
        name.parse().ok()
    }

    /// The value of its secret.
    pub(crate) const fn value(&self) -> &SecretValue {
        self.login.value()
    }

    /// Its host as a policy names it.
    pub(crate) fn destination(&self) -> Destination {
        Destination::Host(HostPattern::Exact(self.host.clone()))
    }

    /// The login, where it is for that address.
    pub(crate) fn login_for(&self, url: &Url) -> Option<Login> {
        let here = host_of(url).as_ref() == Some(&self.host)
            && port_of(url) == self.port
            && url.scheme() == "https";
        let path = format!("{}/", url.path().trim_end_matches('/'));
        let below = self.path.as_ref().is_none_or(|pattern| pattern.matches(&path));
        (here && below).then(|| self.login.clone())
    }

    /// As a policy has it.
    pub(crate) fn credential(&self) -> Option<Credential> {
        Some(Credential {
            host: HostPattern::Exact(self.host.clone()),
            ports: PortRange::one(self.port).into_iter().collect(),
            methods: reading(),
            paths: self.path.clone().into_iter().collect(),
            injection: self.login.injection(self.secret_name()?)?,
        })
    }
}

#[cfg(test)]
mod tests;
