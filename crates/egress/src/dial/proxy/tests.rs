use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::dial::DialError;
use crate::dial::tests::{dialer, echo_server, is_served};
use crate::dns::testing::{TestServer, at};

/// A CA, and the certificates that it signs.
pub(crate) fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(ca: &CertifiedIssuer<'static, KeyPair>, name: &str) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// What a SOCKS5 server does with what it is asked.
#[derive(Clone, Default)]
struct Socks {
    login: Option<(&'static str, &'static str)>,
    tls: Option<TlsAcceptor>,
    /// Answers with this instead of connecting.
    failure: Option<u8>,
}

impl Socks {
    /// Starts it; connects to whatever it is asked for on loopback, whatever the address.
    async fn start(self, upstream: SocketAddrV4) -> SocketAddrV4 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let std::net::SocketAddr::V4(at) = listener.local_addr().unwrap() else { panic!("IPv4") };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let socks = self.clone();
                tokio::spawn(async move {
                    match &socks.tls {
                        None => socks.serve(stream, upstream).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => socks.serve(stream, upstream).await,
                            Err(_refused_by_the_client) => {}
                        },
                    }
                });
            }
        });
        at
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, to: SocketAddrV4) {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        let mut methods = vec![0; usize::from(head[1])];
        stream.read_exact(&mut methods).await.unwrap();
        let method = if self.login.is_some() { 2 } else { 0 };
        let usable = methods.contains(&method);
        stream.write_all(&[5, if usable { method } else { 0xff }]).await.unwrap();
        if !usable {
            return;
        }
        if !self.lets_in(&mut stream).await {
            return;
        }
        let mut request = [0; 10];
        stream.read_exact(&mut request).await.unwrap();
        assert_connects_to_target(request);
        let code = self.failure.unwrap_or(0);
        stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        if code == 0 {
            let mut upstream = TcpStream::connect(std::net::SocketAddr::V4(to)).await.unwrap();
            drop(copy_bidirectional(&mut stream, &mut upstream).await);
        }
    }

    /// The exchange of RFC 1929, where a login is wanted.
    async fn lets_in(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
        let Some((user, password)) = self.login else { return true };
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        let mut given = Vec::new();
        for _ in 0..2 {
            let len = stream.read_u8().await.unwrap();
            let mut text = vec![0; usize::from(len)];
            stream.read_exact(&mut text).await.unwrap();
            given.push(String::from_utf8(text).unwrap());
        }
        let right = given == [user, password];
        stream.write_all(&[1, u8::from(!right)]).await.unwrap();
        right
    }
}

/// `CONNECT`, to an IPv4 address and not a name: exactly the one that was asked for.
#[track_caller]
fn assert_connects_to_target(request: [u8; 10]) {
    assert_eq!(request[..4], [5, 1, 0, 1]);
    assert_eq!(request[4..8], TARGET.ip().octets());
    assert_eq!(request[8..], TARGET.port().to_be_bytes());
}

/// What is dialled through the proxy: no address that anything could reach otherwise.
const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 443);

fn settings(at: SocketAddrV4) -> UpstreamProxy {
    UpstreamProxy { address: at.to_string(), username: None, password: None, tls: None }
}

fn with_login(at: SocketAddrV4, user: &str, password: &str) -> UpstreamProxy {
    let (username, password) = (Some(user.to_owned()), Some(password.to_owned()));
    UpstreamProxy { username, password, ..settings(at) }
}

/// Dials [`TARGET`] through the proxy, with that name in the DNS for it.
async fn dial(settings: &UpstreamProxy, reach: Reach) -> Result<Box<dyn Stream>, DialError> {
    let zone = [("proxy.test", at(["127.0.0.1"]))];
    let resolver = TestServer::start(zone).await.resolver();
    let trust = UpstreamTrust::only(&[ca().pem().into_bytes()]).unwrap();
    let proxy = Proxy::new(settings, resolver, &trust).unwrap();
    dialer(reach).with_proxy(Some(proxy)).dial(TARGET, None).await
}

#[tokio::test]
async fn everything_goes_through_the_proxy_to_the_address_that_was_decided() {
    let proxy = Socks::default().start(echo_server().await).await;
    is_served(&mut dial(&settings(proxy), Reach::for_tests()).await.unwrap()).await;
    let by_name =
        UpstreamProxy { address: format!("proxy.test:{}", proxy.port()), ..settings(proxy) };
    is_served(&mut dial(&by_name, Reach::for_tests()).await.unwrap()).await;
}

#[tokio::test]
async fn the_proxy_is_given_its_user_and_password() {
    let socks = Socks { login: Some(("me", "right")), ..Socks::default() };
    let proxy = socks.start(echo_server().await).await;
    is_served(&mut dial(&with_login(proxy, "me", "right"), Reach::for_tests()).await.unwrap())
        .await;
    for settings in [with_login(proxy, "me", "wrong"), settings(proxy)] {
        let failed = dial(&settings, Reach::for_tests()).await.err().unwrap();
        assert!(matches!(failed, DialError::Proxy(TunnellingError::Socks(_))), "{failed:?}");
        assert!(!failed.text().contains("wrong"), "{}", failed.text());
    }
}

