//! Flags of `courier serve`, with the environment variables that stand for them.

use std::net::SocketAddr;

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
}
