//! A server of our own to measure: on a port and a data folder that nobody else uses.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use courier_client::{Event, Events, GuestClient, WriteTarget};
use courier_driver::launcher_process::socket_path;
use courier_driver::{HostDriver, Linger};
use courier_protocol::envd::process::{ProcessConfig, StartRequest};
use courier_protocol::v1::{NewSandbox, Sandbox};
use courier_types::egress::Policy;
use http_body_util::BodyExt as _;
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::config::{Config, TEMPLATE};
use crate::folder::Folder;
use crate::sandbox::remote::HttpTransport;

/// How long a server may take to start: it builds its template beforehand.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long it may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two looks whether it has started or ended.
const LOOK: Duration = Duration::from_millis(20);
/// Life of a sandbox that is measured: longer than any measurement takes.
const LIFE_MS: u64 = 10 * 60 * 1_000;
/// The launcher knows its clients by name.
const OWNER: &str = "bench";

/// A running server.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    folder: tempfile::TempDir,
    api: Api,
    address: SocketAddr,
}

/// A sandbox of that server.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Its id.
    pub(crate) id: String,
    client: GuestClient,
}

impl Service {
    /// Starts the server, with more arguments of `courier serve`.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn start(config: &Config, arguments: &[OsString]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("courier-bench-").tempdir()?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        // A bench that is killed takes its server with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(std::env::current_exe()?)
            .arg("--data")
            .arg(folder.path())
            .arg("--templates")
            .arg(&config.templates)
            .arg("--launcher-binary")
            .arg(&config.launcher_binary)
            .arg("--guest-binary")
            .arg(&config.guest_binary)
            .args(["--log", "warn", "serve", "--stay-root", "--listen"])
            .arg(address.to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("the server cannot be started")?;
        let (child, api) = tokio::time::timeout(START_DEADLINE, ready(child, folder.path().into()))
            .await
            .context("the server does not start")??;
        Ok(Self { child, folder, api, address })
    }

    /// Where it listens: its API and the sandboxes' ports.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a sandbox, with a policy of its own where one is given.
    ///
    /// # Errors
    /// The server refuses.
    pub(crate) async fn create(&self, egress: Option<Policy>) -> anyhow::Result<Measured> {
        self.make(TEMPLATE, egress).await
    }

    /// Makes a sandbox of another template.
    ///
    /// # Errors
    /// The server refuses.
    pub(crate) async fn create_of(&self, template: &str) -> anyhow::Result<Measured> {
        self.make(template, None).await
    }

    async fn make(&self, template: &str, egress: Option<Policy>) -> anyhow::Result<Measured> {
        let request = NewSandbox {
            template: Some(template.to_owned()),
            timeout_ms: Some(LIFE_MS),
            egress,
            ..NewSandbox::default()
        };
        let sandbox: Sandbox = self.api.post("/v1/sandboxes", &request).await?;
        let transport = HttpTransport::new(self.api.clone(), &sandbox)?;
        Ok(Measured { client: GuestClient::new(Arc::new(transport)), id: sandbox.id })
    }

    /// Kills a sandbox; returns when it is gone.
    ///
    /// # Errors
    /// The server refuses.
    pub(crate) async fn kill(&self, sandbox: &Measured) -> anyhow::Result<()> {
        Ok(self.api.delete(&format!("/v1/sandboxes/{}", sandbox.id)).await?)
    }

    /// Name and version of what isolates.
    ///
    /// # Errors
    /// The launcher does not answer.
    pub(crate) async fn technology(&self) -> anyhow::Result<String> {
        use courier_driver::Driver as _;
        Ok(self.launcher().await?.technology())
    }

    /// The server's process.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the server has ended")
    }

    async fn launcher(&self) -> anyhow::Result<HostDriver> {
        let socket = socket_path(&self.folder.path().join("launcher"));
        Ok(HostDriver::connect(socket, OWNER, Linger::Go).await?)
    }

    /// Ends the server, its sandboxes and its launcher.
    ///
    /// # Errors
    /// Something does not end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended = tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await;
        let launcher = self.launcher().await?;
        launcher.shut_down().await?;
        ended.context("the server does not end")??;
        Ok(())
    }
}

/// Waits until the server says where it answers.
async fn ready(mut child: Child, data: PathBuf) -> anyhow::Result<(Child, Api)> {
    let folder = Folder::new(&data);
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        if let Some(status) = child.try_wait()? {
            bail!("the server ended at once ({status})");
        }
        if let (Some(server), Some(key)) = (folder.running_server()?, folder.read_api_key()?) {
            return Ok((child, Api::new(&server.url, &key)?));
        }
    }
}

impl Measured {
    /// Starts a program.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) async fn start(&self, program: &str, args: Vec<String>) -> anyhow::Result<Events> {
        let process = ProcessConfig { cmd: program.to_owned(), args, ..ProcessConfig::default() };
        let request =
            StartRequest { process: Some(process), stdin: Some(false), ..StartRequest::default() };
        Ok(self.client.start(&request, None).await?)
    }

    /// Starts the program of the comparisons and follows it to its first output.
    ///
    /// # Errors
    /// It cannot be started, or prints nothing.
    pub(crate) async fn first_output(&self) -> anyhow::Result<Events> {
        let [program, argument] = super::floor::PROGRAM;
        let mut events = self.start(program, vec![argument.to_owned()]).await?;
        loop {
            match events.next().await? {
                Some(Event::Stdout(_)) => return Ok(events),
                Some(Event::Started { .. } | Event::Stderr(_) | Event::Pty(_)) => {}
                Some(Event::Ended(_)) | None => bail!("{program} printed nothing"),
            }
        }
    }

    /// Runs the program of the comparisons to its end.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let mut events = self.first_output().await?;
        while let Some(event) = events.next().await? {
            if let Event::Ended(end) = event
                && end.exit_code != Some(0)
            {
                bail!("the program failed ({})", end.status);
            }
        }
        Ok(())
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The sandbox refuses.
    pub(crate) async fn write(&self, path: &str, content: Bytes) -> anyhow::Result<()> {
        let target =
            WriteTarget { path: path.to_owned(), length: u64::try_from(content.len()).ok() };
        Ok(self.client.write_file(&target, courier_client::full(content)).await?)
    }

    /// Reads a file and returns its length.
    ///
    /// # Errors
    /// The sandbox refuses.
    pub(crate) async fn read(&self, path: &str) -> anyhow::Result<usize> {
        let mut body = self.client.read_file(path).await?.body;
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| anyhow::anyhow!(error))?;
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }
}
