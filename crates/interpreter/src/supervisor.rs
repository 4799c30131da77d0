//! The process that is started watches over the one that serves, and starts it again when it ends.
//!
//! The one that serves reads what kernels send, and a kernel can be made to announce a message that
//! no memory holds. Nothing of that reaches this process: it reads nothing.

use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

/// Between two starts, so that a process that cannot live is no load.
const PAUSE: Duration = Duration::from_millis(500);
/// One that exits sooner than this at its first start was started wrongly, and there is no use in
/// another try. One that a signal ended was not.
const FIRST_LIFE: Duration = Duration::from_secs(2);

/// Runs this program again, with the same arguments, as the one that serves.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let mut first = true;
    loop {
        let runtime = tempfile::Builder::new()
            .prefix("courier-interpreter-")
            .tempdir()
            .context("no folder for the kernels' sockets")?;
        let began = Instant::now();
        let mut child = Command::new(std::env::current_exe().context("where is this program?")?)
            .args(std::env::args_os().skip(1))
            .arg("--serve-in")
            .arg(runtime.path())
            .spawn()
            .context("cannot start the process that serves")?;
        tokio::select! {
            status = child.wait() => {
                let status = status.context("cannot wait for the process that serves")?;
                let wrongly = first && status.code().is_some() && began.elapsed() < FIRST_LIFE;
                anyhow::ensure!(!wrongly, "it ended at once: {status}");
                tracing::warn!("the process that serves ended ({status}) and is started again");
            }
            _ = terminate.recv() => return stop(child).await,
            _ = interrupt.recv() => return stop(child).await,
        }
        first = false;
        sleep(PAUSE).await;
    }
}

/// Ends the process that serves; its kernels end with it.
async fn stop(mut child: Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(pid, Signal::TERM).context("cannot end the process that serves")?;
    }
    child.wait().await.context("cannot wait for the process that serves")?;
    Ok(())
}

/// Asks the kernel to end this process when the one that watches ends.
pub(crate) fn end_with_the_watcher() -> rustix::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))
}