#[tokio::test]
async fn tls_to_the_proxy_wants_the_right_ca_and_name() {
    let authority = ca();
    let socks = Socks { tls: Some(acceptor(&authority, "proxy.test")), ..Socks::default() };
    let proxy = socks.start(echo_server().await).await;
    let tls = |ca_cert: Option<String>, server_name: Option<&str>| UpstreamProxy {
        tls: Some(courier_types::egress::ProxyTls {
            server_name: server_name.map(ToOwned::to_owned),
            ca_cert,
        }),
        ..settings(proxy)
    };
    let right = tls(Some(authority.pem()), Some("proxy.test"));
    is_served(&mut dial(&right, Reach::for_tests()).await.unwrap()).await;
    for wrong in [
        tls(Some(ca().pem()), Some("proxy.test")),
        tls(Some(authority.pem()), Some("other.test")),
        tls(Some(authority.pem()), None),
        tls(None, Some("proxy.test")),
    ] {
        let failed = dial(&wrong, Reach::for_tests()).await.err().unwrap();
        assert!(matches!(failed, DialError::Proxy(TunnellingError::Tls(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_dead_means_no_connection() {
    let socks = Socks { failure: Some(2), ..Socks::default() };
    let proxy = socks.start(echo_server().await).await;
    let failed = dial(&settings(proxy), Reach::for_tests()).await.err().unwrap();
    assert_eq!(failed.text(), "the proxy does not connect: Connection not allowed by ruleset");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let dead = SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
    drop(listener);
    let failed = dial(&settings(dead), Reach::for_tests()).await.err().unwrap();
    assert!(matches!(failed, DialError::Proxy(TunnellingError::Connect(_))), "{failed:?}");
}

#[tokio::test]
async fn the_proxy_itself_is_subject_to_the_reach_guard() {
    let proxy = Socks::default().start(echo_server().await).await;
    for address in ["127.0.0.1", "proxy.test"] {
        let address = format!("{address}:{}", proxy.port());
        let settings = UpstreamProxy { address, ..settings(proxy) };
        let failed = dial(&settings, Reach::default()).await.err().unwrap();
        assert!(matches!(failed, DialError::Proxy(TunnellingError::Reach(_))), "{failed:?}");
        assert_eq!(
            failed.text(),
            "the proxy is out of reach: 127.0.0.1 is loopback: never reachable"
        );
    }
}

#[tokio::test]
async fn what_is_out_of_reach_is_so_through_a_proxy_too() {
    let proxy = Socks::default().start(echo_server().await).await;
    let resolver = TestServer::start([]).await.resolver();
    let trust = UpstreamTrust::only(&[ca().pem().into_bytes()]).unwrap();
    let proxy = Proxy::new(&settings(proxy), resolver, &trust).unwrap();
    let dialer = dialer(Reach::for_tests()).with_proxy(Some(proxy));
    for address in ["10.0.0.1", "169.254.169.254", "100.100.100.200"] {
        let to = SocketAddrV4::new(address.parse().unwrap(), 80);
        let failed = dialer.dial(to, None).await.err().unwrap();
        assert!(matches!(failed, DialError::Reach(_)), "{failed:?}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_errors_and_say_no_password() {
    let resolver = TestServer::start([]).await.resolver();
    let trust = UpstreamTrust::only(&[ca().pem().into_bytes()]).unwrap();
    let new = |settings: &UpstreamProxy| Proxy::new(settings, resolver.clone(), &trust);
    for address in ["", "proxy.test", "proxy.test:", "proxy.test:0", "proxy.test:+80", ":80"] {
        let settings = UpstreamProxy { address: address.to_owned(), ..settings(TARGET) };
        assert!(matches!(new(&settings), Err(ProxyError::Address)), "{address}");
    }
    for address in ["[::1]:80", "socks5://proxy.test:80", "a@proxy.test:80", "0x7f.1:80"] {
        let settings = UpstreamProxy { address: address.to_owned(), ..settings(TARGET) };
        assert!(matches!(new(&settings), Err(ProxyError::Address)), "{address}");
    }
    for (user, password) in [("", "p"), ("u", ""), ("u", &*"p".repeat(256))] {
        let refused = new(&with_login(TARGET, user, password));
        assert!(matches!(refused, Err(ProxyError::Credentials)), "{user:?}");
    }
    let half = UpstreamProxy { password: None, ..with_login(TARGET, "u", "p") };
    assert!(matches!(new(&half), Err(ProxyError::Credentials)));
    let tls = courier_types::egress::ProxyTls { server_name: None, ca_cert: Some("x".to_owned()) };
    let no_ca = UpstreamProxy { tls: Some(tls), ..settings(TARGET) };
    assert!(matches!(new(&no_ca), Err(ProxyError::Certificate(_))));
    let text = format!("{:?}", new(&with_login(TARGET, "user-name", "pass-word")).unwrap());
    assert!(!text.contains("user-name") && !text.contains("pass-word"), "{text}");
}
