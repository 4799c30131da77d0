//! The one service that a connector leads to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courier_egress::TunnelStream;
use courier_node::{DialError, TunnelTarget};
use courier_protocol::v1::TUNNEL_STREAMS_MAX;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::exit;

/// The service, and how many connections to it there are.
#[derive(Debug)]
pub(super) struct Service {
    target: TunnelTarget,
    permits: Arc<Semaphore>,
    /// Whether it did not answer when it was last dialled: only a change is told, as others decide
    /// how often it is dialled.
    fails: AtomicBool,
}

impl Service {
    /// That service.
    pub(super) fn new(target: TunnelTarget) -> Self {
        let permits = Arc::new(Semaphore::new(usize::from(TUNNEL_STREAMS_MAX)));
        Self { target, permits, fails: AtomicBool::new(false) }
    }

    /// A new connection, with its place among those that there may be; or what the server is told
    /// instead.
    pub(super) async fn dial(
        &self,
    ) -> Result<(Box<dyn TunnelStream>, OwnedSemaphorePermit), StatusCode> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_exhausted| StatusCode::SERVICE_UNAVAILABLE)?;
        let failed_before = |fails| self.fails.swap(fails, Ordering::Relaxed);
        match self.target.dial().await {
            Ok(stream) => {
                if failed_before(false) {
                    eprintln!("courier: the service answers again");
                }
                Ok((stream, permit))
            }
            Err(error) => {
                let status = match error {
                    DialError::Late { .. } => StatusCode::GATEWAY_TIMEOUT,
                    DialError::NotForUs { .. } | DialError::Failed { .. } => {
                        StatusCode::BAD_GATEWAY
                    }
                };
                if !failed_before(true) {
                    eprintln!("{}", exit::describe(&error.into()));
                }
                Err(status)
            }
        }
    }
}
