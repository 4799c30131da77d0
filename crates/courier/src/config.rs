//! Configuration: flags over `COURIER_*` environment variables over defaults.
//!
//! This is the only module that reads the environment: through clap's `env` attributes, here and
//! in [`serve`], and through [`variable`]. It is read once, before anything else happens.

pub(crate) mod outside;
pub(crate) mod registries;
pub(crate) mod serve;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

// ---- Defaults -------------------------------------------------------------------------------
// Every default of the command line that is not a sandbox's limit (those: `courier_types::Limits`).

/// The variable that stands for `--data`.
pub(crate) const DATA_VARIABLE: &str = "COURIER_DATA";
/// What the names of all our variables begin with.
const VARIABLE_PREFIX: &str = "COURIER_";
/// Data folder of root, where the service keeps its state as well.
const ROOT_DATA: &str = "/var/lib/courier";
/// Data folder of everybody else, below `$XDG_DATA_HOME`.
const USER_DATA: &str = "courier";
/// What stands for `$XDG_DATA_HOME` below the home folder when it is not set (the XDG base
/// directory specification says so).
const XDG_DATA_DEFAULT: &str = ".local/share";
/// Where the API and the data plane listen: loopback, the port that E2B's own debug mode uses.
pub(crate) const LISTEN: &str = "127.0.0.1:3000";
/// Port of the TLS listener of domain mode when `--domain` names none.
pub(crate) const TLS_PORT: u16 = 8443;
/// What is logged: our own steps, and only trouble of the libraries.
pub(crate) const LOG_SERVE: &str = "info,hyper=warn,h2=warn,rustls=warn,sqlx=warn";
/// What is logged by commands that end soon.
pub(crate) const LOG_COMMAND: &str = "error,courier::=warn";
/// How long `courier run` lets a program run.
pub(crate) const RUN_TIMEOUT: &str = "60s";
/// How long a sandbox of `courier sandbox new` lives.
pub(crate) const SANDBOX_TIMEOUT: &str = "5m";
/// The template when none is named.
pub(crate) const TEMPLATE: &str = "base";

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Data folder [default: /var/lib/courier for root, else ~/.local/share/courier]
    #[arg(long, global = true, value_name = "DIR", env = DATA_VARIABLE, hide_env_values = true)]
    data: Option<PathBuf>,
    /// Template folder [default: DATA/templates]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "COURIER_TEMPLATES",
        hide_env_values = true
    )]
    templates: Option<PathBuf>,
    /// What to log on standard error, e.g. `debug` or `info,courier_node=trace`
    #[arg(long, global = true, value_name = "FILTER", env = "COURIER_LOG", hide_env_values = true)]
    log: Option<String>,
    /// Log as JSON, one object per line
    #[arg(long, global = true)]
    log_json: bool,
    /// Server to talk to [default: the one that runs for the data folder]
    #[arg(long, global = true, value_name = "URL", env = "COURIER_URL", hide_env_values = true)]
    url: Option<String>,
    /// API key of that server [default: DATA/api-key]
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "KEY",
        env = "COURIER_API_KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,
    /// Folder of the launcher's socket
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        env = "COURIER_LAUNCHER",
        hide_env_values = true
    )]
    launcher: Option<PathBuf>,
    /// The launcher's binary
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        env = "COURIER_LAUNCHER_BINARY",
        hide_env_values = true
    )]
    launcher_binary: Option<PathBuf>,
    /// The isolation technology's binary [default: where packages put it]
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        env = "COURIER_ISOLATION_BINARY",
        hide_env_values = true
    )]
    isolation_binary: Option<PathBuf>,
    /// The guest daemon's binary
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        env = "COURIER_GUEST_BINARY",
        hide_env_values = true
    )]
    guest_binary: Option<PathBuf>,
}

/// The configuration of one run of the binary.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Everything that outlives a process is below this folder.
    pub(crate) data: PathBuf,
    /// The templates' images.
    pub(crate) templates: PathBuf,
    /// The launcher's folder; its socket is `launcher.sock` inside.
    pub(crate) launcher_dir: PathBuf,
    /// The launcher's binary: beside ours unless said otherwise.
    pub(crate) launcher_binary: PathBuf,
    /// The guest daemon's binary: beside ours unless said otherwise.
    pub(crate) guest_binary: PathBuf,
    /// Where our other binaries are: beside this one.
    pub(crate) own_binaries: PathBuf,
    /// The isolation technology's binary; found by the launcher unless said otherwise.
    pub(crate) isolation_binary: Option<PathBuf>,
    /// The server that the user named.
    pub(crate) url: Option<String>,
    /// The API key that the user gave.
    pub(crate) api_key: Option<String>,
    /// What to log, if the user said so.
    pub(crate) log: Option<String>,
    /// Log as JSON.
    pub(crate) log_json: bool,
    /// The kind of terminal that we run in, for terminals inside sandboxes.
    pub(crate) term: Option<String>,
    /// Colours are wanted where they can be shown (<https://no-color.org>).
    pub(crate) colour: bool,
}

