//! Preset `pypi`: the index of pip, and of uv.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use configparser::ini::Ini;
use courier_protocol::node::ResolvedPreset;
use courier_types::GuestFile;
use futures_util::future::join_all;
use url::Url;

use super::Given;
use super::ask::Ask;
use super::error::ConfigurationError;
use super::machine::Machine;
use super::mirror::{Mirror, Placed, Site, below, rules};
use super::netrc;
use super::web::Page;

/// The preset's name.
pub(crate) const NAME: &str = "pypi";
/// A project that every index has: without it nothing can be installed from there.
const PROJECT: &str = "pip/";
/// What an index may answer (PEP 691).
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.2";
/// Files of pip's settings in which the machine's are, in pip's own order.
const MACHINE_FILES: [&str; 2] = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"];
/// Most addresses of files of one page that are looked at.
const LINKS_MAX: usize = 4_096;
/// Most hosts of files of one index; real ones have one.
const HOSTS_MAX: usize = 16;
/// pip's own word on its index. Isolated (-I): nothing of a current folder's is run.
const ASK_PIP: [&str; 3] =
    ["-I", "-c", "import pip._internal.models.index as index; print(index.PyPI.simple_url)"];

/// What pip is told.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    main: Option<Mirror>,
    extra: Vec<Mirror>,
}

impl Settings {
    /// Reads it from what the operator gave, else from pip's files and variables.
    pub(crate) fn read(machine: &Machine, given: Given<'_>) -> Result<Self, ConfigurationError> {
        if let Some(given) = given {
            let mut mirrors = given.mirrors()?;
            let main = (!mirrors.is_empty()).then(|| mirrors.remove(0));
            return Ok(Self { main, extra: mirrors });
        }
        let logins = match machine.path_or_home("NETRC", ".netrc") {
            Some(path) => machine.read(&path)?.map(|text| netrc::entries(&text)),
            None => None,
        };
        let logins = logins.unwrap_or_default();
        let mirror = |text: &str, origin: &str| {
            let mut mirror = Mirror::parse(text, origin)?;
            if mirror.login.is_none() && mirror.url.scheme() == "https" {
                mirror.login = netrc::for_host(&logins, &mirror.url);
            }
            Ok(mirror)
        };
        let mut settings = Self::default();
        for (origin, values) in said(machine)? {
            if let Some(text) = values.index {
                settings.main = Some(mirror(&text, &origin)?);
            }
            if let Some(text) = values.extra {
                let texts = text.split_whitespace();
                settings.extra =
                    texts.map(|text| mirror(text, &origin)).collect::<Result<_, _>>()?;
            }
        }
        Ok(settings)
    }

