//! Preset `go`: the module proxy of Go, and its checksum database.

use std::collections::BTreeMap;
use std::path::PathBuf;

use courier_protocol::node::ResolvedPreset;

use super::Given;
use super::ask::Ask;
use super::error::ConfigurationError;
use super::machine::Machine;
use super::mirror::{Mirror, Placed, Site, rules};
use super::netrc;

/// The preset's name.
pub(crate) const NAME: &str = "go";
/// The setting with the proxies.
const PROXIES: &str = "GOPROXY";
/// The setting with the checksum database.
const SUMS: &str = "GOSUMDB";
/// Settings that name modules which the checksum database does not know, most specific first.
const UNSUMMED: [&str; 2] = ["GONOSUMDB", "GOPRIVATE"];

/// What Go is told.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    proxies: Vec<Mirror>,
    sums: Option<String>,
    unsummed: Option<String>,
}

impl Settings {
    /// Reads it from what the operator gave, else from Go's variables and its own file of them.
    pub(crate) fn read(machine: &Machine, given: Given<'_>) -> Result<Self, ConfigurationError> {
        let said = said(machine)?;
        let value = |name: &str| said.get(name).cloned();
        let mut settings = Self {
            sums: value(SUMS),
            unsummed: UNSUMMED.iter().find_map(|name| value(name)),
            proxies: Vec::new(),
        };
        if let Some(given) = given {
            settings.proxies = given.mirrors()?;
            return Ok(settings);
        }
        let logins = match machine.path_or_home("NETRC", ".netrc") {
            Some(path) => machine.read(&path)?.map(|text| netrc::entries(&text)),
            None => None,
        };
        let logins = logins.unwrap_or_default();
        settings.proxies = proxies(&value(PROXIES).unwrap_or_default())?;
        for mirror in &mut settings.proxies {
            if mirror.login.is_none() && mirror.url.scheme() == "https" {
                mirror.login = netrc::for_host(&logins, &mirror.url);
            }
        }
        Ok(settings)
    }

    /// The proxies that it names.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.proxies.iter()
    }

    /// Its logins.
    pub(crate) fn logins(&self) -> Result<Vec<Placed>, ConfigurationError> {
        let placed = self.mirrors().map(|mirror| Placed::of(NAME, mirror, mirror.below()));
        Ok(placed.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// What the preset stands for.
    pub(crate) async fn resolve(
        mut self,
        ask: &dyn Ask,
    ) -> Result<ResolvedPreset, ConfigurationError> {
        if self.proxies.is_empty() {
            self.ask_go(ask).await?;
        }
        let credentials = self.logins()?;
        let site = |mirror: &Mirror| {
            Site::new(&mirror.url, mirror.below().into_iter().collect(), &mirror.origin)
        };
        let mut sites = self.proxies.iter().map(site).collect::<Result<Vec<_>, _>>()?;
        let sums = self.sums()?;
        if let Some(sums) = &sums {
            sites.extend(self.sums_site(ask, sums).await?);
        }
        let proxies: Vec<String> = self.proxies.iter().map(Mirror::text).collect();
        let mut env = BTreeMap::from([(PROXIES.to_owned(), proxies.join(","))]);
        let off = self.sums.filter(|sums| sums == "off");
        let said = sums.map(|sums| sums.said).or(off);
        env.extend(said.map(|said| (SUMS.to_owned(), said)));
        env.extend(self.unsummed.map(|names| ("GONOSUMDB".to_owned(), names)));
        Ok(ResolvedPreset {
            rules: rules(sites),
            credentials: credentials.iter().filter_map(Placed::credential).collect(),
            env,
            files: Vec::new(),
        })
    }

    /// What Go does when nobody tells it anything.
    async fn ask_go(&mut self, ask: &dyn Ask) -> Result<(), ConfigurationError> {
        let answer = ask.tool("go", &["env", PROXIES, SUMS]).await;
        if let Err(error) = &answer {
            tracing::debug!(%error, "go cannot be asked for its proxy");
        }
        let answer = answer.unwrap_or_default();
        let mut lines = answer.lines().map(str::trim);
        self.proxies = proxies(lines.next().unwrap_or_default())?;
        if self.proxies.is_empty() {
            return Err(ConfigurationError::Unsaid {
                what: "Go modules",
                remedy: "set GOPROXY to a proxy's address (go env -w), install go, or start with \
                         --preset go=URL",
            });
        }
        let sums = lines.next().filter(|sums| !sums.is_empty()).map(str::to_owned);
        self.sums = self.sums.take().or(sums);
        Ok(())
    }

    /// The checksum database; `None` where there is none, or Go knows by itself.
    fn sums(&self) -> Result<Option<Sums>, ConfigurationError> {
        let Some(sums) = self.sums.as_deref().filter(|sums| *sums != "off") else {
            return Ok(None);
        };
        let mut words = sums.split_whitespace();
        let first = words.next().unwrap_or_default().to_owned();
        let name = first.split('+').next().unwrap_or_default().to_owned();
        let address = words.next();
        let url = address.map_or_else(|| format!("https://{name}"), str::to_owned);
        let database = Mirror::parse(&url, SUMS)?;
        if database.login.is_some() {
            return Err(ConfigurationError::Credential {
                origin: SUMS.to_owned(),
                why: "a checksum database has none; let the proxy pass its answers on",
            });
        }
        let said = match address {
            Some(_) => format!("{first} {}", database.text()),
            None => first,
        };
        Ok(Some(Sums { name, said, database }))
    }

    /// Where the checksum database has to be reached by itself: where the proxy does not pass its
    /// answers on (Go's reference, "Module proxies": `/sumdb/NAME/supported`).
    async fn sums_site(
        &self,
        ask: &dyn Ask,
        sums: &Sums,
    ) -> Result<Option<Site>, ConfigurationError> {
        // Go asks only its first proxy.
        let first = self.proxies.first();
        let path = format!("sumdb/{}/supported", sums.name);
        if let Some((proxy, url)) = first.and_then(|proxy| Some((proxy, proxy.join(&path)?)))
            && ask.page(proxy, url, "*/*").await.is_ok()
        {
            return Ok(None);
        }
        let paths = sums.database.below().into_iter().collect();
        Site::new(&sums.database.url, paths, SUMS).map(Some)
    }
}

/// A checksum database.
struct Sums {
    /// Its name.
    name: String,
    /// What Go is told: name or key, and the address where there is one.
    said: String,
    /// Where it is.
    database: Mirror,
}

/// The settings: variables before Go's own file of them (`go help environment`).
fn said(machine: &Machine) -> Result<BTreeMap<String, String>, ConfigurationError> {
    let file = machine.variable("GOENV").map(PathBuf::from);
    let file = file.or_else(|| machine.user_config("go/env"));
    let text = match file.filter(|file| file.as_os_str() != "off") {
        Some(file) => machine.read(&file)?.unwrap_or_default(),
        None => String::new(),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let mut said: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
    for name in [PROXIES, SUMS].iter().chain(&UNSUMMED) {
        if let Some(value) = machine.variable(name) {
            said.insert((*name).to_owned(), value.to_owned());
        }
    }
    said.retain(|_, value| !value.is_empty());
    Ok(said)
}

/// The proxies of a list. `direct` would go to any host, and so goes nowhere.
fn proxies(list: &str) -> Result<Vec<Mirror>, ConfigurationError> {
    let words = list.split([',', '|']).map(str::trim);
    let urls = words.filter(|word| !matches!(*word, "" | "direct" | "off"));
    urls.map(|url| Mirror::parse(url, PROXIES)).collect()
}
