//! The private CA of domain mode, and the certificate that the server shows.
//!
//! The CA may sign names below its domain only (name constraints), so that trusting it trusts it
//! with nothing else. The server's own certificate lives in memory and is made anew at each start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::folder;

/// How long the CA is valid: longer than anybody keeps a private one.
const CA_DAYS: u64 = 3650;
/// How long the server's certificate is valid; clients refuse more than 398 days of public ones.
const LEAF_DAYS: u64 = 397;
/// Certificates begin a day early, for clocks that go wrong.
const EARLY: Duration = Duration::from_secs(DAY);
const DAY: u64 = 24 * 60 * 60;

/// The files of a CA and the TLS configuration that its certificate makes.
pub(crate) struct Tls {
    /// The CA's certificate, for clients to trust.
    pub(crate) ca_file: PathBuf,
    /// What the listener uses.
    pub(crate) config: Arc<rustls::ServerConfig>,
}

/// Opens the CA of a domain in a folder, makes it where there is none, and signs a certificate for
/// the domain and every name right below it.
pub(crate) fn open(dir: &Path, domain: &str, now: SystemTime) -> anyhow::Result<Tls> {
    let ca_file = dir.join("ca.pem");
    let (key, age) = ca_key(&dir.join("ca.key"))
        .with_context(|| format!("the private CA in {} cannot be used", dir.display()))?;
    let params = ca_params(domain, now);
    if age == Age::New || !ca_file.exists() {
        let certificate = params.self_signed(&key).context("the private CA cannot be signed")?;
        folder::write_public(&ca_file, certificate.pem().as_bytes())?;
    }
    let config = server_config(&Issuer::new(params, key), domain, now)?;
    Ok(Tls { ca_file, config: Arc::new(config) })
}

/// Whether a key was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Old,
    New,
}

/// Reads the CA's key, or makes one.
fn ca_key(path: &Path) -> anyhow::Result<(KeyPair, Age)> {
    if let Some(pem) = folder::read_small(path)? {
        let key = KeyPair::from_pem(&pem).with_context(|| {
            format!("{} is not a private key; delete the folder to make a new CA", path.display())
        })?;
        return Ok((key, Age::Old));
    }
    let key = KeyPair::generate()?;
    folder::write_private(path, key.serialize_pem().as_bytes())?;
    Ok((key, Age::New))
}

/// What the CA's certificate says: always the same for a domain, but for its dates.
fn ca_params(domain: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("CodeCourier CA of {domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        excluded_subtrees: Vec::new(),
    });
    params.not_before = (now - EARLY).into();
    params.not_after = (now + Duration::from_secs(CA_DAYS * DAY)).into();
    params
}

fn server_config(
    issuer: &Issuer<'_, KeyPair>,
    domain: &str,
    now: SystemTime,
) -> anyhow::Result<rustls::ServerConfig> {
    let mut params = CertificateParams::new(vec![domain.to_owned(), format!("*.{domain}")])
        .context("the domain cannot stand in a certificate")?;
    params.distinguished_name.push(DnType::CommonName, domain);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - EARLY).into();
    params.not_after = (now + Duration::from_secs(LEAF_DAYS * DAY)).into();
    let key = KeyPair::generate()?;
    let leaf =
        params.signed_by(&key, issuer).context("the server's certificate cannot be signed")?;
    let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|why| anyhow::anyhow!("the server's key cannot be used: {why}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_ca_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "e2b.test", SystemTime::now()).unwrap();
        let pem = std::fs::read(&first.ca_file).unwrap();
        let again = open(dir.path(), "e2b.test", SystemTime::now()).unwrap();
        assert_eq!(std::fs::read(&again.ca_file).unwrap(), pem);
        let mode = std::fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_file_that_holds_no_key_is_refused_with_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.key"), "nonsense").unwrap();
        let error = open(dir.path(), "e2b.test", SystemTime::now()).err().unwrap();
        assert!(format!("{error:#}").contains("delete the folder"), "{error:#}");
    }

    /// A handshake of a client that trusts only this CA.
    async fn handshake(tls: &Tls, name: &'static str) -> std::io::Result<Option<Vec<u8>>> {
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&tls.ca_file).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = tokio_rustls::TlsAcceptor::from(Arc::clone(&tls.config)).accept(theirs);
        let client = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(rustls::pki_types::ServerName::try_from(name).unwrap(), ours);
        let (_server, client) = tokio::join!(server, client);
        Ok(client?.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_ca_reaches_the_domain_and_every_name_right_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let tls = open(dir.path(), "e2b.test", SystemTime::now()).unwrap();
        for name in ["e2b.test", "api.e2b.test", "49983-i0123456789abcdefghij.e2b.test"] {
            assert_eq!(handshake(&tls, name).await.unwrap().as_deref(), Some(&b"h2"[..]), "{name}");
        }
        assert!(handshake(&tls, "example.com").await.is_err());
    }

    #[tokio::test]
    async fn the_ca_is_not_believed_about_names_outside_its_domain() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (dir.path().join("ca.pem"), "bank.test");
        open(dir.path(), "e2b.test", SystemTime::now()).unwrap();
        // Whoever has the key signs a certificate for another name with it.
        let (key, _old) = ca_key(&dir.path().join("ca.key")).unwrap();
        let issuer = Issuer::new(ca_params("e2b.test", SystemTime::now()), key);
        let config = Arc::new(server_config(&issuer, other, SystemTime::now()).unwrap());
        let error = handshake(&Tls { ca_file: ca, config }, other).await.unwrap_err().to_string();
        assert!(error.contains("NameConstraint"), "{error}");
    }
}
