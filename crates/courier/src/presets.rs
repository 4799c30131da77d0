//! Presets: what package managers need, from the node's own configuration of them.
//!
//! No registry is named here. Where packages come from is said, in this order, by `--preset`, by the
//! package manager's files and variables on this machine, and by the package manager itself. The
//! passwords and tokens in there never leave this module but as values of secrets that only the
//! egress proxy asks for; files are read at each use, so that a change counts from then on.

mod apt;
mod ask;
mod cargo;
mod error;
mod go;
mod machine;
mod mirror;
mod netrc;
mod npm;
mod pypi;
mod web;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::ask::{Ask, Direct, Keeping};
use self::error::ConfigurationError;
use self::machine::Machine;
use self::mirror::{Mirror, Placed};
use self::web::Web;
use crate::config::outside::PresetSource;
use async_trait::async_trait;
use courier_protocol::node::{PRESET_SECRETS, PresetError, Presets, ResolvedPreset};
use courier_types::egress::{HostName, PresetName, SecretName, SecretValue};

/// What the operator said about one preset.
#[derive(Debug, Clone, Copy)]
struct GivenUrls<'a>(&'a PresetSource);

/// The same, where something was said.
type Given<'a> = Option<GivenUrls<'a>>;

impl GivenUrls<'_> {
    fn mirrors(&self) -> Result<Vec<Mirror>, ConfigurationError> {
        let origin = format!("--preset {}", self.0.name);
        self.0.urls.iter().map(|url| Mirror::parse(url, &origin)).collect()
    }

    /// The only mirror.
    fn single(&self, why: &str) -> Result<Mirror, ConfigurationError> {
        let mut mirrors = self.mirrors()?;
        match (mirrors.pop(), mirrors.is_empty()) {
            (Some(mirror), true) => Ok(mirror),
            (_, _) => Err(ConfigurationError::Address {
                origin: format!("--preset {}", self.0.name),
                why: why.to_owned(),
            }),
        }
    }
}

/// The package managers that there are presets for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Apt,
    Cargo,
    Go,
    Npm,
    Pypi,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Apt, Self::Cargo, Self::Go, Self::Npm, Self::Pypi];

    const fn name(self) -> &'static str {
        match self {
            Self::Apt => apt::NAME,
            Self::Cargo => cargo::NAME,
            Self::Go => go::NAME,
            Self::Npm => npm::NAME,
            Self::Pypi => pypi::NAME,
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn read(self, machine: &Machine, given: Given<'_>) -> Result<Settings, ConfigurationError> {
        Ok(match self {
            Self::Apt => Settings::Apt(apt::Settings::read(machine, given)?),
            Self::Cargo => Settings::Cargo(cargo::Settings::read(machine, given)?),
            Self::Go => Settings::Go(go::Settings::read(machine, given)?),
            Self::Npm => Settings::Npm(npm::Settings::read(machine, given)?),
            Self::Pypi => Settings::Pypi(pypi::Settings::read(machine, given)?),
        })
    }
}

/// What one package manager is told on this machine.
#[derive(Debug)]
enum Settings {
    Apt(apt::Settings),
    Cargo(cargo::Settings),
    Go(go::Settings),
    Npm(npm::Settings),
    Pypi(pypi::Settings),
}

impl Settings {
    fn mirrors(&self) -> Vec<&Mirror> {
        match self {
            Self::Apt(settings) => settings.mirrors().collect(),
            Self::Cargo(settings) => settings.mirrors().collect(),
            Self::Go(settings) => settings.mirrors().collect(),
            Self::Npm(settings) => settings.mirrors().collect(),
            Self::Pypi(settings) => settings.mirrors().collect(),
        }
    }

    fn logins(&self) -> Result<Vec<Placed>, ConfigurationError> {
        match self {
            Self::Apt(settings) => settings.logins(),
            Self::Cargo(settings) => settings.logins(),
            Self::Go(settings) => settings.logins(),
            Self::Npm(settings) => Ok(settings.logins()),
            Self::Pypi(settings) => settings.logins(),
        }
    }

    async fn resolve(self, ask: &dyn Ask) -> Result<ResolvedPreset, ConfigurationError> {
        match self {
            Self::Apt(settings) => settings.resolve(ask).await,
            Self::Cargo(settings) => settings.resolve(ask).await,
            Self::Go(settings) => settings.resolve(ask).await,
            Self::Npm(settings) => settings.resolve(ask).await,
            Self::Pypi(settings) => settings.resolve(ask).await,
        }
    }
}

/// The names of all presets.
pub(crate) fn names() -> impl Iterator<Item = PresetName> {
    Kind::ALL.into_iter().filter_map(|kind| kind.name().parse().ok())
}

/// The presets of this machine.
#[derive(Debug)]
pub(crate) struct NodePresets<A = Keeping<Direct>> {
    machine: Machine,
    given: Vec<PresetSource>,
    ask: A,
}

impl NodePresets {
    /// Those of this machine: from its files, these environment variables and what the operator
    /// gave. `ca` are texts of PEM certificates that are trusted beside the machine's own. Reads
    /// nothing and asks nobody yet.
    pub(crate) fn new(
        variables: BTreeMap<String, String>,
        given: Vec<PresetSource>,
        ca: Vec<Vec<u8>>,
    ) -> Self {
        let machine = Machine::new(PathBuf::from("/"), variables);
        Self { machine, given, ask: Keeping::new(Direct { web: Web::new(ca) }) }
    }
}

impl<A> NodePresets<A> {
    fn settings(&self, kind: Kind) -> Result<Settings, ConfigurationError> {
        let given = self.given.iter().find(|source| source.name.as_str() == kind.name());
        kind.read(&self.machine, given.map(GivenUrls))
    }

    /// The hosts and ports that the configuration names: they are within reach even where their
    /// addresses are private. Hosts that an index names are not among them.
    pub(crate) fn hosts(&self) -> Vec<(HostName, u16)> {
        let mut hosts = Vec::new();
        for kind in Kind::ALL {
            match self.settings(kind) {
                Ok(settings) => {
                    let mirrors = settings.mirrors();
                    hosts.extend(mirrors.iter().filter_map(|m| Some((m.host()?, m.port()))));
                }
                // Told in full to whoever asks for the preset.
                Err(error) => tracing::debug!(preset = kind.name(), %error, "no preset"),
            }
        }
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

#[async_trait]
impl<A: Ask + 'static> Presets for NodePresets<A> {
    async fn resolve(&self, name: &PresetName) -> Result<ResolvedPreset, PresetError> {
        let Some(kind) = Kind::of(name.as_str()) else {
            return Err(PresetError::Unknown { name: name.clone(), known: names().collect() });
        };
        let configuration = |error: ConfigurationError| PresetError::Configuration {
            name: name.clone(),
            source: error.into(),
        };
        let settings = self.settings(kind).map_err(configuration)?;
        settings.resolve(&self.ask).await.map_err(configuration)
    }

    fn secret(&self, name: &SecretName) -> Option<SecretValue> {
        let kind = Kind::of(name.as_str().strip_prefix(PRESET_SECRETS)?.split('.').next()?)?;
        let logins = self.settings(kind).and_then(|settings| settings.logins());
        if let Err(error) = &logins {
            tracing::warn!(preset = kind.name(), %error, "the preset's credentials cannot be read");
        }
        let placed = logins.ok()?.into_iter();
        let mut found = placed.filter(|placed| placed.secret_name().as_ref() == Some(name));
        found.next().map(|placed| placed.value().clone())
    }
}

#[cfg(test)]
mod tests;
