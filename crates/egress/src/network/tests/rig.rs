//! A network between a guest and an outside, with names, secrets and tunnels.

use std::net::SocketAddrV4;
use std::sync::Arc;

use async_trait::async_trait;
use courier_types::SandboxId;
use courier_types::egress::{
    Flow, FlowEvent, Layer, LayerSource, Layers, NetworkSpec, SecretName, SecretValue, TunnelName,
    UpstreamProxy,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::guest::{Guest, PATIENCE, Stream};
use super::outside::{Outside, Service};
use crate::dial::Reach;
use crate::dns::testing::{Entry, TestServer, at};
use crate::flow::FlowLog;
use crate::network::{HostSide, Network, Setup};
use crate::source::{CredentialSource, SourceError};
use crate::tls::UpstreamTrust;
use crate::tls::ca::{SandboxCa, Subject};
use crate::tunnel::{TunnelError, TunnelStream, Tunnels};

/// The value that must never be seen inside.
pub(super) const SECRET: &str = "sk-canary-0123456789";

/// The address of `good.test`, and of `twin.test`, which shares it.
pub(super) const GOOD: &str = "203.0.113.1";
/// The address of `other.test`.
pub(super) const OTHER: &str = "203.0.113.2";
/// The address of `fake.test`, whose certificate nobody trusts.
pub(super) const FAKE: &str = "203.0.113.3";

/// The CA of the outside, that everybody trusts.
pub(super) fn public_ca() -> SandboxCa {
    SandboxCa::derive(&[1; 32], &SandboxId::from_random([1; 20])).unwrap()
}

/// A server of that name, with a certificate of a CA of that number; 1 is the trusted one.
pub(super) fn server(name: &str, ca: u8) -> Arc<ServerConfig> {
    let ca = SandboxCa::derive(&[ca; 32], &SandboxId::from_random([1; 20])).unwrap();
    let config = ca.server(&Subject::Host(name.parse().unwrap())).unwrap();
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols.clear();
    Arc::new(config)
}

#[derive(Debug)]
struct Source;

#[async_trait]
impl CredentialSource for Source {
    async fn secret(&self, _: &SandboxId, name: &SecretName) -> Result<SecretValue, SourceError> {
        match name.as_str() {
            "key" => Ok(SecretValue::new(SECRET.into())),
            _ => Err(SourceError::NoSecret { name: name.clone() }),
        }
    }

    async fn token(
        &self,
        _: &SandboxId,
        _: &str,
    ) -> Result<(SecretName, SecretValue), SourceError> {
        Err(SourceError::NoToken)
    }
}

/// `db` on port 5432 says what it gets; `gone` has nobody behind it; `broken` is a bug.
#[derive(Debug)]
struct TestTunnels;

#[async_trait]
impl Tunnels for TestTunnels {
    fn port(&self, _: &SandboxId, name: &TunnelName) -> Option<u16> {
        matches!(name.as_str(), "db" | "gone" | "broken").then_some(5_432)
    }

    async fn open(
        &self,
        _: &SandboxId,
        name: &TunnelName,
    ) -> Result<Box<dyn TunnelStream>, TunnelError> {
        match name.as_str() {
            "db" => {
                let (ours, theirs) = tokio::io::duplex(1_024);
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(theirs);
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                    write.shutdown().await.unwrap();
                });
                Ok(Box::new(ours))
            }
            "gone" => Err(TunnelError::Disconnected { name: name.clone() }),
            _ => panic!("a bug, on purpose"),
        }
    }
}

/// A network that runs.
pub(super) struct Rig {
    pub(super) network: Network,
    pub(super) guest: Guest,
    pub(super) outside: Outside,
    pub(super) names: TestServer,
}

/// What that policy makes of a sandbox whose way outside is that one.
pub(super) fn spec(policy: &str, outside: &Outside) -> NetworkSpec {
    let policy = serde_json::from_str(policy).unwrap();
    NetworkSpec {
        egress: Layers(vec![Layer { source: LayerSource::Sandbox, policy }]),
        upstream_proxy: Some(UpstreamProxy {
            address: outside.proxy.clone(),
            username: None,
            password: None,
            tls: None,
        }),
        ..NetworkSpec::default()
    }
}

/// The names of the outside.
pub(super) async fn names() -> TestServer {
    TestServer::start([
        ("good.test", at([GOOD])),
        ("twin.test", at([GOOD])),
        ("other.test", at([OTHER])),
        ("fake.test", at([FAKE])),
        ("inner.test", at(["10.0.0.1"])),
        ("broken.test", Entry::Failure),
    ])
    .await
}

