//! The CA of one sandbox, for the TLS connections that are opened.
//!
//! Its key is derived from the node's seed and the sandbox's id: a restarted node has the same CA and
//! nothing is stored for it. The certificate says the same every time (name, serial, dates, key); its
//! signature may differ, which changes nothing for those who trust it.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use courier_types::SandboxId;
use courier_types::egress::HostName;
use p256::pkcs8::EncodePrivateKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use zeroize::Zeroizing;

/// Separates these keys from whatever else may be derived from the same seed.
const SALT: &[u8] = b"courier egress: CA of a sandbox, version 1";
/// Length of a P-256 scalar in bytes.
const SCALAR: usize = 32;
/// A scalar is out of range once in 2^32 times; this often in a row, never.
const TRIES_MAX: u8 = 8;
/// Length of a serial number in bytes; at most 20 (RFC 5280, section 4.1.2.2).
const SERIAL: usize = 16;
/// Most leaf certificates that are kept, some 2 KiB each. What falls out is minted again.
const LEAVES_MAX: usize = 256;
/// How long before now a leaf is valid from: the guest's clock may be behind.
const LEAF_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a leaf is valid: below the 398 days that some clients put up with at most.
const LEAF_VALID: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// When a leaf is minted again, well before it ends.
const LEAF_RENEWED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The protocols that an opened connection may speak inside.
pub(crate) const H2: &[u8] = b"h2";
/// HTTP/1.1 (RFC 7301, section 6).
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// Why there is no CA, or no certificate of it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The key could not be derived.
    #[error("the key of the sandbox's CA cannot be derived")]
    Key,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A certificate could not be made.
    #[error("a certificate of the sandbox's CA cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// A certificate was made that TLS does not take.
    #[error("a certificate of the sandbox's CA cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// Whom a leaf is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A name.
    Host(HostName),
    /// An address, where a client names none.
    Address(Ipv4Addr),
}

/// The CA and the leaves that were minted.
pub(crate) struct SandboxCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// One key for all leaves: it never leaves this process.
    leaf_key: KeyPair,
    /// The oldest first.
    leaves: Mutex<Vec<Leaf>>,
}

struct Leaf {
    subject: Subject,
    minted: SystemTime,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for SandboxCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxCa").finish_non_exhaustive()
    }
}

impl SandboxCa {
    /// The CA of that sandbox on a node of that seed.
    pub(crate) fn derive(seed: &[u8; 32], sandbox: &SandboxId) -> Result<Self, CaError> {
        let key = derived_key(seed, sandbox)?;
        let params = ca_params(seed, sandbox)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            leaf_key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            leaves: Mutex::default(),
        })
    }

    /// The CA's certificate, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// How to answer a client that asks for `subject`: with a leaf of this CA, and HTTP/2 or
    /// HTTP/1.1 inside.
    pub(crate) fn server(&self, subject: &Subject) -> Result<Arc<ServerConfig>, CaError> {
        let now = SystemTime::now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        // A leaf from the future was minted before the host's clock was set back.
        let fresh =
            |leaf: &Leaf| now.duration_since(leaf.minted).is_ok_and(|age| age < LEAF_RENEWED);
        leaves.retain(fresh);
        if let Some(leaf) = leaves.iter().find(|leaf| leaf.subject == *subject) {
            return Ok(Arc::clone(&leaf.config));
        }
        if leaves.len() >= LEAVES_MAX {
            leaves.remove(0);
        }
        let config = Arc::new(self.mint(subject, now)?);
        let subject = subject.clone();
        leaves.push(Leaf { subject, minted: now, config: Arc::clone(&config) });
        Ok(config)
    }

    fn mint(&self, subject: &Subject, now: SystemTime) -> Result<ServerConfig, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let san = match subject {
            Subject::Host(host) => SanType::DnsName(host.as_str().try_into()?),
            Subject::Address(address) => SanType::IpAddress((*address).into()),
        };
        params.subject_alt_names = vec![san];
        // Left alone it would be made of the key, which all leaves share; clients refuse two
        // certificates of one issuer with one number.
        params.serial_number = Some(random_serial()?);
        let epoch = date_time_ymd(1970, 1, 1);
        let begins = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(LEAF_BEFORE);
        params.not_before = epoch + begins;
        params.not_after = epoch + begins + LEAF_VALID;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        server_config(chain, &self.leaf_key)
    }
}

/// HKDF-SHA256 of the seed for this sandbox and purpose (RFC 5869).
fn derive<const LEN: usize>(
    seed: &[u8; 32],
    info: &[&[u8]],
) -> Result<Zeroizing<[u8; LEN]>, CaError> {
    struct Len(usize);

    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }

    let mut out = Zeroizing::new([0; LEN]);
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(seed);
    let expanded = key.expand(info, Len(LEN)).and_then(|okm| okm.fill(out.as_mut_slice()));
    expanded.ok().ok_or(CaError::Key)?;
    Ok(out)
}

fn derived_key(seed: &[u8; 32], sandbox: &SandboxId) -> Result<KeyPair, CaError> {
    let try_number = |number: u8| {
        let scalar =
            derive::<SCALAR>(seed, &[b"key", &[number], sandbox.as_str().as_bytes()]).ok()?;
        p256::SecretKey::from_slice(scalar.as_slice()).ok()
    };
    let secret = (0..TRIES_MAX).find_map(try_number).ok_or(CaError::Key)?;
    let der = secret.to_pkcs8_der().ok().ok_or(CaError::Key)?;
    let der = PrivatePkcs8KeyDer::from(der.as_bytes());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?)
}

/// Makes a serial number of bytes: positive, without a leading zero byte (RFC 5280, section
/// 4.1.2.2).
fn serial_of(bytes: &mut [u8; SERIAL]) -> SerialNumber {
    let [first, ..] = bytes;
    *first = *first & 0x3f | 0x40;
    SerialNumber::from_slice(bytes)
}

fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; SERIAL];
    SystemRandom::new().fill(&mut bytes).ok().ok_or(CaError::Random)?;
    Ok(serial_of(&mut bytes))
}

fn ca_params(seed: &[u8; 32], sandbox: &SandboxId) -> Result<CertificateParams, CaError> {
    let mut serial = derive::<SERIAL>(seed, &[b"serial", sandbox.as_str().as_bytes()])?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial_of(&mut serial));
    // Fixed, so that a later derivation says the same; the CA is of no use without the node, so an
    // earlier end would protect nobody.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::OrganizationName, "CodeCourier");
    name.push(DnType::CommonName, format!("CodeCourier sandbox {sandbox}"));
    params.distinguished_name = name;
    Ok(params)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Result<ServerConfig, CaError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    // A resumed session saves this side one signature; kept sessions would cost memory per guest.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests;
