//! `courier sandbox open`: a port of a sandbox as one of this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use courier_protocol::v1::{PORT_PROTOCOL, SandboxState, port_path};
use courier_types::SandboxId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::remote;
use crate::api::{Api, ApiError};
use crate::{exit, output};

/// Most connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_LIMIT: usize = 256;

/// Bytes under way in each direction of a connection.
const BUFFER_BYTES: usize = 64 * 1_024;

/// After a failure to accept (no descriptors left), the listener rests this long.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Flags of `courier sandbox open`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_name = "ID")]
    id: SandboxId,
    /// Port that a server inside listens on
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where to listen [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Prints the address and lets connections through until it is interrupted or the sandbox has ended.
pub(crate) async fn run(args: &Args, api: &Api) -> anyhow::Result<ExitCode> {
    let sandbox = remote::show(api, &args.id).await?;
    if sandbox.state != SandboxState::Running {
        anyhow::bail!("{}", remote::ended(&sandbox));
    }
    let address = args.listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be listened on; choose another address with --listen")
    })?;
    output::line(&format!("http://{}", listener.local_addr()?))?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                tell(ended?, &args.id)?;
                continue;
            }
        };
        let Ok((client, _peer)) = accepted else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let (api, path) = (api.clone(), port_path(&args.id, args.port));
        connections.spawn(async move {
            let passed = pass(client, &api, &path).await;
            drop(slot);
            passed
        });
    }
}

/// Lets one connection through.
async fn pass(mut client: TcpStream, api: &Api, path: &str) -> Result<(), ApiError> {
    let mut server = api.upgrade(path, PORT_PROTOCOL).await?;
    // Nothing depends on it but the delay of small messages.
    let _as_it_is = client.set_nodelay(true);
    // Either side may break off as it likes; the other one sees it.
    let _broken = tokio::io::copy_bidirectional_with_sizes(
        &mut client,
        &mut server,
        BUFFER_BYTES,
        BUFFER_BYTES,
    )
    .await;
    Ok(())
}

/// Says why a connection did not come about; that the sandbox has ended is the end of all of them.
fn tell(passed: Result<(), ApiError>, id: &SandboxId) -> anyhow::Result<()> {
    match passed {
        Ok(()) => Ok(()),
        Err(error) if error.is_not_found() => Err(remote::explain(error, id)),
        Err(error) => {
            eprintln!("{}", exit::describe(&error.into()));
            Ok(())
        }
    }
}
