//! Flags of `courier serve`, with the environment variables that stand for them.

use std::net::SocketAddr;

use courier_node::TunnelSpec;
use courier_server::EgressDefault;

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
