use courier_types::SandboxId;

use super::*;
use crate::tls::ca::SandboxCa;

fn pem() -> Vec<u8> {
    let ca = SandboxCa::derive(&[1; 32], &SandboxId::from_random([1; 20])).unwrap();
    ca.pem().as_bytes().to_vec()
}

#[test]
fn given_certificates_are_trusted() {
    let both = [pem(), [pem(), pem()].concat()];
    assert_eq!(UpstreamTrust::only(&both[..1]).unwrap().roots, 1);
    assert_eq!(UpstreamTrust::only(&both).unwrap().roots, 3);
}

#[test]
fn a_given_file_without_a_certificate_is_an_error() {
    for (number, extra) in [(1, vec![Vec::new()]), (2, vec![pem(), b"nothing".to_vec()])] {
        let error = UpstreamTrust::only(&extra).unwrap_err();
        assert!(matches!(error, TrustError::Pem { number: n } if n == number), "{error}");
    }
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    let error = UpstreamTrust::only(&[broken]).unwrap_err();
    assert!(matches!(error, TrustError::Certificate { number: 1, .. }), "{error}");
    assert!(matches!(UpstreamTrust::only(&[]), Err(TrustError::Empty)));
}
