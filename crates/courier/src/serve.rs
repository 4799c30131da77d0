//! `courier serve`: server and node in one process.

mod announce;
pub(crate) mod ca;
mod dispatch;
mod domain;
mod listen;
mod patience;
mod root;
mod setup;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use courier_node::{Capacity, LocalNode, NetworkConfig, TunnelRegistry, system_clock};
use courier_protocol::node::SharedNode;
use courier_server::{Parts, Server, StoredSecrets, Vault};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::announce::{Announcement, TlsLines};
use self::dispatch::Dispatch;
use self::domain::Domain;
use self::listen::{Listener, Stop};
pub(crate) use self::root::USER;
use crate::compose::{BuildingNode, NodeParts};
use crate::config::Config;
pub(crate) use crate::config::serve::Args;
use crate::folder::{Folder, ServerInfo};
use crate::passwd::User;
use crate::{compose, config, log, memory, output, template};

/// What is ours is nobody else's to read.
const UMASK: rustix::fs::Mode = rustix::fs::Mode::from_raw_mode(0o077);

/// Runs the server until SIGTERM or SIGINT.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    log::start(config, config::LOG_SERVE)?;
    let domain = args.domain.as_deref().map(str::parse::<Domain>).transpose()?;
    let tls_address = domain.as_ref().map(|domain| {
        args.tls_listen.unwrap_or_else(|| SocketAddr::new(args.listen.ip(), domain.port))
    });
    refuse_remote(&args, tls_address)?;
    let folder = Folder::new(&config.data);
    let lock = folder.lock()?;
    compose::launcher(config).await?;
    template::ensure_base(config).await?;
    // Building the template may have taken longer than an idle launcher stays.
    compose::launcher(config).await?;
    if rustix::process::geteuid().is_root() {
        let user = root::user_to_be(args.stay_root)?;
        root::hand_over(&config.data, user, domain.as_ref().map(|domain| domain.name.as_str()))?;
        if user != User::ROOT {
            // The same process goes on as another user and takes the lock again.
            drop(lock);
            return Err(root::become_user(user, &config.data));
        }
    }
    memory::close()?;
    rustix::process::umask(UMASK);
    raise_open_files();
    let bound = bind(args.listen, &folder, domain.as_ref().zip(tls_address)).await?;
    let url = format!("http://{}", reachable(bound.plain));
    let (node, server, new_key) = start(&args, config, domain.as_ref()).await?;
    lock.announce(&ServerInfo { url: url.clone(), pid: std::process::id() })?;
    announce(&folder, (&url, new_key.as_deref()), (domain.as_ref(), bound.tls.as_ref()))?;
    let dispatch = Dispatch::new(server.router(), node, domain.map(|domain| domain.name));
    serve(bound.listeners, dispatch, server).await?;
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// The listeners and where they listen.
struct Bound {
    listeners: Vec<Listener>,
    plain: SocketAddr,
    /// The CA's certificate and where TLS is, in domain mode.
    tls: Option<(PathBuf, SocketAddr)>,
}

async fn bind(
    listen: SocketAddr,
    folder: &Folder,
    tls: Option<(&Domain, SocketAddr)>,
) -> anyhow::Result<Bound> {
    let plain = Listener::bind(listen, None).await?;
    let mut bound = Bound { plain: plain.address()?, listeners: vec![plain], tls: None };
    if let Some((domain, address)) = tls {
        let tls = ca::open(&folder.ca(&domain.name)?, &domain.name, SystemTime::now())?;
        let listener = Listener::bind(address, Some(tls.config)).await?;
        bound.tls = Some((tls.ca_file, listener.address()?));
        bound.listeners.push(listener);
    }
    Ok(bound)
}

/// Beyond loopback only where the user says so.
fn refuse_remote(args: &Args, tls: Option<SocketAddr>) -> anyhow::Result<()> {
    let remote = [Some(args.listen), tls].into_iter().flatten().find(|a| !a.ip().is_loopback());
    let Some(address) = remote else { return Ok(()) };
    if !args.allow_remote {
        bail!(
            "{address} can be reached from other machines: say --allow-remote if that is what you \
             want, and then mind that plain HTTP shows keys and output to whoever listens in between"
        );
    }
    tracing::warn!(%address, "other machines can connect; plain HTTP shows them keys and output");
    Ok(())
}

/// Every sandbox and every connection needs descriptors; the soft limit is for programs that use
/// `select`, which we do not.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}