/// The services of the outside.
pub(super) async fn outside() -> Outside {
    Outside::start([
        ("203.0.113.1:443", Service::TlsEcho(server("good.test", 1))),
        ("203.0.113.1:8443", Service::Https(server("good.test", 1))),
        ("203.0.113.1:80", Service::Http),
        ("203.0.113.1:22", Service::Greeter("SSH-2.0-outside\r\n")),
        ("203.0.113.1:7", Service::Echo),
        ("203.0.113.2:443", Service::TlsEcho(server("other.test", 1))),
        ("203.0.113.3:8443", Service::Https(server("fake.test", 2))),
    ])
    .await
}

/// What a network of that spec is made of.
pub(super) fn setup(spec: NetworkSpec, names: &TestServer) -> Setup {
    let trust = UpstreamTrust::only(&[public_ca().pem().as_bytes().to_vec()]).unwrap();
    let host = HostSide::new(names.resolver(), Reach::for_tests(), trust, [5; 32]);
    Setup {
        sandbox: SandboxId::from_random([9; 20]),
        spec,
        source: Arc::new(Source),
        tunnels: Arc::new(TestTunnels),
        host: Arc::new(host),
        flows: FlowLog::default(),
    }
}

/// Both ends of a link: the host's, the guest's.
pub(super) fn link() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

impl Rig {
    /// Runs a network under that policy.
    pub(super) async fn start(policy: &str) -> Self {
        let (names, outside) = (names().await, outside().await);
        let (host, guest) = link();
        let network = Network::start(host, setup(spec(policy, &outside), &names)).unwrap();
        Self { network, guest: Guest::new(guest), outside, names }
    }

    /// Replaces the policy.
    pub(super) fn set(&self, policy: &str) {
        self.network.set(&spec(policy, &self.outside)).unwrap();
    }

    /// A TLS connection of the guest to the address of `name`, that asks for `asked` and trusts the
    /// CAs of `pem`.
    pub(super) async fn tls(
        &self,
        name: &str,
        port: u16,
        asked: &str,
        pem: &str,
    ) -> std::io::Result<TlsStream<Stream>> {
        let stream = self.guest.connect_to(name, port).await.expect("accepted");
        handshake(stream, asked, pem).await
    }

    /// Waits for a record of which that is true.
    pub(super) async fn flow(&self, what: &str, is_it: impl Fn(&FlowEvent) -> bool) -> FlowEvent {
        let mut reader = self.network.flows().follow(0);
        let mut seen: Vec<Flow> = Vec::new();
        let looking = async {
            loop {
                let page = reader.next(100).await;
                let found = page.flows.iter().find(|flow| is_it(&flow.event)).cloned();
                seen.extend(page.flows);
                if let Some(found) = found {
                    return found.event;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("no record: {what}; there are {seen:#?}"))
    }

    /// Waits for a refusal by that fence.
    pub(super) async fn refusal(&self, by: &str) -> FlowEvent {
        self.flow(
            by,
            |event| matches!(event, FlowEvent::Refused { refusal, .. } if refusal.fence == by),
        )
        .await
    }
}

/// Shakes hands as a client that trusts the CAs of `pem`.
async fn handshake(stream: Stream, asked: &str, pem: &str) -> std::io::Result<TlsStream<Stream>> {
    handshake_for(stream, asked, pem, &[]).await
}

/// The same, for one of those protocols inside.
pub(super) async fn handshake_for(
    stream: Stream,
    asked: &str,
    pem: &str,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<Stream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(asked.to_owned()).unwrap();
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    tokio::time::timeout(PATIENCE, shaking).await.expect("an end of the handshake")
}

/// Sends some bytes and reads as many.
pub(super) async fn exchange<S>(stream: &mut S, bytes: &[u8]) -> std::io::Result<Vec<u8>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let exchanging = async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).await?;
        Ok(back)
    };
    tokio::time::timeout(PATIENCE, exchanging).await.expect("an answer")
}

/// Reads until the end, or until the connection breaks.
pub(super) async fn read_to_end<S>(stream: &mut S) -> std::io::Result<String>
where
    S: tokio::io::AsyncRead + Unpin,
{
    let mut text = String::new();
    let reading = stream.read_to_string(&mut text);
    tokio::time::timeout(PATIENCE, reading).await.expect("an end").map(|_| text)
}

/// An address.
pub(super) fn to(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}
