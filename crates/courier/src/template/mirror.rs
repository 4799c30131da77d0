//! The machine's own Debian mirrors, from apt's configuration: nothing here names a host.

use std::fs;
use std::path::{Path, PathBuf};

/// Where apt keeps its sources.
const APT: &str = "/etc/apt";
/// Longest file of sources that is read: real ones have a few hundred bytes.
const MOST_BYTES: u64 = 1024 * 1024;
/// Ways to a mirror that work from inside a build.
const SCHEMES: [&str; 5] = ["http://", "https://", "mirror+", "mirror:", "tor+"];

/// The Debian release that sandboxes have: that of the recipes.
pub(crate) const RELEASE: &str = "bookworm";

/// One place of one suite that packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// Its address.
    uri: String,
    /// The suite, e.g. `bookworm-updates`.
    suite: String,
    /// The key file that its index is signed with, where the machine names one.
    signed_by: Option<PathBuf>,
    /// True where the machine trusts it without a signature.
    trusted: bool,
}

impl Mirror {
    /// A mirror that the user named.
    pub(crate) fn named(uri: &str, suite: &str) -> Self {
        Self { uri: uri.to_owned(), suite: suite.to_owned(), signed_by: None, trusted: false }
    }

    /// The same place, another suite.
    pub(crate) fn with_suite(&self, suite: &str) -> Self {
        Self { suite: suite.to_owned(), ..self.clone() }
    }

    /// Its address.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The suite.
    pub(crate) fn suite(&self) -> &str {
        &self.suite
    }

    /// The line of a `sources.list`.
    pub(crate) fn line(&self) -> String {
        let mut options = Vec::new();
        if let Some(key) = &self.signed_by {
            options.push(format!("signed-by={}", key.display()));
        }
        if self.trusted {
            options.push("trusted=yes".to_owned());
        }
        let options =
            if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
        format!("deb {options}{} {} main", self.uri, self.suite)
    }

    /// The release that its suite belongs to, e.g. `bookworm` of `bookworm-security`.
    fn release(&self) -> &str {
        self.suite.split(['-', '/']).next().unwrap_or_default()
    }
}

/// The machine's mirrors of a Debian release and of its updates. When the machine itself is of
/// another release of Debian, its mirrors are asked for this one.
pub(crate) fn of_release(release: &str) -> Vec<Mirror> {
    in_folder(Path::new(APT), release)
}

/// The same of a machine that has apt's configuration in that folder.
pub(crate) fn in_folder(apt: &Path, release: &str) -> Vec<Mirror> {
    choose(&configured(apt), release)
}

/// The mirror of a suite that the machine may not have yet, at the place of its main suite.
pub(crate) fn of_suite(release: &str, suite: &str) -> Option<Mirror> {
    of_release(release).into_iter().find(|m| m.suite == release).map(|m| m.with_suite(suite))
}

/// True when the machine already takes packages of that suite from somewhere.
pub(crate) fn has_suite(suite: &str) -> bool {
    configured(Path::new(APT)).iter().any(|mirror| mirror.suite == suite)
}

fn choose(configured: &[Mirror], release: &str) -> Vec<Mirror> {
    let suites = [release.to_owned(), format!("{release}-updates"), format!("{release}-security")];
    let debian: Vec<&Mirror> = configured.iter().filter(|m| m.uri.contains("debian")).collect();
    // A local mirror may have any name; then its suites are all that tells.
    let candidates = if debian.is_empty() { configured.iter().collect() } else { debian };
    let mut chosen: Vec<Mirror> =
        candidates.iter().filter(|m| suites.contains(&m.suite)).map(|m| (*m).clone()).collect();
    if chosen.iter().all(|mirror| mirror.suite != release) {
        chosen = translated(&candidates, release);
    }
    distinct(chosen)
}

/// Machines name the same place twice, in old and in new style.
fn distinct(mirrors: Vec<Mirror>) -> Vec<Mirror> {
    let mut distinct: Vec<Mirror> = Vec::new();
    for mirror in mirrors {
        if !distinct.contains(&mirror) {
            distinct.push(mirror);
        }
    }
    distinct
}

/// The mirrors of a machine of another Debian release, asked for this one.
fn translated(candidates: &[&Mirror], release: &str) -> Vec<Mirror> {
    let is_debian = |mirror: &&&Mirror| mirror.uri.contains("debian");
    let mut chosen = Vec::new();
    for mirror in candidates.iter().filter(is_debian) {
        let kind = mirror.suite.strip_prefix(mirror.release()).unwrap_or_default();
        if matches!(kind, "" | "-updates" | "-security") {
            chosen.push(mirror.with_suite(&format!("{release}{kind}")));
        }
    }
    chosen
}

/// Every place that the machine takes packages from, component `main`.
fn configured(apt: &Path) -> Vec<Mirror> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(folder) = fs::read_dir(apt.join("sources.list.d")) {
        let mut more: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    let mut mirrors = Vec::new();
    for file in files {
        let small = fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() < MOST_BYTES);
        let Some(text) = small.then(|| fs::read_to_string(&file).ok()).flatten() else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => mirrors.extend(text.lines().flat_map(one_line)),
            Some("sources") => mirrors.extend(stanzas(&text)),
            _ => {}
        }
    }
    mirrors.retain(|mirror| SCHEMES.iter().any(|scheme| mirror.uri.starts_with(scheme)));
    mirrors
}

