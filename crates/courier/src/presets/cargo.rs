//! Preset `cargo`: the registry that stands for crates.io, and the machine's other registries.
//!
//! cargo has no way to say which registry it would use by itself, so one has to be configured: by
//! source replacement, or with `--preset`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use courier_protocol::node::ResolvedPreset;
use courier_types::GuestFile;
use courier_types::egress::SecretValue;
use futures_util::future::join_all;
use toml::{Table, Value};
use url::Url;

use super::Given;
use super::ask::Ask;
use super::error::ConfigurationError;
use super::machine::Machine;
use super::mirror::{Login, Mirror, Placed, Site, rules};

/// The preset's name.
pub(crate) const NAME: &str = "cargo";
/// Where a sparse index says the rest (cargo's reference, "Index format").
const CONFIG: &str = "config.json";
/// What addresses of sparse indexes begin with.
const SPARSE: &str = "sparse+";
/// What the registry that stands for crates.io is called inside.
const MAIN: &str = "courier";
/// Most sources that replace each other in a row.
const CHAIN_MAX: usize = 8;
/// The file inside. cargo reads the configuration of every folder above the current one, the root
/// folder's too, and it does so for every user.
const FILE: &str = "/.cargo/config.toml";
/// What stands inside where cargo insists on a token; the real one is added outside.
const NO_TOKEN: &str = "kept-outside-of-the-sandbox";

const REMEDY: &str = "replace source crates-io in cargo's config.toml by a sparse registry, or \
                      start with --preset cargo=URL, the URL of a sparse index";

/// What cargo is told.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// The registry that stands for crates.io.
    main: Option<String>,
    /// All registries by name. No two have the same index: cargo would not know whose token to
    /// take.
    registries: BTreeMap<String, Mirror>,
    /// The registry that commands go to when they name none.
    default: Option<String>,
}

impl Settings {
    /// Reads it from what the operator gave, else from cargo's files and variables.
    pub(crate) fn read(machine: &Machine, given: Given<'_>) -> Result<Self, ConfigurationError> {
        if let Some(given) = given {
            let main = given.single("one sparse index stands for crates.io")?;
            let mut settings = Self::default();
            settings.set_main(main);
            return Ok(settings);
        }
        let Some(home) = machine.path_or_home("CARGO_HOME", ".cargo") else {
            return Ok(Self::default());
        };
        let config = table(machine, &home, "config")?;
        let tokens = table(machine, &home, "credentials")?;
        let indexes = indexes(machine, &config);
        let registry = |name: &str, origin: &str, index: &str| {
            let mut mirror = sparse(index, origin)?;
            let token = token(machine, [&tokens, &config], name);
            mirror.login = token.map(|token| Login::Raw(SecretValue::new(token.into_bytes())));
            Ok::<_, ConfigurationError>(mirror)
        };
        let origin = home.join("config.toml").display().to_string();
        let mut settings = Self::default();
        for (name, index) in &indexes {
            // One with git would be asked with requests that send; it can only be left out.
            if is_sparse(index) {
                let origin = format!("{origin} (registry {name})");
                let mirror = registry(name, &origin, index)?;
                if settings.name_of(&mirror).is_none() {
                    settings.registries.insert(name.clone(), mirror);
                }
            }
        }
        if let Some((name, index)) = replacement(&config, &indexes) {
            settings.set_main(registry(&name, &origin, &index)?);
        }
        let default = machine.variable("CARGO_REGISTRY_DEFAULT").map(str::to_owned);
        settings.default = default
            .or_else(|| text(&config, &["registry", "default"]))
            .filter(|name| settings.registries.contains_key(name));
        Ok(settings)
    }

    fn name_of(&self, mirror: &Mirror) -> Option<String> {
        let mut same = self.registries.iter().filter(|(_, known)| known.url == mirror.url);
        same.next().map(|(name, _)| name.clone())
    }

    fn set_main(&mut self, mirror: Mirror) {
        let name = self.name_of(&mirror).unwrap_or_else(|| MAIN.to_owned());
        self.registries.entry(name.clone()).or_insert(mirror);
        self.main = Some(name);
    }

