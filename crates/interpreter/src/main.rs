//! `courier-interpreter`: the code interpreter of a sandbox, on port 49999.
//!
//! It runs inside the sandbox, as the template's start command, and speaks to real Jupyter kernels
//! for clients that speak E2B's protocol. The process that is started only watches over a second
//! one, which serves: whatever a kernel or a client does to that one, it comes back.

mod context;
mod contexts;
mod environment;
mod http;
mod kernel;
mod language;
mod message;
mod mime;
mod output;
mod supervisor;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;

use crate::contexts::{Contexts, Setting};

/// The code interpreter of a sandbox.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:49999")]
    listen: SocketAddr,
    /// The folder with one folder for each kernel, each with its kernel.json.
    #[arg(long, default_value = "/usr/local/share/jupyter/kernels")]
    kernels_dir: PathBuf,
    /// Where contexts run that ask for no folder.
    #[arg(long, default_value = "/home/user")]
    cwd: PathBuf,
    /// Where kernels' sockets go: the process that watches tells the one that serves.
    #[arg(long, hide = true)]
    serve_in: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let done = match arguments.serve_in.clone() {
        Some(runtime) => serve(arguments, runtime),
        None => supervisor::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn serve(arguments: Arguments, runtime: PathBuf) -> anyhow::Result<()> {
    supervisor::end_with_the_watcher().context("cannot be tied to the process that watches")?;
    let listener = tokio::net::TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    // Names and values that are no text cannot be given to a kernel in code, but it inherits them.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let setting = Setting {
        kernels: arguments.kernels_dir,
        cwd: arguments.cwd,
        runtime,
        environment: Arc::new(environment),
    };
    let contexts = Arc::new(Contexts::new(setting));
    tracing::info!("listening on {}", arguments.listen);
    let serving = axum::serve(listener, http::router(Arc::clone(&contexts)));
    // Who asks while kernels start waits for them, and is not turned away.
    let (served, ()) = tokio::join!(serving.into_future(), contexts.start());
    served.context("the server ended")
}
