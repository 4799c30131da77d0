//! The certificate authority of the test internet: a certificate for any name on demand, and bad
//! ones for names that ask for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates live from a month ago to a month from now; expired ones ended yesterday.
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Names that begin with this label get a certificate that ended yesterday.
pub const EXPIRED: &str = "expired";
/// Names that begin with this label get a certificate that no authority signed.
pub const SELF_SIGNED: &str = "self-signed";
/// Names that begin with this label get a certificate of another name.
pub const WRONG_NAME: &str = "wrong-name";
/// Names that begin with this label get a certificate of an authority that nobody trusts.
pub const UNKNOWN_CA: &str = "unknown-ca";

/// The authority, with the TLS configurations that it has made.
pub struct Authority {
    ours: Issuer<'static, KeyPair>,
    unknown: Issuer<'static, KeyPair>,
    pem: String,
    made: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one.
    #[must_use]
    pub fn new() -> Self {
        let (ours, pem) = issuer("Test internet CA");
        let (unknown, _pem) = issuer("Unknown CA");
        Self { ours, unknown, pem, made: Mutex::default() }
    }

    /// The certificate to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What a server uses that was dialled at `address` with `name` in the hello.
    #[must_use]
    pub fn config(&self, name: Option<&str>, address: IpAddr) -> Arc<ServerConfig> {
        let name = name.map_or_else(|| address.to_string(), str::to_owned);
        let mut made = self.made.lock().expect("nothing panics with the lock");
        let config = made.entry(name).or_insert_with_key(|name| Arc::new(self.make(name)));
        Arc::clone(config)
    }

    fn make(&self, name: &str) -> ServerConfig {
        let manner = name.split('.').next().unwrap_or_default();
        let shown = if manner == WRONG_NAME { "somebody-else.test" } else { name };
        let mut params = CertificateParams::new(vec![shown.to_owned()])
            .unwrap_or_else(|error| panic!("{shown:?} in a certificate: {error}"));
        params.distinguished_name.push(DnType::CommonName, shown);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - MONTH).into();
        params.not_after = if manner == EXPIRED { now - DAY } else { now + MONTH }.into();
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = match manner {
            SELF_SIGNED => params.self_signed(&key),
            UNKNOWN_CA => params.signed_by(&key, &self.unknown),
            _honest => params.signed_by(&key, &self.ours),
        };
        let certificate = certificate.expect("certificates can be signed");
        server(certificate.der().clone(), &key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn issuer(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (SystemTime::now() - MONTH).into();
    params.not_after = (SystemTime::now() + MONTH).into();
    let key = KeyPair::generate().expect("keys can be made");
    let pem = params.self_signed(&key).expect("certificates can be signed").pem();
    (Issuer::new(params, key), pem)
}

fn server(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key that was just made");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("certificate and key belong together");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
