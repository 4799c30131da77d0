//! Preset `npm`: the registry of npm, and those of its scopes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_protocol::node::ResolvedPreset;
use courier_types::GuestFile;
use courier_types::egress::SecretValue;
use futures_util::future::join_all;
use url::Url;

use super::Given;
use super::ask::Ask;
use super::error::ConfigurationError;
use super::machine::Machine;
use super::mirror::{Login, Mirror, Placed, Site, rules};

/// The preset's name.
pub(crate) const NAME: &str = "npm";
/// A package that every registry has or passes on.
const PACKAGE: &str = "npm/latest";
/// What a registry answers.
const ACCEPT: &str = "application/json";
/// What the names of npm's variables begin with, in any case.
const VARIABLE_PREFIX: &str = "npm_config_";
/// Where npm's global settings are, as different packagings have it.
const MACHINE_FILES: [&str; 3] = ["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"];

/// What npm is told.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    main: Option<Mirror>,
    scopes: BTreeMap<String, Mirror>,
    logins: Vec<Placed>,
}

impl Settings {
    /// Reads it from what the operator gave, else from npm's files and variables.
    pub(crate) fn read(machine: &Machine, given: Given<'_>) -> Result<Self, ConfigurationError> {
        if let Some(given) = given {
            let main = given.single("npm has one registry; scopes have their own in npmrc")?;
            let logins = Placed::of(NAME, &main, main.below())?.into_iter().collect();
            return Ok(Self { main: Some(main), logins, ..Self::default() });
        }
        let said = said(machine)?;
        let mut settings = Self::default();
        for (key, (origin, value)) in &said {
            if key == "registry" {
                settings.main = Some(Mirror::parse(value, origin)?);
            } else if let Some(scope) = key.strip_suffix(":registry").filter(|key| is_scope(key)) {
                settings.scopes.insert(scope.to_owned(), Mirror::parse(value, origin)?);
            }
        }
        settings.logins = logins(&said, &settings)?;
        for mirror in settings.main.iter().chain(settings.scopes.values()) {
            settings.logins.extend(Placed::of(NAME, mirror, mirror.below())?);
        }
        Ok(settings)
    }

    /// The registries that it names.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.main.iter().chain(self.scopes.values())
    }

    /// Its logins.
    pub(crate) fn logins(&self) -> Vec<Placed> {
        self.logins.clone()
    }

    /// What the preset stands for.
    pub(crate) async fn resolve(
        mut self,
        ask: &dyn Ask,
    ) -> Result<ResolvedPreset, ConfigurationError> {
        if self.main.is_none() {
            self.main = Some(npms_own(ask).await?);
        }
        let asked = self.mirrors().map(|mirror| sites(ask, mirror, self.login_for(&mirror.url)));
        let sites = join_all(asked).await;
        let sites = sites.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        let rules = rules(sites);
        let reached = |placed: &&Placed| rules.iter().any(|rule| rule.to == placed.destination());
        let credentials = self.logins.iter().filter(reached).filter_map(Placed::credential);
        let credentials = credentials.collect();
        let main = self.main.as_ref().map(Mirror::text).unwrap_or_default();
        let text = settings_file(&main, &self.scopes);
        let file = |path: &&str| GuestFile { path: (*path).to_owned(), text: text.clone() };
        Ok(ResolvedPreset {
            rules,
            credentials,
            env: [("npm_config_registry".to_owned(), format!("{main}/"))].into(),
            files: MACHINE_FILES.iter().map(file).collect(),
        })
    }

    fn login_for(&self, url: &Url) -> Option<Login> {
        self.logins.iter().find_map(|placed| placed.login_for(url))
    }
}

type Said = BTreeMap<String, (String, String)>;

