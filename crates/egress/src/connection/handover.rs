//! Where HTTP takes over.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Conversation;

/// What is spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

pub(super) async fn serve_clear<S>(_stream: S, _conversation: Conversation)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
}

pub(super) async fn serve_tls<S>(_stream: S, _version: Version, _conversation: Conversation)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
}