impl Config {
    /// Puts flags, environment and defaults together.
    ///
    /// # Errors
    /// There is no place for data: no `--data` and no home folder; or our own binary is unknown.
    pub(crate) fn load(args: GlobalArgs) -> anyhow::Result<Self> {
        let data = match args.data {
            Some(data) => data,
            None => default_data(rustix::process::geteuid().is_root())?,
        };
        let data = absolute(data)?;
        // Other processes get these paths too, and run in other folders.
        let named = |path: Option<PathBuf>| path.map(absolute).transpose();
        let executable =
            std::env::current_exe().context("the path of this program cannot be found out")?;
        let beside = |name: &str| executable.parent().unwrap_or(Path::new("/")).join(name);
        Ok(Self {
            templates: named(args.templates)?.unwrap_or_else(|| data.join("templates")),
            launcher_dir: named(args.launcher)?.unwrap_or_else(|| data.join("launcher")),
            launcher_binary: named(args.launcher_binary)?
                .unwrap_or_else(|| beside("courier-launcher")),
            guest_binary: named(args.guest_binary)?.unwrap_or_else(|| beside("courier-guest")),
            own_binaries: beside(""),
            isolation_binary: named(args.isolation_binary)?,
            url: args.url,
            api_key: args.api_key,
            log: args.log,
            log_json: args.log_json,
            term: variable("TERM"),
            colour: variable("NO_COLOR").is_none(),
            data,
        })
    }
}

/// A path as it is from every folder.
fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    std::path::absolute(&path).with_context(|| format!("the path {path:?} cannot be used"))
}

/// The data folder when the user names none.
fn default_data(is_root: bool) -> anyhow::Result<PathBuf> {
    if is_root {
        return Ok(PathBuf::from(ROOT_DATA));
    }
    if let Some(xdg) = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute())
    {
        return Ok(xdg.join(USER_DATA));
    }
    let home = variable("HOME")
        .context("there is no place for data: HOME is not set; name a folder with --data DIR")?;
    Ok(Path::new(&home).join(XDG_DATA_DEFAULT).join(USER_DATA))
}

/// What the names of variables begin with that package managers are configured by: presets are made
/// of what they say.
const PACKAGE_MANAGERS: [&str; 5] = ["PIP_", "UV_", "npm_config_", "NPM_CONFIG_", "CARGO_REGISTR"];
/// The same for those that have no prefix of their own.
const PACKAGE_MANAGER: [&str; 5] = ["GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOENV"];

/// The environment variables that are meant for us, and those that package managers are configured
/// by on this machine.
pub(crate) fn own_variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _value)| {
        let name = name.to_string_lossy();
        name.starts_with(VARIABLE_PREFIX)
            || PACKAGE_MANAGERS.iter().any(|prefix| name.starts_with(prefix))
            || PACKAGE_MANAGER.contains(&name.as_ref())
    })
}

/// All environment variables that are text: package managers are configured by some of them.
pub(crate) fn variables() -> BTreeMap<String, String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// One environment variable; an empty one counts as not set.
#[expect(clippy::disallowed_methods, reason = "this is the configuration")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        global: GlobalArgs,
    }

    #[test]
    fn every_folder_and_file_that_is_named_is_the_same_from_everywhere() {
        let line = "courier --data a --templates b --launcher c --launcher-binary d \
                    --isolation-binary e --guest-binary f";
        let line = <Line as clap::Parser>::parse_from(line.split_whitespace());
        let config = Config::load(line.global).unwrap();
        let paths = [&config.data, &config.templates, &config.launcher_dir]
            .into_iter()
            .chain([&config.launcher_binary, &config.guest_binary])
            .chain(&config.isolation_binary);
        assert!(paths.clone().all(|path| path.is_absolute()), "{config:?}");
        assert_eq!(paths.count(), 6);
    }

    #[test]
    fn root_keeps_its_data_where_services_do() {
        assert_eq!(default_data(true).unwrap(), PathBuf::from("/var/lib/courier"));
    }
}