/// Everything that is said, by key; the last word counts (npm's documentation, "npmrc").
fn said(machine: &Machine) -> Result<Said, ConfigurationError> {
    let variable = |name: &str| {
        let own = format!("{VARIABLE_PREFIX}{name}");
        let found = machine.variables().iter().find(|(key, _)| key.eq_ignore_ascii_case(&own));
        found.map(|(_, value)| PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty())
    };
    let mut files: Vec<PathBuf> = match variable("globalconfig") {
        Some(file) => vec![file],
        None => MACHINE_FILES.iter().map(PathBuf::from).collect(),
    };
    files.extend(variable("userconfig").or_else(|| machine.home(".npmrc")));
    let mut said = Said::new();
    for file in files {
        let Some(text) = machine.read(&file)? else { continue };
        said.extend(settings_of(machine, &file, &text));
    }
    for (name, value) in machine.variables() {
        let prefix = name.get(..VARIABLE_PREFIX.len());
        if prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(VARIABLE_PREFIX)) {
            let key = name.get(VARIABLE_PREFIX.len()..).unwrap_or_default();
            let key = if key.starts_with(['/', '@']) { key.into() } else { key.to_lowercase() };
            if !value.is_empty() {
                said.insert(key, (name.clone(), value.clone()));
            }
        }
    }
    Ok(said)
}

/// The settings of one file: `key = value`, `;` and `#` begin comments, `${NAME}` is a variable.
fn settings_of(machine: &Machine, file: &Path, text: &str) -> Vec<(String, (String, String))> {
    let setting = |line: &str| {
        let line = line.trim();
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with([';', '#', '[']))?;
        let value = value.trim().trim_matches(['"', '\'']);
        let key = expand(machine, key.trim());
        let origin = format!("{} ({key})", file.display());
        Some((key, (origin, expand(machine, value))))
    };
    text.lines().filter_map(setting).collect()
}

