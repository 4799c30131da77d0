//! Whom we believe outside: the certificates by which upstream servers are checked.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::ca::{H2, HTTP_1_1};

/// Why there is no trust store.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A text that has no certificates.
    #[error("there is no PEM certificate in the given file number {number}")]
    Pem {
        /// Its place among the given ones, from 1.
        number: usize,
    },
    /// A certificate that is none.
    #[error("a certificate in the given file number {number} cannot be used")]
    Certificate {
        /// Its place among the given ones, from 1.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// Neither the host nor the operator gave one.
    #[error("there is no CA certificate to trust, neither on this host nor given")]
    Empty,
    /// TLS does not take the store.
    #[error("the CA certificates cannot be used")]
    Tls(#[from] rustls::Error),
}

/// What may be spoken inside a TLS connection to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/2, or HTTP/1.1 where the server has no other.
    Http2OrHttp1,
    /// HTTP/1.1 only, as WebSockets need it.
    Http1,
}

/// The CA certificates of the host and of the operator, for all sandboxes of a node. Cheap to clone.
///
/// Sessions are never resumed: every connection checks the certificate anew, and nothing of one
/// sandbox's connections shows in another's. Revocation is not checked.
#[derive(Clone)]
pub struct UpstreamTrust {
    roots: usize,
    http2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl fmt::Debug for UpstreamTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTrust").field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl UpstreamTrust {
    /// The host's CA certificates and those of `extra`, each one a text of PEM certificates. The
    /// host's are where its other programs have them (`SSL_CERT_FILE` and `SSL_CERT_DIR` count).
    ///
    /// # Errors
    /// A given text is of no use, or there is no certificate at all.
    pub fn new(extra: &[Vec<u8>]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        // Hosts have broken certificates among good ones; each missing one only means less trust.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::with_roots(roots, extra)
    }

    /// Only the certificates of `extra`.
    ///
    /// # Errors
    /// A given text is of no use, or there is no certificate at all.
    pub fn only(extra: &[Vec<u8>]) -> Result<Self, TrustError> {
        Self::with_roots(RootCertStore::empty(), extra)
    }

    fn with_roots(mut roots: RootCertStore, extra: &[Vec<u8>]) -> Result<Self, TrustError> {
        for (number, text) in (1..).zip(extra) {
            add(&mut roots, number, text)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        let count = roots.len();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        Ok(Self { roots: count, http2: Arc::new(config), http1 })
    }

    /// TLS with this trust for what the node itself asks, by HTTP/1.1.
    #[must_use]
    pub fn http1(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.http1)
    }

    pub(crate) fn client(&self, alpn: Alpn) -> Arc<ClientConfig> {
        Arc::clone(match alpn {
            Alpn::Http2OrHttp1 => &self.http2,
            Alpn::Http1 => &self.http1,
        })
    }
}

fn add(roots: &mut RootCertStore, number: usize, text: &[u8]) -> Result<(), TrustError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = parsed.ok().filter(|certificates| !certificates.is_empty());
    for certificate in certificates.ok_or(TrustError::Pem { number })? {
        roots.add(certificate).map_err(|source| TrustError::Certificate { number, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