/// `deb [options] URI SUITE COMPONENT...`
fn one_line(line: &str) -> Option<Mirror> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    if !words.any(|component| component == "main") {
        return None;
    }
    let option = |name: &str| {
        options.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Mirror {
        uri: uri.to_owned(),
        suite: suite.trim_end_matches('/').to_owned(),
        signed_by: option("signed-by").and_then(key_file),
        trusted: option("trusted") == Some("yes"),
    })
}

/// The stanzas of a deb822 file.
fn stanzas(text: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            mirrors.extend(stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_name, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    mirrors
}

fn stanza(fields: &[(String, String)]) -> Vec<Mirror> {
    let field = |name: &str| {
        fields.iter().find(|(field, _value)| field == name).map_or("", |(_name, value)| value)
    };
    let words = |name: &str| field(name).split_whitespace();
    let usable = words("types").any(|kind| kind == "deb")
        && words("components").any(|component| component == "main")
        && field("enabled") != "no";
    if !usable {
        return Vec::new();
    }
    let mirror = |uri: &str, suite: &str| Mirror {
        uri: uri.to_owned(),
        suite: suite.trim_end_matches('/').to_owned(),
        signed_by: key_file(field("signed-by")),
        trusted: field("trusted") == "yes",
    };
    words("uris").flat_map(|uri| words("suites").map(move |suite| mirror(uri, suite))).collect()
}

/// A key that stands in the file itself has no path to hand on; the Debian keyring then does.
fn key_file(value: &str) -> Option<PathBuf> {
    let one_path = value.starts_with('/') && !value.contains([' ', '\n', ',', ']']);
    one_path.then(|| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured_by(files: &[(&str, &str)]) -> Vec<Mirror> {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(apt.path().join(name), text).unwrap();
        }
        configured(apt.path())
    }

    fn lines(mirrors: &[Mirror]) -> Vec<String> {
        mirrors.iter().map(Mirror::line).collect()
    }

    const STANZAS: &str = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\n\
        Suites: bookworm bookworm-updates bookworm-backports\nComponents: main contrib\n\
        Signed-By: /usr/share/keyrings/debian.gpg\n\n\
        Types: deb\nURIs: https://other.example/linux/debian\nSuites: bookworm\nComponents: stable\n";

    #[test]
    fn every_recipe_is_of_the_release_that_presets_are_made_for() {
        let mut recipes = crate::template::recipe::Recipe::all().iter();
        assert!(recipes.all(|recipe| recipe.suite == RELEASE));
    }

    #[test]
    fn stanzas_give_the_release_and_its_updates_but_not_its_backports_nor_foreign_components() {
        let mirrors = configured_by(&[("sources.list.d/debian.sources", STANZAS)]);
        assert_eq!(
            lines(&choose(&mirrors, "bookworm")),
            [
                "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror.example/debian bookworm main",
                "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror.example/debian bookworm-updates main",
            ]
        );
    }

    #[test]
    fn one_line_sources_are_read_with_their_options_and_comments() {
        let text = "# deb http://no.example/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main # why\n\
            deb-src http://a.example/debian bookworm main\n\
            deb cdrom:[Debian]/ bookworm main\n";
        let mirrors = configured_by(&[("sources.list", text)]);
        assert_eq!(
            lines(&mirrors),
            ["deb [signed-by=/k.gpg] http://a.example/debian bookworm main"]
        );
    }

    #[test]
    fn a_machine_of_another_release_is_asked_for_this_one_at_its_own_mirror() {
        let text = "deb http://a.example/debian trixie main\n\
            deb http://s.example/debian-security trixie-security main\n\
            deb http://a.example/debian trixie-backports main\n";
        let mirrors = configured_by(&[("sources.list", text)]);
        assert_eq!(
            lines(&choose(&mirrors, "bookworm")),
            [
                "deb http://a.example/debian bookworm main",
                "deb http://s.example/debian-security bookworm-security main",
            ]
        );
    }

    #[test]
    fn a_repository_of_somebody_else_is_not_taken_for_debian() {
        let text = "deb http://a.example/debian bookworm main\n\
            deb https://apt.vendor.example bookworm main\n";
        let mirrors = configured_by(&[("sources.list", text)]);
        assert_eq!(
            lines(&choose(&mirrors, "bookworm")),
            ["deb http://a.example/debian bookworm main"]
        );
        let twice = [mirrors.clone(), mirrors].concat();
        assert_eq!(choose(&twice, "bookworm").len(), 1);
    }

    #[test]
    fn a_machine_without_a_debian_mirror_has_none() {
        let mirrors =
            configured_by(&[("sources.list", "deb http://a.example/ubuntu noble main\n")]);
        assert!(choose(&mirrors, "bookworm").is_empty());
    }
}