    /// The mirrors that it names.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.main.iter().chain(&self.extra)
    }

    /// Its logins.
    pub(crate) fn logins(&self) -> Result<Vec<Placed>, ConfigurationError> {
        let placed = self.mirrors().map(|mirror| Placed::of(NAME, mirror, around(mirror)));
        Ok(placed.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// What the preset stands for.
    pub(crate) async fn resolve(
        mut self,
        ask: &dyn Ask,
    ) -> Result<ResolvedPreset, ConfigurationError> {
        if self.main.is_none() {
            self.main = Some(pips_own(ask).await?);
        }
        let credentials = self.logins()?;
        let sites = join_all(self.mirrors().map(|mirror| sites(ask, mirror))).await;
        let sites = sites.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        let main = self.main.as_ref().map(Mirror::text).unwrap_or_default();
        let extra: Vec<String> = self.extra.iter().map(Mirror::text).collect();
        Ok(ResolvedPreset {
            rules: rules(sites),
            credentials: credentials.iter().filter_map(Placed::credential).collect(),
            env: variables(&main, &extra),
            files: vec![GuestFile {
                path: "/etc/pip.conf".to_owned(),
                text: settings_file(&main, &extra),
            }],
        })
    }
}

/// Where a login is sent: the mirror's repository. Files lie beside the index (`…/pypi/simple` has
/// them in `…/pypi/packages`), so that is the folder above the index, where there is one.
fn around(mirror: &Mirror) -> Option<courier_types::egress::PathPattern> {
    let path = mirror.url.path().trim_end_matches('/');
    path.rsplit_once('/').and_then(|(above, _index)| below(above))
}

/// What one source of settings says.
#[derive(Default)]
struct Values {
    index: Option<String>,
    extra: Option<String>,
}

/// Everything that is said, the last word counts (pip's documentation, "Configuration").
fn said(machine: &Machine) -> Result<Vec<(String, Values)>, ConfigurationError> {
    let mut said = Vec::new();
    let named = machine.variable("PIP_CONFIG_FILE").map(PathBuf::from);
    let mut files: Vec<PathBuf> = Vec::new();
    if named.as_deref() != Some(Path::new("/dev/null")) {
        files.extend(MACHINE_FILES.map(PathBuf::from));
        files.extend(machine.home(".pip/pip.conf"));
        files.extend(machine.user_config("pip/pip.conf"));
        files.extend(machine.variable("VIRTUAL_ENV").map(|env| Path::new(env).join("pip.conf")));
        files.extend(named);
    }
    for file in files {
        let Some(text) = machine.read(&file)? else { continue };
        let ini = parse(&file, &text)?;
        // The section of one command counts more than that of all.
        let value = |key: &str| {
            let found = ["install", "global"].iter().find_map(|section| ini.get(section, key));
            found.filter(|value| !value.trim().is_empty())
        };
        let values = Values { index: value("index-url"), extra: value("extra-index-url") };
        said.push((file.display().to_string(), values));
    }
    for (origin, index, extra) in [
        ("UV_DEFAULT_INDEX or UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX"),
        ("PIP_INDEX_URL or PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
    ] {
        let value = |name: &str| machine.variable(name).map(str::to_owned);
        said.push((origin.to_owned(), Values { index: value(index), extra: value(extra) }));
    }
    Ok(said)
}

/// Reads a file as Python's `configparser` does.
fn parse(file: &Path, text: &str) -> Result<Ini, ConfigurationError> {
    let mut ini = Ini::new();
    ini.set_multiline(true);
    ini.set_comment_symbols(&['#', ';']);
    // An address has '#' and ';' in it by right.
    ini.set_inline_comment_symbols(Some(&[]));
    match ini.read(text.to_owned()) {
        Ok(_map) => Ok(ini),
        // The parser's own words repeat the line, which may hold a password.
        Err(_why) => {
            let why = "it is no file of settings".to_owned();
            Err(ConfigurationError::Syntax { path: file.to_owned(), why })
        }
    }
}

/// The index that pip goes to when nobody tells it another.
async fn pips_own(ask: &dyn Ask) -> Result<Mirror, ConfigurationError> {
    let answer = ask.tool("python3", &ASK_PIP).await;
    if let Err(error) = &answer {
        tracing::debug!(%error, "pip cannot be asked for its index");
    }
    let text = answer.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let text = text.ok_or(ConfigurationError::Unsaid {
        what: "Python packages",
        remedy: "set index-url in /etc/pip.conf, install pip, or start with --preset pypi=URL",
    })?;
    Mirror::parse(&text, "the answer of pip")
}

/// What has to be reachable for one index: itself, and where its files are.
async fn sites(ask: &dyn Ask, mirror: &Mirror) -> Result<Vec<Site>, ConfigurationError> {
    let origin = &mirror.origin;
    let whole = |url: &Url, paths| Site::new(url, paths, origin);
    let page = match mirror.join(PROJECT) {
        Some(url) => ask.page(mirror, url, ACCEPT).await.ok(),
        None => None,
    };
    let Some(page) = page else {
        tracing::warn!(
            index = mirror.text(),
            "the index does not tell where its files are: if they are at another host, allow that"
        );
        return Ok(vec![whole(&mirror.url, around(mirror).into_iter().collect())?]);
    };
    let links = links(&page);
    let beside = |url: &Url| url.origin() == mirror.url.origin();
    let index_alone = !links.iter().any(beside) && page.way.iter().all(beside);
    let paths = if index_alone { mirror.below() } else { around(mirror) };
    let mut sites = vec![whole(&mirror.url, paths.into_iter().collect())?];
    let others = links.iter().chain(&page.way).filter(|url| !beside(url));
    // An index that names a host that cannot be allowed does not take the others away.
    sites.extend(others.filter_map(|url| whole(url, Vec::new()).ok()));
    sites.dedup();
    Ok(sites)
}

/// The addresses of the files on a page of an index.
fn links(page: &Page) -> Vec<Url> {
    let Some(base) = page.way.last() else { return Vec::new() };
    let text = String::from_utf8_lossy(&page.body);
    let raw: Vec<String> = if page.content_type.contains("json") {
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let files = parsed.get("files").and_then(serde_json::Value::as_array);
        let url = |file: &serde_json::Value| Some(file.get("url")?.as_str()?.to_owned());
        files.into_iter().flatten().filter_map(url).take(LINKS_MAX).collect()
    } else {
        let value = |piece: &str| {
            let quote = piece.chars().next().filter(|first| matches!(first, '"' | '\''))?;
            piece.get(1..)?.split(quote).next().map(|link| link.replace("&amp;", "&"))
        };
        text.split("href=").skip(1).filter_map(value).take(LINKS_MAX).collect()
    };
    let mut links: Vec<Url> = raw.iter().filter_map(|link| base.join(link).ok()).collect();
    links.retain(|url| matches!(url.scheme(), "http" | "https"));
    // One of each host is enough.
    links.sort_by_key(|url| url.origin().ascii_serialization());
    links.dedup_by_key(|url| url.origin());
    links.truncate(HOSTS_MAX);
    links
}

fn variables(main: &str, extra: &[String]) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> =
        ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"].map(|name| (name.into(), main.into())).into();
    if !extra.is_empty() {
        let extra = extra.join(" ");
        variables.extend(["PIP_EXTRA_INDEX_URL", "UV_INDEX"].map(|n| (n.into(), extra.clone())));
    }
    // pip would look for a newer pip at each install.
    variables.insert("PIP_DISABLE_PIP_VERSION_CHECK".into(), "1".into());
    variables
}

fn settings_file(main: &str, extra: &[String]) -> String {
    let mut text = format!("[global]\nindex-url = {main}\ndisable-pip-version-check = true\n");
    if !extra.is_empty() {
        text.push_str("extra-index-url =");
        for url in extra {
            text.push_str("\n    ");
            text.push_str(url);
        }
        text.push('\n');
    }
    text
}
