//! Flags of `courier serve`, with the environment variables that stand for them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use courier_node::TunnelSpec;
use courier_server::{BuildEgress, EgressDefault};

use super::outside::OutsideArgs;

/// Flags of `courier serve`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Address for the API and the sandboxes, plain HTTP
    #[arg(long, value_name = "ADDR:PORT", default_value = super::LISTEN, env = "COURIER_LISTEN", hide_env_values = true)]
    pub(crate) listen: SocketAddr,
    /// Serve TLS for NAME and every name below it, with a private CA [default port: 8443]
    #[arg(long, value_name = "NAME[:PORT]", env = "COURIER_DOMAIN", hide_env_values = true)]
    pub(crate) domain: Option<String>,
    /// Address for TLS [default: the domain's port on the address of --listen]
    #[arg(long, value_name = "ADDR:PORT", env = "COURIER_TLS_LISTEN", requires = "domain")]
    pub(crate) tls_listen: Option<SocketAddr>,
    /// Most sandboxes at once
    #[arg(long, value_name = "N", env = "COURIER_MAX_SANDBOXES", hide_env_values = true)]
    pub(crate) max_sandboxes: Option<u32>,
    /// Let other machines connect: without TLS in between, keys and output travel in clear
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// Do not become user `courier` when started as root
    #[arg(long)]
    pub(crate) stay_root: bool,
    /// What sandboxes may reach where neither template nor create says: nothing, or all that is
    /// public
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value = "deny",
        env = "COURIER_EGRESS_DEFAULT",
        hide_env_values = true,
        help_heading = "Ways out of sandboxes"
    )]
    pub(crate) egress_default: WhenUnsaid,
    /// What the steps of template builds may reach: `presets` for the registries of package managers,
    /// as far as this machine knows them, `internet` for all that is public, or a file with a policy
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "presets",
        env = "COURIER_BUILD_EGRESS",
        hide_env_values = true,
        help_heading = "Ways out of sandboxes"
    )]
    pub(crate) build_egress: BuildsMay,
    /// Private tunnel: lets sandboxes whose policy names it reach one service, which is dialled from
    /// here, as NAME.tunnel.internal (may be repeated; with ';' between several in the variable)
    #[arg(
        long = "tunnel",
        value_name = "NAME=HOST:PORT|unix:PATH[,port=N]",
        value_delimiter = ';',
        env = "COURIER_TUNNELS",
        hide_env_values = true,
        help_heading = "Ways out of sandboxes"
    )]
    pub(crate) tunnels: Vec<TunnelSpec>,
    #[command(flatten)]
    pub(crate) outside: OutsideArgs,
}

/// What sandboxes may reach of which nobody says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WhenUnsaid {
    /// Nothing
    Deny,
    /// Everything public, which is E2B's default
    Internet,
}

impl From<WhenUnsaid> for EgressDefault {
    fn from(what: WhenUnsaid) -> Self {
        match what {
            WhenUnsaid::Deny => Self::Deny,
            WhenUnsaid::Internet => Self::Internet,
        }
    }
}

/// What the steps of builds may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BuildsMay {
    /// What the presets stand for
    Presets,
    /// Everything public
    Internet,
    /// What the policy in this file says
    File(PathBuf),
}

impl FromStr for BuildsMay {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "presets" => Self::Presets,
            "internet" => Self::Internet,
            file => Self::File(file.into()),
        })
    }
}

impl BuildsMay {
    /// What that is, with the file read.
    pub(crate) fn read(&self) -> anyhow::Result<BuildEgress> {
        Ok(match self {
            Self::Presets => BuildEgress::default(),
            Self::Internet => BuildEgress::Internet,
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--build-egress {}", path.display()))?;
                let policy = serde_json::from_str(&text)
                    .with_context(|| format!("--build-egress {}", path.display()))?;
                BuildEgress::Policy(Box::new(policy))
            }
        })
    }
}