/// Puts variables in place; one that is not set stays as it is written, or is nothing with `?`.
fn expand(machine: &Machine, text: &str) -> String {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("${") {
        expanded.push_str(before);
        let Some((name, after)) = behind.split_once('}') else {
            expanded.push_str("${");
            rest = behind;
            continue;
        };
        let (plain, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        match machine.variable(plain) {
            Some(value) => expanded.push_str(value),
            None if optional => {}
            None => expanded.push_str(&format!("${{{name}}}")),
        }
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

fn is_scope(key: &str) -> bool {
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    key.strip_prefix('@').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(name))
}

/// The logins: keys `//HOST[:PORT]/PATH/:NAME`. They have no scheme: a registry that is asked in
/// clear makes one that cannot be used. One for a place that is no registry of ours, archives may be
/// there, is left out where it cannot be used.
fn logins(said: &Said, settings: &Settings) -> Result<Vec<Placed>, ConfigurationError> {
    let mut places: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut origins: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, (origin, value)) in said {
        let Some((place, name)) = key.strip_prefix("//").and_then(|key| key.rsplit_once(":"))
        else {
            continue;
        };
        places.entry(place).or_default().insert(name, value);
        origins.insert(place, origin);
    }
    let mut logins = Vec::new();
    for (place, values) in places {
        let origin = origins.get(place).copied().unwrap_or_default();
        let Some(login) = login(&values, origin)? else { continue };
        let authority = place.split('/').next().unwrap_or_default();
        let registry = settings.mirrors().find(|mirror| mirror.url.authority() == authority);
        let scheme = registry.map_or("https", |registry| registry.url.scheme());
        let placed = Mirror::parse(&format!("{scheme}://{place}"), origin).and_then(|mirror| {
            let mirror = Mirror { login: Some(login), ..mirror };
            Placed::of(NAME, &mirror, mirror.below())
        });
        match placed {
            Ok(placed) => logins.extend(placed),
            Err(error) if registry.is_some() => return Err(error),
            Err(error) => tracing::debug!(%error, "a credential of npm's is left out"),
        }
    }
    Ok(logins)
}

fn login(values: &BTreeMap<&str, &str>, origin: &str) -> Result<Option<Login>, ConfigurationError> {
    let refused = || ConfigurationError::Credential {
        origin: origin.to_owned(),
        why: "its value is no base64 of USER:PASSWORD",
    };
    let decode = |text: &str| STANDARD.decode(text.trim()).map_err(|_no_base64| refused());
    if let Some(token) = values.get("_authToken") {
        return Ok(Some(Login::Bearer(SecretValue::new(token.as_bytes().to_vec()))));
    }
    if let Some(pair) = values.get("_auth") {
        let pair = decode(pair)?;
        let colon = pair.iter().position(|byte| *byte == b':').ok_or_else(refused)?;
        let (username, password) = pair.split_at(colon);
        let username = String::from_utf8(username.to_vec()).map_err(|_not_text| refused())?;
        let password = SecretValue::new(password.get(1..).unwrap_or_default().to_vec());
        return Ok(Some(Login::Basic { username, password }));
    }
    let Some((username, password)) = values.get("username").zip(values.get("_password")) else {
        return Ok(None);
    };
    if username.contains(':') || username.chars().any(char::is_control) {
        return Err(refused());
    }
    let password = SecretValue::new(decode(password)?);
    Ok(Some(Login::Basic { username: (*username).to_owned(), password }))
}

/// The registry that npm goes to when nobody tells it another.
async fn npms_own(ask: &dyn Ask) -> Result<Mirror, ConfigurationError> {
    let answer = ask.tool("npm", &["config", "get", "registry"]).await;
    if let Err(error) = &answer {
        tracing::debug!(%error, "npm cannot be asked for its registry");
    }
    let text = answer.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let text = text.ok_or(ConfigurationError::Unsaid {
        what: "npm packages",
        remedy: "set registry in /etc/npmrc, install npm, or start with --preset npm=URL",
    })?;
    Mirror::parse(&text, "the answer of npm")
}

/// What has to be reachable for one registry: itself, and where its archives are.
async fn sites(
    ask: &dyn Ask,
    mirror: &Mirror,
    login: Option<Login>,
) -> Result<Vec<Site>, ConfigurationError> {
    let origin = &mirror.origin;
    let site = |url: &Url, paths| Site::new(url, paths, origin);
    let own = site(&mirror.url, mirror.below().into_iter().collect())?;
    let asked = Mirror { login: mirror.login.clone().or(login), ..mirror.clone() };
    let page = match mirror.join(PACKAGE) {
        Some(url) => ask.page(&asked, url, ACCEPT).await.ok(),
        None => None,
    };
    let Some(page) = page else {
        tracing::warn!(
            registry = mirror.text(),
            "the registry does not tell where its archives are: if they are at another host, \
             allow that"
        );
        return Ok(vec![own]);
    };
    let parsed: serde_json::Value = serde_json::from_slice(&page.body).unwrap_or_default();
    let archive = parsed.pointer("/dist/tarball").and_then(serde_json::Value::as_str);
    let archive: Option<Url> = archive.and_then(|text| text.parse().ok());
    let mut sites = vec![own];
    let prefix = format!("{}/", mirror.url.path().trim_end_matches('/'));
    let elsewhere =
        |url: &&Url| url.origin() != mirror.url.origin() || !url.path().starts_with(&prefix);
    // npm itself replaces the host of an archive by its registry's own where that is a mirror; a
    // registry that names a host that cannot be allowed does not take the others away.
    let others = archive.iter().chain(&page.way).filter(elsewhere);
    sites.extend(others.filter_map(|url| site(url, Vec::new()).ok()));
    Ok(sites)
}

fn settings_file(main: &str, scopes: &BTreeMap<String, Mirror>) -> String {
    let mut text = format!(
        "registry={main}/\n; These would send what is installed here, which the preset refuses.\n\
         audit=false\nfund=false\nupdate-notifier=false\n"
    );
    for (scope, mirror) in scopes {
        text.push_str(&format!("{scope}:registry={}/\n", mirror.text()));
    }
    text
}
