//! Every format of configuration, on a folder that stands for a machine, with answers made up.
//!
//! Every password and token in here has `canary` in it. `resolve` fails a test in which one is in
//! anything that a preset hands on.

mod formats;
mod hosts;

use std::collections::BTreeMap;

use async_trait::async_trait;
use courier_protocol::node::{PresetError, Presets as _, ResolvedPreset};
use courier_types::egress::{Layer, LayerSource, Layers, Policy};
use futures_util::FutureExt as _;
use url::Url;

use super::ask::AskError;
use super::web::Page;
use super::*;

/// A machine of a test, and what it is told when it asks.
pub(super) struct World {
    root: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    given: Vec<PresetSource>,
    tools: BTreeMap<&'static str, &'static str>,
    pages: BTreeMap<&'static str, String>,
}

/// The answers of a test.
#[derive(Debug)]
pub(super) struct Answers {
    tools: BTreeMap<&'static str, &'static str>,
    pages: BTreeMap<&'static str, String>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            variables: [("HOME".to_owned(), "/home/ci".to_owned())].into(),
            given: Vec::new(),
            tools: BTreeMap::new(),
            pages: BTreeMap::new(),
        }
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        let path = self.root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    pub(super) fn given(mut self, text: &str) -> Self {
        self.given.push(text.parse().unwrap());
        self
    }

    pub(super) fn tool(mut self, program: &'static str, output: &'static str) -> Self {
        self.tools.insert(program, output);
        self
    }

    pub(super) fn page(mut self, url: &'static str, body: &str) -> Self {
        self.pages.insert(url, body.to_owned());
        self
    }

    pub(super) fn presets(&self) -> NodePresets<Answers> {
        NodePresets {
            machine: Machine::new(self.root.path().to_owned(), self.variables.clone()),
            given: self.given.clone(),
            ask: Answers { tools: self.tools.clone(), pages: self.pages.clone() },
        }
    }

    /// The preset; its policy can be put in force, and no canary is in what is handed on.
    #[track_caller]
    pub(super) fn resolve(&self, name: &str) -> Seen {
        let presets = self.presets();
        let preset = wait(presets.resolve(&name.parse().unwrap())).unwrap();
        let seen = Seen { preset, presets };
        let all = format!("{:?}{:?}{}", seen.preset, seen.presets, seen.rules());
        assert!(!all.contains("canary") && !all.contains("Y2FuYX"), "{all}");
        seen.preset.files.iter().for_each(|file| assert!(!file.text.contains("canary")));
        let policy = Policy {
            rules: seen.preset.rules.clone(),
            credentials: seen.preset.credentials.clone(),
            ..Policy::default()
        };
        let layers = Layers(vec![Layer { source: LayerSource::Sandbox, policy }]);
        courier_egress::policy::Compiled::new(&layers).unwrap();
        seen
    }

    /// Why there is no preset, as the whole chain; no canary is in it.
    #[track_caller]
    pub(super) fn refusal(&self, name: &str) -> String {
        let error = wait(self.presets().resolve(&name.parse().unwrap())).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        assert!(!text.contains("canary"), "{text}");
        text
    }
}

/// What comes of a future that waits for nothing outside.
fn wait<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("what is asked in a test answers at once")
}

/// A preset as it was resolved.
pub(super) struct Seen {
    pub(super) preset: ResolvedPreset,
    pub(super) presets: NodePresets<Answers>,
}

impl Seen {
    pub(super) fn rules(&self) -> String {
        serde_json::to_string(&self.preset.rules).unwrap()
    }

    /// Hosts, each with its paths: `host:port /a/* /b/*`.
    pub(super) fn places(&self) -> Vec<String> {
        let place = |rule: &courier_types::egress::Rule| {
            assert_eq!(rule.methods, super::mirror::reading());
            let paths: String = rule.paths.iter().map(|path| format!(" {path}")).collect();
            format!("{}:{}{paths}", rule.to, rule.ports[0])
        };
        self.preset.rules.iter().map(place).collect()
    }

    pub(super) fn file(&self, path: &str) -> &str {
        &self.preset.files.iter().find(|file| file.path == path).unwrap().text
    }

    /// Where credentials are sent, how, and with which value.
    pub(super) fn credentials(&self) -> Vec<String> {
        let all = self.preset.credentials.iter();
        all.map(|credential| {
            let body = serde_json::to_value(credential).unwrap();
            let name = credential.injection.secrets()[0].clone();
            let value = self.presets.secret(&name).unwrap();
            let value = String::from_utf8(value.expose().to_vec()).unwrap();
            let paths: String = credential.paths.iter().map(|path| format!(" {path}")).collect();
            let how = body["as"].to_string().replace(name.as_str(), "NAME");
            format!("{}{paths} {how} {value}", credential.host)
        })
        .collect()
    }
}

#[async_trait]
impl Ask for Answers {
    async fn tool(
        &self,
        program: &'static str,
        _arguments: &'static [&'static str],
    ) -> Result<String, AskError> {
        let answer = self.tools.get(program).copied().ok_or(AskError::Deadline)?;
        Ok(answer.to_owned())
    }

    async fn page(&self, _: &Mirror, url: Url, _: &'static str) -> Result<Page, AskError> {
        let body = self.pages.get(url.as_str()).cloned().ok_or(AskError::Deadline)?;
        let json = body.starts_with('{');
        let content_type = if json { "application/json" } else { "text/html" }.to_owned();
        Ok(Page { way: vec![url], content_type, body: body.into() })
    }
}

#[test]
fn a_preset_that_there_is_not_is_told_with_those_that_there_are() {
    let error = wait(World::new().presets().resolve(&"maven".parse().unwrap())).unwrap_err();
    assert!(matches!(error, PresetError::Unknown { .. }));
    assert_eq!(error.to_string(), "there is no preset maven; there are: apt, cargo, go, npm, pypi");
}

#[test]
fn where_nothing_says_where_packages_come_from_the_setting_to_make_is_told() {
    for (name, setting) in [
        ("pypi", "index-url in /etc/pip.conf"),
        ("npm", "registry in /etc/npmrc"),
        ("cargo", "replace source crates-io"),
        ("apt", "/etc/apt/sources.list.d"),
        ("go", "GOPROXY"),
    ] {
        let refusal = World::new().refusal(name);
        assert!(refusal.contains(setting) && refusal.contains("--preset"), "{refusal}");
    }
}