    /// The registries that it names.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.registries.values()
    }

    /// Its logins. A token is sent to the index; archives may lie anywhere on the same host.
    pub(crate) fn logins(&self) -> Result<Vec<Placed>, ConfigurationError> {
        let placed = self.mirrors().map(|mirror| Placed::of(NAME, mirror, None));
        Ok(placed.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// What the preset stands for.
    pub(crate) async fn resolve(self, ask: &dyn Ask) -> Result<ResolvedPreset, ConfigurationError> {
        if self.mirrors().next().is_none() {
            return Err(ConfigurationError::Unsaid { what: "Rust packages", remedy: REMEDY });
        }
        let credentials = self.logins()?;
        let sites = join_all(self.mirrors().map(|mirror| sites(ask, mirror))).await;
        let sites = sites.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        let tokens = self.registries.iter().filter(|(_, mirror)| mirror.login.is_some());
        let env = tokens.map(|(name, _)| (variable(name, "TOKEN"), NO_TOKEN.to_owned())).collect();
        Ok(ResolvedPreset {
            rules: rules(sites),
            credentials: credentials.iter().filter_map(Placed::credential).collect(),
            env,
            files: vec![GuestFile { path: FILE.to_owned(), text: self.file() }],
        })
    }

    /// What is told to cargo inside.
    fn file(&self) -> String {
        let mut text = String::new();
        if let Some(main) = &self.main {
            text.push_str(&format!("[source.crates-io]\nreplace-with = \"{main}\"\n"));
        }
        for (name, mirror) in &self.registries {
            text.push_str(&format!(
                "\n[registries.{name}]\nindex = \"{SPARSE}{}/\"\n",
                mirror.text()
            ));
        }
        if let Some(default) = &self.default {
            text.push_str(&format!("\n[registry]\ndefault = \"{default}\"\n"));
        }
        text
    }
}

fn is_sparse(index: &str) -> bool {
    index.starts_with(SPARSE)
}

/// A sparse index. Without the prefix that cargo wants, the operator's own word is enough.
fn sparse(index: &str, origin: &str) -> Result<Mirror, ConfigurationError> {
    if !is_sparse(index) {
        let why = "only sparse indexes can be used: their addresses begin with sparse+https://";
        return Err(ConfigurationError::Address { origin: origin.to_owned(), why: why.to_owned() });
    }
    Mirror::parse(index.strip_prefix(SPARSE).unwrap_or(index), origin)
}

/// A file of cargo's, under its new name or its old one.
fn table(machine: &Machine, home: &Path, name: &str) -> Result<Table, ConfigurationError> {
    for path in [home.join(format!("{name}.toml")), home.join(name)] {
        let Some(text) = machine.read(&path)? else { continue };
        return text.parse().map_err(|error: toml::de::Error| {
            // The error's own text repeats the line, which may hold a token.
            let why = error.message().to_owned();
            ConfigurationError::Syntax { path: PathBuf::from(&path), why }
        });
    }
    Ok(Table::new())
}

/// A text in a table of tables.
fn text(table: &Table, path: &[&str]) -> Option<String> {
    let (last, above) = path.split_last()?;
    let mut table = table;
    for name in above {
        table = table.get(*name)?.as_table()?;
    }
    table.get(*last).and_then(Value::as_str).map(str::to_owned)
}

/// The variable of a registry's setting (cargo's reference, "Environment variables").
fn variable(registry: &str, setting: &str) -> String {
    format!("CARGO_REGISTRIES_{}_{setting}", registry.to_uppercase().replace('-', "_"))
}

/// The indexes of all registries that the machine has names for.
fn indexes(machine: &Machine, config: &Table) -> BTreeMap<String, String> {
    let mut indexes = BTreeMap::new();
    for name in config.get("registries").and_then(Value::as_table).into_iter().flat_map(Table::keys)
    {
        // cargo's own rule for names; ours are written into a file and a variable.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if name == MAIN || name.is_empty() || !name.bytes().all(plain) {
            continue;
        }
        let from_variable = machine.variable(&variable(name, "INDEX")).map(str::to_owned);
        let index = from_variable.or_else(|| text(config, &["registries", name, "index"]));
        indexes.extend(index.map(|index| (name.clone(), index)));
    }
    for (key, value) in machine.variables() {
        let name = key.strip_prefix("CARGO_REGISTRIES_").and_then(|key| key.strip_suffix("_INDEX"));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let name = name.to_lowercase();
            let known = indexes.keys().any(|known| variable(known, "INDEX") == *key);
            if !known && name != MAIN {
                indexes.insert(name, value.clone());
            }
        }
    }
    indexes
}

/// The registry that stands for crates.io, with its name: where the chain of replacements ends.
fn replacement(config: &Table, indexes: &BTreeMap<String, String>) -> Option<(String, String)> {
    let mut name = text(config, &["source", "crates-io", "replace-with"])?;
    for _step in 0..CHAIN_MAX {
        if let Some(next) = text(config, &["source", &name, "replace-with"]) {
            name = next;
            continue;
        }
        let index = text(config, &["source", &name, "registry"]);
        let index = index.or_else(|| indexes.get(&name).cloned())?;
        // A token belongs to a registry, which a source names by the same index.
        let registry = indexes.iter().find(|(_, known)| **known == index);
        return Some((registry.map_or(name, |(name, _)| name.clone()), index));
    }
    None
}

fn token(machine: &Machine, tables: [&Table; 2], name: &str) -> Option<String> {
    let from_variable = machine.variable(&variable(name, "TOKEN")).map(str::to_owned);
    from_variable
        .or_else(|| tables.iter().find_map(|table| text(table, &["registries", name, "token"])))
}

/// What has to be reachable for one registry: its index, and where its archives are.
async fn sites(ask: &dyn Ask, mirror: &Mirror) -> Result<Vec<Site>, ConfigurationError> {
    let origin = &mirror.origin;
    let page = match mirror.join(CONFIG) {
        Some(url) => ask.page(mirror, url, "application/json").await.ok(),
        None => None,
    };
    let archives = page.as_ref().and_then(|page| {
        let parsed: serde_json::Value = serde_json::from_slice(&page.body).ok()?;
        let template = parsed.get("dl")?.as_str()?;
        // What comes behind the first marker depends on the package.
        template.split('{').next()?.parse::<Url>().ok()
    });
    let beside = |url: &Url| url.origin() == mirror.url.origin();
    let Some(archives) = archives else {
        tracing::warn!(
            index = mirror.text(),
            "the index does not tell where its archives are: if they are at another host, allow \
             that"
        );
        return Ok(vec![Site::new(&mirror.url, Vec::new(), origin)?]);
    };
    let paths = if beside(&archives) { None } else { mirror.below() };
    let mut sites = vec![Site::new(&mirror.url, paths.into_iter().collect(), origin)?];
    // An index that names a host that cannot be allowed does not take the others away.
    let way = page.iter().flat_map(|page| &page.way);
    let others = way.chain([&archives]).filter(|url| !beside(url));
    sites.extend(others.filter_map(|url| Site::new(url, Vec::new(), origin).ok()));
    Ok(sites)
}
