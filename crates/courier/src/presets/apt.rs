//! Preset `apt`: the machine's Debian mirrors, for the release that sandboxes have.

use std::path::{Path, PathBuf};

use courier_protocol::node::ResolvedPreset;
use courier_types::GuestFile;
use futures_util::future::join_all;

use super::Given;
use super::ask::Ask;
use super::error::ConfigurationError;
use super::machine::Machine;
use super::mirror::{Mirror, Placed, Site, rules};
use super::netrc;
use crate::template;

/// The preset's name.
pub(crate) const NAME: &str = "apt";
/// Where apt's settings are.
const FOLDER: &str = "/etc/apt";
/// The keys of Debian's archive inside of sandboxes (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What a release's suites are called, after its own name.
const KINDS: [&str; 3] = ["", "-updates", "-security"];

/// What apt is told.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    release: &'static str,
    /// Mirrors and their suites of the release; no suites: to be asked for.
    mirrors: Vec<(Mirror, Vec<String>)>,
}

impl Settings {
    /// Reads it from what the operator gave, else from apt's sources.
    pub(crate) fn read(machine: &Machine, given: Given<'_>) -> Result<Self, ConfigurationError> {
        let mut settings = Self { release: template::DEBIAN_RELEASE, mirrors: Vec::new() };
        if let Some(given) = given {
            let mirrors = given.mirrors()?.into_iter();
            settings.mirrors = mirrors.map(|mirror| (mirror, Vec::new())).collect();
            return Ok(settings);
        }
        let folder = machine.place(Path::new(FOLDER));
        let logins = logins(machine)?;
        for source in template::mirrors_in(&folder, settings.release) {
            let mut mirror = Mirror::parse(source.uri(), "apt's sources")?;
            if mirror.login.is_none() {
                mirror.login = netrc::for_address(&logins, &mirror.url);
            }
            let suite = source.suite().to_owned();
            match settings.mirrors.iter_mut().find(|(known, _)| known.url == mirror.url) {
                Some((_, suites)) => suites.push(suite),
                None => settings.mirrors.push((mirror, vec![suite])),
            }
        }
        Ok(settings)
    }

    /// The mirrors that it names.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.mirrors.iter().map(|(mirror, _)| mirror)
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
        let release = self.release;
        let asked = self.mirrors.iter().map(|(mirror, suites)| async {
            if suites.is_empty() { suites_of(ask, mirror, release).await } else { suites.clone() }
        });
        let suites = join_all(asked).await;
        for ((_, known), suites) in self.mirrors.iter_mut().zip(suites) {
            *known = suites;
        }
        self.mirrors.retain(|(_, suites)| !suites.is_empty());
        if self.mirrors.is_empty() {
            return Err(ConfigurationError::Unsaid {
                what: "packages of the sandboxes' Debian release",
                remedy: "name a Debian mirror in /etc/apt/sources.list.d, or start with --preset \
                         apt=URL",
            });
        }
        let credentials = self.logins()?;
        let site = |mirror: &Mirror| {
            Site::new(&mirror.url, mirror.below().into_iter().collect(), &mirror.origin)
        };
        let sites = self.mirrors().map(site).collect::<Result<Vec<_>, _>>()?;
        Ok(ResolvedPreset {
            rules: rules(sites),
            credentials: credentials.iter().filter_map(Placed::credential).collect(),
            env: std::collections::BTreeMap::new(),
            files: vec![GuestFile { path: format!("{FOLDER}/sources.list"), text: self.file() }],
        })
    }

    fn file(&self) -> String {
        let lines = self.mirrors.iter().flat_map(|(mirror, suites)| {
            let line =
                |suite| format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror.text());
            suites.iter().map(line)
        });
        lines.collect()
    }
}

fn logins(machine: &Machine) -> Result<Vec<netrc::Entry>, ConfigurationError> {
    let mut files = vec![PathBuf::from(FOLDER).join("auth.conf")];
    let folder = PathBuf::from(FOLDER).join("auth.conf.d");
    files.extend(files_of_logins(machine, &folder)?);
    let mut logins = Vec::new();
    for file in files {
        logins.extend(netrc::entries(&machine.read(&file)?.unwrap_or_default()));
    }
    Ok(logins)
}

/// The files with logins in apt's folder for them, sorted as apt reads them.
fn files_of_logins(machine: &Machine, folder: &Path) -> Result<Vec<PathBuf>, ConfigurationError> {
    let mut files = Vec::new();
    for name in machine.names(folder)? {
        let path = folder.join(name);
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The suites of a release that a mirror has; the release's own where the mirror does not answer.
async fn suites_of(ask: &dyn Ask, mirror: &Mirror, release: &str) -> Vec<String> {
    let asked = KINDS.map(|kind| async move {
        let suite = format!("{release}{kind}");
        let url = mirror.join(&format!("dists/{suite}/InRelease"))?;
        ask.page(mirror, url, "*/*").await.ok().map(|_page| suite)
    });
    let suites: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
    if suites.is_empty() {
        tracing::warn!(
            mirror = mirror.text(),
            release,
            "the mirror does not tell which suites it has: taken for one of the release alone"
        );
        return vec![release.to_owned()];
    }
    suites
}