/// The store, the node, and the server on both.
async fn start(
    args: &Args,
    config: &Config,
    domain: Option<&Domain>,
) -> anyhow::Result<(Arc<LocalNode>, Server, Option<String>)> {
    let folder = Folder::new(&config.data);
    let (store, new_key) = setup::store(&folder, &template::list(config)?).await?;
    let mut capacity = Capacity::default();
    let mut server_config = courier_server::Config {
        domain: domain.map(ToString::to_string),
        egress_default: args.egress_default.into(),
        build_egress: args.build_egress.read()?,
        ..Default::default()
    };
    if let Some(max) = args.max_sandboxes {
        capacity.max_sandboxes = usize::try_from(max)?;
        server_config.sandboxes_max = max.into();
    }
    let vault = Vault::open(&folder.vault_key(), &store).await?;
    let presets = compose::presets(&args.outside);
    let secrets = StoredSecrets::new(store.clone(), vault.clone(), Arc::clone(&presets));
    let host = compose::host_side(&args.outside, folder.ca_seed()?)?;
    let tunnels = TunnelRegistry::new(args.tunnels.clone(), system_clock()).context("--tunnel")?;
    let network = NetworkConfig::new(host, Arc::new(secrets)).with_tunnels(tunnels.clone());
    let parts = NodeParts { capacity, network };
    let BuildingNode { node, builder, .. } =
        compose::server_node(config, &args.outside, parts).await?;
    let shared: SharedNode = Arc::clone(&node) as SharedNode;
    let parts = Parts {
        store,
        node: shared,
        builder,
        vault,
        presets,
        tunnels: Arc::new(tunnels),
        uploads: folder.uploads(),
    };
    let server = Server::start(server_config, parts).await?;
    Ok((node, server, new_key))
}

/// Prints what to copy.
fn announce(
    folder: &Folder,
    (url, new_key): (&str, Option<&str>),
    (domain, tls): (Option<&Domain>, Option<&(PathBuf, SocketAddr)>),
) -> anyhow::Result<()> {
    let tls = match (domain, tls) {
        (Some(domain), Some((ca_file, address))) => {
            Some(TlsLines { domain, ca_file, address: *address })
        }
        (None | Some(_), None) | (None, Some(_)) => None,
    };
    let key_file = folder.api_key();
    // What is no terminal may well be a log, which others read, and which is kept.
    let new_key = new_key.filter(|_key| std::io::stdout().is_terminal());
    output::print(&Announcement { url, new_key, key_file: &key_file, tls }.text())
}

/// Serves until a signal, then drains: no new sandboxes and connections, requests in flight end or
/// are cut, sandboxes stay.
async fn serve(listeners: Vec<Listener>, dispatch: Dispatch, server: Server) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let how = Stop { told: stopped, grace: listen::DRAIN };
    let serving = tokio::spawn(listen::serve(listeners, dispatch, how));
    told_to_stop().await?;
    tracing::info!("stopping; sandboxes stay and the next start finds them");
    server.begin_drain();
    stop.send_replace(true);
    serving.await?;
    finish(server).await;
    Ok(())
}

/// Waits for work that goes on without its client.
async fn finish(server: Server) {
    if !server.drain(listen::DRAIN).await {
        tracing::warn!("some work did not end in time; the next start settles it");
    }
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The address for clients on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, v4.port()))
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port()))
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(listen: &str) -> Args {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        Cli::parse_from(["serve", "--listen", listen]).args
    }

    #[test]
    fn an_address_that_others_can_reach_needs_a_flag_of_its_own() {
        assert!(refuse_remote(&args("127.0.0.1:0"), None).is_ok());
        assert!(refuse_remote(&args("[::1]:0"), None).is_ok());
        let error = refuse_remote(&args("0.0.0.0:3000"), None).unwrap_err().to_string();
        assert!(error.contains("--allow-remote"), "{error}");
        let tls = Some("192.0.2.1:443".parse().unwrap());
        assert!(refuse_remote(&args("127.0.0.1:0"), tls).is_err());
    }

    #[test]
    fn a_server_on_every_address_is_told_by_its_loopback_one() {
        assert_eq!(reachable("0.0.0.0:3000".parse().unwrap()).to_string(), "127.0.0.1:3000");
        assert_eq!(reachable("[::]:3000".parse().unwrap()).to_string(), "[::1]:3000");
        assert_eq!(reachable("127.0.0.1:1".parse().unwrap()).to_string(), "127.0.0.1:1");
    }
}
