//! Connections that leave HTTP/1.1 for another protocol (RFC 9110, section 7.8): WebSockets, mostly.

use http::request::Parts;
use http::{HeaderValue, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::headers::has_token;

/// Bytes under way in each direction of an upgraded connection.
const BUFFER_BYTES: usize = 64 * 1_024;

/// A client's wish to change the protocol.
pub(super) struct Upgrade {
    /// To which.
    pub(super) protocol: HeaderValue,
    client: OnUpgrade,
}

impl Upgrade {
    /// What the client wishes, where it does and can. HTTP/2 without TLS is no other protocol: the
    /// client may just go on.
    pub(super) fn wanted(parts: &mut Parts) -> Option<Self> {
        let client = parts.extensions.remove::<OnUpgrade>()?;
        let mut protocols = parts.headers.get_all(header::UPGRADE).iter();
        let (protocol, more) = (protocols.next()?, protocols.next());
        let wanted = parts.version == Version::HTTP_11
            && more.is_none()
            && has_token(&parts.headers, &header::CONNECTION, "upgrade")
            && !protocol.as_bytes().to_ascii_lowercase().starts_with(b"h2c");
        wanted.then(|| Self { protocol: protocol.clone(), client })
    }

    /// Lets bytes through between client and server once both have left HTTP, until both have ended
    /// their direction or either breaks off.
    pub(super) fn carry_out(self, server: OnUpgrade, connection: AbortOnDropHandle<()>) {
        tokio::spawn(async move {
            let _until_the_end = connection;
            match tokio::try_join!(self.client, server) {
                Ok((client, server)) => {
                    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                    // An error breaks both off: they are dropped.
                    let _end = tokio::io::copy_bidirectional_with_sizes(
                        &mut client,
                        &mut server,
                        BUFFER_BYTES,
                        BUFFER_BYTES,
                    )
                    .await;
                }
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
        });
    }
}
