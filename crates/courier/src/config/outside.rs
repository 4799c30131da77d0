//! How a node's sandboxes get out: flags of `courier serve`, with the environment variables that
//! stand for them. A node without a server (`courier run`) goes by the variables alone.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser as _;
use courier_types::egress::{NameError, PresetName};
use ipnet::Ipv4Net;

use super::registries::RegistryArgs;

/// Port of DNS (RFC 1035, section 4.2), for resolvers that are named without one.
const DNS_PORT: u16 = 53;

/// How sandboxes get out of the node.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Ways out of sandboxes")]
pub(crate) struct OutsideArgs {
    /// DNS server that names are asked of [default: as in /etc/resolv.conf] (may be repeated)
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        value_parser = resolver,
        value_delimiter = ',',
        env = "COURIER_EGRESS_RESOLVER",
        hide_env_values = true
    )]
    pub(crate) egress_resolver: Vec<SocketAddr>,
    /// PEM file of CA certificates that are trusted beside the machine's own (may be repeated)
    #[arg(
        long,
        value_name = "FILE",
        value_delimiter = ',',
        env = "COURIER_EGRESS_CA",
        hide_env_values = true
    )]
    pub(crate) egress_ca: Vec<PathBuf>,
    /// Private network that policies may open, e.g. 10.1.0.0/16 (may be repeated)
    #[arg(
        long,
        value_name = "NETWORK",
        value_delimiter = ',',
        env = "COURIER_EGRESS_PERMIT",
        hide_env_values = true
    )]
    pub(crate) egress_permit: Vec<Ipv4Net>,
    /// Where the package manager of a preset gets its packages [default: what the machine's own
    /// configuration of it says] (may be repeated; with ';' between several in the variable)
    #[arg(
        long,
        value_name = "NAME=URL[,URL...]",
        value_delimiter = ';',
        env = "COURIER_PRESETS",
        hide_env_values = true
    )]
    pub(crate) preset: Vec<PresetSource>,
    #[command(flatten)]
    pub(crate) registries: RegistryArgs,
}

impl OutsideArgs {
    /// What the environment says.
    ///
    /// # Errors
    /// A variable cannot be understood; the error names it.
    pub(crate) fn of_environment() -> Result<Self, clap::Error> {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            outside: OutsideArgs,
        }
        Alone::try_parse_from(["courier"]).map(|alone| alone.outside)
    }
}

/// Where a preset's package manager gets its packages.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PresetSource {
    /// The preset.
    pub(crate) name: PresetName,
    /// Addresses of its index or registry, as they were written, at least one. May hold passwords.
    pub(crate) urls: Vec<String>,
}

impl std::fmt::Debug for PresetSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresetSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a text names no source of a preset. Does not repeat the address, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PresetSourceError {
    /// No equal sign, or nothing behind it.
    #[error("write it as NAME=URL, with commas between several URLs")]
    Shape,
    /// The name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address.
    #[error("an address of a preset begins with http:// or https://")]
    Scheme,
}

impl FromStr for PresetSource {
    type Err = PresetSourceError;

    fn from_str(text: &str) -> Result<Self, PresetSourceError> {
        let (name, urls) = text.split_once('=').ok_or(PresetSourceError::Shape)?;
        let name = name.trim().parse()?;
        let urls: Vec<String> = urls.split(',').map(|url| url.trim().to_owned()).collect();
        if urls.iter().any(String::is_empty) {
            return Err(PresetSourceError::Shape);
        }
        let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if !urls.iter().all(is_web) {
            return Err(PresetSourceError::Scheme);
        }
        Ok(Self { name, urls })
    }
}

/// Reads `ADDR:PORT`, or an address alone.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    let alone = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    text.parse()
        .ok()
        .or_else(alone)
        .ok_or_else(|| "write an address, or ADDR:PORT where the port is not 53".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_without_a_port_is_asked_on_that_of_dns() {
        assert_eq!(resolver("192.0.2.1").unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(resolver("192.0.2.1:5353").unwrap().to_string(), "192.0.2.1:5353");
        assert_eq!(resolver("2001:db8::1").unwrap().to_string(), "[2001:db8::1]:53");
        assert!(resolver("dns.example.com").is_err());
    }

    #[test]
    fn a_preset_has_a_name_and_addresses_and_its_password_is_in_no_message() {
        let source: PresetSource =
            "PyPI=https://user:canary@mirror.test/simple,http://other.test".parse().unwrap();
        assert_eq!((source.name.as_str(), source.urls.len()), ("pypi", 2));
        assert!(!format!("{source:?}").contains("canary"));
        for text in ["pypi", "pypi=", "pypi=https://a.test,", "=https://a.test", "a b=https://a"] {
            assert!(text.parse::<PresetSource>().is_err(), "{text}");
        }
        let error = "pypi=user:canary@mirror.test".parse::<PresetSource>().unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[test]
    fn lists_are_given_by_repeating_a_flag_or_with_a_separator() {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            outside: OutsideArgs,
        }
        let args = Alone::parse_from([
            "x",
            "--egress-permit",
            "10.0.0.0/8,192.168.1.0/24",
            "--egress-permit",
            "172.16.0.0/12",
            "--preset",
            "pypi=https://a.test,https://b.test;npm=https://c.test",
        ])
        .outside;
        assert_eq!(args.egress_permit.len(), 3);
        let urls: Vec<usize> = args.preset.iter().map(|preset| preset.urls.len()).collect();
        assert_eq!(urls, [2, 1]);
    }
}
