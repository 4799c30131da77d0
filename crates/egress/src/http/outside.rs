//! What the proxy needs from around it: the sandbox's policy, its credentials, its log, and a way
//! to the host that a connection was opened for.

use std::sync::Arc;

use async_trait::async_trait;
use courier_types::SandboxId;
use courier_types::egress::FlowRefusal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::guard::Host;
use super::room::Room;
use crate::broker::Broker;
use crate::connection::{Conversation, upstream};
use crate::flow::FlowLog;
use crate::network::Tasks;
use crate::policy::Compiled;
use crate::tls::Alpn;

/// A byte stream to an upstream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to an upstream, whose certificate was verified where there is TLS.
pub(super) struct Connected {
    /// Its bytes.
    pub(super) stream: Box<dyn Stream>,
    /// HTTP/2 was agreed on.
    pub(super) speaks_http2: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct ConnectError {
    /// What happened, for the guest and the log.
    pub(super) text: String,
    /// The fence, where it was one.
    pub(super) refusal: Option<FlowRefusal>,
}

/// What is around a conversation.
#[async_trait]
pub(super) trait Outside: Send + Sync + 'static {
    /// Whose it is.
    fn sandbox(&self) -> &SandboxId;
    /// The policy, as it is now and will be.
    fn policy(&self) -> watch::Receiver<Arc<Compiled>>;
    /// What adds credentials.
    fn broker(&self) -> &Broker;
    /// Where flows are written.
    fn flows(&self) -> &FlowLog;
    /// How much room the sandbox's HTTP has.
    fn room(&self) -> &Room;
    /// Where tasks run.
    fn tasks(&self) -> &Tasks;
    /// A new connection to where the conversation leads.
    async fn connect(&self, host: &Host, alpn: Alpn) -> Result<Connected, ConnectError>;
}

#[async_trait]
impl Outside for Conversation {
    fn sandbox(&self) -> &SandboxId {
        &self.context.sandbox
    }

    fn policy(&self) -> watch::Receiver<Arc<Compiled>> {
        self.context.policy.clone()
    }

    fn broker(&self) -> &Broker {
        &self.context.broker
    }

    fn flows(&self) -> &FlowLog {
        &self.context.flows
    }

    fn room(&self) -> &Room {
        &self.context.room
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    async fn connect(&self, host: &Host, alpn: Alpn) -> Result<Connected, ConnectError> {
        match Box::pin(upstream(self, host.name(), alpn)).await {
            Ok(stream) => {
                let speaks_http2 = stream.speaks_http2();
                Ok(Connected { stream: Box::new(stream), speaks_http2 })
            }
            Err(error) => Err(ConnectError { text: error.text(), refusal: error.refusal() }),
        }
    }
}
