//! Ctrl-C and its like: the first kills the sandboxes at once, the second leaves without a word.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit;

/// Tells every run that it shall end, and with which exit code.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    tell: watch::Sender<Option<u8>>,
    told: watch::Receiver<Option<u8>>,
}

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let (tell, told) = watch::channel(None);
        for (kind, code) in [
            (SignalKind::interrupt(), exit::INTERRUPTED),
            (SignalKind::terminate(), exit::TERMINATED),
            (SignalKind::hangup(), exit::HUNG_UP),
        ] {
            let mut signals = signal(kind)?;
            let tell = tell.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if tell.send_replace(Some(code)).is_some() {
                        // The launcher destroys what we leave.
                        std::process::exit(code.into());
                    }
                }
            });
        }
        Ok(Self { tell, told })
    }

    /// Ends every run, as the first signal does.
    pub(crate) fn raise(&self, code: u8) {
        self.tell.send_replace(Some(code));
    }

    /// Waits for the first signal; returns our exit code.
    pub(crate) async fn wait(&self) -> u8 {
        let mut told = self.told.clone();
        match told.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(exit::INTERRUPTED),
            Err(_nobody_listens) => std::future::pending().await,
        }
    }
}
