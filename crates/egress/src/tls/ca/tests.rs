use std::io;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::*;

const SEED: [u8; 32] = [3; 32];

fn sandbox(byte: u8) -> SandboxId {
    SandboxId::from_random([byte; 20])
}

fn subject(name: &str) -> Subject {
    Subject::Host(name.parse().unwrap())
}

/// The serial number of the leaf that a handshake gave: the first INTEGER of its body after the
/// version (RFC 5280, section 4.1).
fn serial(leaf: &CertificateDer<'_>) -> Vec<u8> {
    let version = [0xa0, 3, 2, 1, 2, 2, u8::try_from(SERIAL).unwrap()];
    let at = leaf.windows(version.len()).position(|window| window == version).unwrap();
    leaf[at + version.len()..][..SERIAL].to_vec()
}

/// Shakes hands with a client that trusts `pem` and wants `name`.
fn shake(ca: &SandboxCa, subject: &Subject, pem: &str, name: &str) -> Result<Vec<u8>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(ca.server(subject).unwrap()).unwrap();
    shake_to_the_end(&mut client, &mut server)?;
    Ok(client.alpn_protocol().unwrap().to_vec())
}

/// The leaf that a client which trusts the CA is shown.
fn leaf(ca: &SandboxCa, name: &str) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let asked = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), asked).unwrap();
    let mut server = ServerConnection::new(ca.server(&subject(name)).unwrap()).unwrap();
    shake_to_the_end(&mut client, &mut server).unwrap();
    client.peer_certificates().unwrap()[0].clone()
}

fn shake_to_the_end(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), String> {
    while client.is_handshaking() || server.is_handshaking() {
        pass(|to| client.write_tls(to), |from| server.read_tls(from));
        server.process_new_packets().map_err(|error| error.to_string())?;
        pass(|to| server.write_tls(to), |from| client.read_tls(from));
        client.process_new_packets().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn pass(
    mut write: impl FnMut(&mut dyn io::Write) -> io::Result<usize>,
    mut read: impl FnMut(&mut dyn io::Read) -> io::Result<usize>,
) {
    let mut bytes = Vec::new();
    while write(&mut bytes).unwrap() > 0 {}
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        read(&mut rest).unwrap();
    }
}

#[test]
fn a_client_that_trusts_the_ca_takes_its_leaves() {
    let ca = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    let name = "api.allowed.test";
    assert_eq!(shake(&ca, &subject(name), ca.pem(), name), Ok(HTTP_1_1.to_vec()));
    let address = Subject::Address(Ipv4Addr::new(192, 0, 2, 9));
    assert_eq!(shake(&ca, &address, ca.pem(), "192.0.2.9"), Ok(HTTP_1_1.to_vec()));
}

#[test]
fn a_leaf_is_good_for_its_own_name_only() {
    let ca = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    assert!(shake(&ca, &subject("allowed.test"), ca.pem(), "other.test").is_err());
}

#[test]
fn no_two_leaves_have_the_same_number() {
    let ca = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    let serials = ["a.test", "b.test"].map(|name| serial(&leaf(&ca, name)));
    assert_ne!(serials[0], serials[1]);
}

#[test]
fn a_restarted_node_has_the_ca_that_the_guest_already_trusts() {
    let before = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    let after = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    let name = "allowed.test";
    assert!(shake(&after, &subject(name), before.pem(), name).is_ok());
}

#[test]
fn another_sandbox_or_another_node_has_another_ca() {
    let ours = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    for other in [(SEED, sandbox(2)), ([4; 32], sandbox(1))] {
        let other = SandboxCa::derive(&other.0, &other.1).unwrap();
        let name = "allowed.test";
        assert!(shake(&other, &subject(name), ours.pem(), name).is_err());
    }
}

#[test]
fn a_leaf_is_minted_once_and_only_so_many_are_kept() {
    let ca = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    let first = ca.server(&subject("first.test")).unwrap();
    assert!(Arc::ptr_eq(&first, &ca.server(&subject("first.test")).unwrap()));
    for number in 0..LEAVES_MAX {
        ca.server(&subject(&format!("n{number}.test"))).unwrap();
    }
    assert_eq!(ca.leaves.lock().unwrap().len(), LEAVES_MAX);
    assert!(!Arc::ptr_eq(&first, &ca.server(&subject("first.test")).unwrap()));
}

#[test]
fn the_ca_does_not_print_its_key() {
    let ca = SandboxCa::derive(&SEED, &sandbox(1)).unwrap();
    assert_eq!(format!("{ca:?}"), "SandboxCa { .. }");
}
