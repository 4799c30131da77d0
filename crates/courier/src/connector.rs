//! `courier connector`: leads sandboxes to one private service near it, by a connection that it opens
//! itself. Nothing listens here, and nothing but that service is ever dialled, whatever the server
//! asks for.
//!
//! ```text
//! connect ─▶ connected ─ lost ─▶ pause ─▶ connect …      pauses double, up to half a minute
//!    └ refused for good ─▶ end                            a signal ends it at any point
//! ```

mod pass;
mod serve;
mod server;
mod service;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use courier_node::{TunnelSpec, TunnelTarget};
use courier_protocol::v1::TUNNEL_DOMAIN;
use courier_types::egress::TunnelName;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::server::{Admission, ConnectError, Server};
use self::service::Service;
use crate::config::{self, Config};
use crate::{exit, log, output, random};

/// What `courier connector --help` ends with.
const EXAMPLES: &str = "\
Examples:
  courier connector db --to 127.0.0.1:5432
  courier connector docker --to unix:/run/docker.sock --port 2375 --url https://courier.example";

/// Pause before the first new attempt.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A connection that lasted so long was a good one: the next pause is short again.
const LASTING: Duration = Duration::from_secs(10);

/// How long a name that another connector has is asked for, while this one was never connected: a
/// server may take half a minute to see that a connector is dead.
const TAKEN_PATIENCE: Duration = Duration::from_secs(45);

/// Flags of `courier connector`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The tunnel's name: sandboxes whose policy names it reach the service as NAME.tunnel.internal
    name: TunnelName,
    /// The service, dialled from here exactly as written
    #[arg(long, value_name = "HOST:PORT|unix:PATH")]
    to: TunnelTarget,
    /// Port inside the sandboxes [default: the service's own; 80 for a Unix socket]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// PEM file of CA certificates that are trusted beside the machine's own (may be repeated)
    #[arg(long, value_name = "FILE")]
    ca: Vec<std::path::PathBuf>,
}

/// Runs `courier connector` until a signal, or until the server refuses it for good.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    log::start(config, config::LOG_COMMAND)?;
    let server = Server::find(config, &args.ca)?;
    if server.is_open_to_listeners() {
        eprintln!("courier: the API key and all bytes go to the server in clear: use https");
    }
    let tunnel = TunnelSpec::new(args.name, args.to, args.port);
    let stop = CancellationToken::new();
    let connector = Connector {
        server,
        service: Arc::new(Service::new(tunnel.target().clone())),
        tunnel,
        stop: stop.clone(),
    };
    let told = told_to_stop(stop)?;
    let ended = connector.keep_connected().await;
    told.abort();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Cancels the token at SIGTERM or SIGINT.
fn told_to_stop(stop: CancellationToken) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    }))
}

/// A tunnel, and where it leads.
struct Connector {
    server: Server,
    service: Arc<Service>,
    tunnel: TunnelSpec,
    stop: CancellationToken,
}

impl Connector {
    /// Stays connected until it is told to stop.
    async fn keep_connected(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (mut pause, mut was_connected) = (PAUSE_MIN, false);
        while !self.stop.is_cancelled() {
            let connecting = self.server.connect(self.tunnel.name(), self.tunnel.port());
            let Some(connected) = self.stop.run_until_cancelled(connecting).await else { break };
            match connected {
                Ok(stream) => {
                    was_connected = true;
                    let since = Instant::now();
                    self.serve(stream).await?;
                    if since.elapsed() >= LASTING {
                        pause = PAUSE_MIN;
                    }
                }
                Err(error) if is_final(&error, was_connected, begun.elapsed()) => {
                    return Err(error.into());
                }
                Err(error) => eprintln!("{}", exit::describe(&error.into())),
            }
            self.stop.run_until_cancelled(tokio::time::sleep(jittered(pause)?)).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        Ok(())
    }

    /// Serves one connection to its end.
    async fn serve(&self, stream: server::Connection) -> anyhow::Result<()> {
        let (name, port) = (self.tunnel.name(), self.tunnel.port());
        output::line(&format!(
            "tunnel {name} is connected to {}: sandboxes whose policy names it reach {} as \
             {name}.{TUNNEL_DOMAIN}:{port}",
            self.server,
            self.tunnel.target(),
        ))?;
        let served = serve::serve(stream, Arc::clone(&self.service), &self.stop).await;
        if self.stop.is_cancelled() {
            return Ok(());
        }
        match served {
            Ok(()) => eprintln!("courier: tunnel {name}: the server closed the connection"),
            Err(error) => {
                let error = anyhow::Error::new(error).context(format!("tunnel {name} was lost"));
                eprintln!("{}", exit::describe(&error));
            }
        }
        Ok(())
    }
}

/// True where asking again is of no use.
fn is_final(error: &ConnectError, was_connected: bool, asked_for: Duration) -> bool {
    match error.admission() {
        Admission::Never => true,
        Admission::Later => false,
        Admission::Taken => !was_connected && asked_for >= TAKEN_PATIENCE,
    }
}

/// Half to all of a pause: connectors that were lost together do not come back together.
fn jittered(pause: Duration) -> anyhow::Result<Duration> {
    let share = f64::from(u32::from_le_bytes(random::bytes()?)) / f64::from(u32::MAX);
    Ok(pause.mul_f64(0.5 + share / 2.0))
}

#[cfg(test)]
mod tests;
