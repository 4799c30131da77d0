//! `template.toml`: what a Dockerfile does not say.

use courier_types::egress::PresetName;
use courier_types::{Limits, LimitsRequest};
use serde::Deserialize;

use super::super::error::TemplateError;

/// Memory of the sandbox that steps run in, at least: compilers and package managers need more than
/// most sandboxes.
const BUILD_MEMORY_MIB: u64 = 1_024;
/// Its writable disk at least.
const BUILD_DISK_MIB: u64 = 8_192;
/// Processes and threads in it at least: package managers unpack in parallel.
const BUILD_PIDS: u64 = 1_024;

/// What a template says besides its Dockerfile.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// What it is for, in one line.
    pub(crate) description: String,
    /// What is started in every sandbox, where the Dockerfile's ENTRYPOINT and CMD are not meant.
    pub(crate) start: Option<String>,
    /// What succeeds once a sandbox is ready.
    pub(crate) ready: Option<String>,
    memory_mib: Option<u64>,
    disk_mib: Option<u64>,
    cpu_millis: Option<u64>,
    pids: Option<u64>,
    /// Our binaries, which stand beside `courier`: files of the context.
    #[serde(default)]
    pub(crate) binaries: Vec<String>,
    /// The sandbox that the steps run in.
    #[serde(default)]
    pub(crate) build: BuildSettings,
}

/// The sandbox that steps run in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuildSettings {
    /// Presets that steps may use; absent means those that this machine has.
    pub(crate) egress: Option<Vec<PresetName>>,
    memory_mib: Option<u64>,
    disk_mib: Option<u64>,
    cpu_millis: Option<u64>,
}

impl Settings {
    /// Reads the text of a `template.toml`.
    ///
    /// # Errors
    /// It says something that is not known.
    pub(super) fn read(name: &str, text: &[u8]) -> Result<Self, TemplateError> {
        toml::from_slice(text)
            .map_err(|source| TemplateError::Settings { name: name.to_owned(), source })
    }

    /// The caps of its sandboxes.
    ///
    /// # Errors
    /// One is out of its range.
    pub(crate) fn limits(&self, name: &str) -> Result<Limits, TemplateError> {
        let request = LimitsRequest {
            memory_mib: self.memory_mib,
            cpu_millis: self.cpu_millis,
            pids: self.pids,
            disk_mib: self.disk_mib,
            open_files: None,
        };
        limits(name, request)
    }

    /// The caps of the sandbox that its steps run in.
    ///
    /// # Errors
    /// One is out of its range.
    pub(crate) fn build_limits(&self, name: &str) -> Result<Limits, TemplateError> {
        let most = |given: Option<u64>, least: u64| Some(given.unwrap_or(least).max(least));
        let request = LimitsRequest {
            memory_mib: most(self.build.memory_mib, BUILD_MEMORY_MIB),
            cpu_millis: self.build.cpu_millis,
            pids: Some(BUILD_PIDS),
            disk_mib: most(self.build.disk_mib, BUILD_DISK_MIB),
            open_files: None,
        };
        limits(name, request)
    }
}

fn limits(name: &str, request: LimitsRequest) -> Result<Limits, TemplateError> {
    Limits::try_from(request)
        .map_err(|source| TemplateError::Limits { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_a_value_and_what_is_not_known_is_refused() {
        let text = b"description = \"d\"\nmemory_mib = 1024\n[build]\nmemory_mib = 2048\n";
        let settings = Settings::read("x", text).unwrap();
        assert_eq!(settings.limits("x").unwrap().memory_mib(), 1_024);
        let build = settings.build_limits("x").unwrap();
        assert_eq!((build.memory_mib(), build.disk_mib(), build.pids()), (2_048, 8_192, 1_024));
        assert_eq!(settings.build.egress, None);
        let error = Settings::read("x", b"description = \"d\"\nmemory = 1\n").unwrap_err();
        assert!(error.to_string().contains("template.toml"), "{error}");
        let much = Settings::read("x", b"description = \"d\"\nmemory_mib = 1\n").unwrap();
        assert!(much.limits("x").is_err());
    }
}
