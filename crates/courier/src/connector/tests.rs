//! A connector against the node's side of it, over HTTP as the server speaks it.

use std::convert::Infallible;

use courier_egress::TunnelError;
use courier_node::{TunnelRegistry, system_clock};
use courier_protocol::node::{TunnelHub as _, TunnelKind, TunnelNames as _};
use courier_protocol::v1::CONNECTOR_PROTOCOL;
use courier_types::{ProjectId, SandboxId};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn project() -> ProjectId {
    ProjectId::from_random([1; 20])
}

/// What stands for the server: it takes every connector, of one project.
struct Fake {
    registry: TunnelRegistry,
    url: String,
    /// Cancelled, it drops the connections that there are.
    cut: std::sync::Mutex<CancellationToken>,
}

impl Fake {
    async fn start() -> (Arc<Self>, AbortOnDropHandle<()>) {
        Self::start_with(None).await
    }

    async fn start_with(
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> (Arc<Self>, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = match &tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let registry = TunnelRegistry::new(Vec::new(), system_clock()).unwrap();
        let fake = Arc::new(Self { registry, url, cut: std::sync::Mutex::default() });
        let serving = Arc::clone(&fake);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _peer) = listener.accept().await.unwrap();
                let fake = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let fake = Arc::clone(&fake);
                    async move { Ok::<_, Infallible>(fake.answer(request)) }
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let stream: Box<dyn courier_egress::TunnelStream> = match tls {
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_client_does_not_trust_us) => return,
                        },
                        None => Box::new(stream),
                    };
                    let _ended = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        (fake, AbortOnDropHandle::new(task))
    }

    fn answer(&self, mut request: Request<Incoming>) -> Response<String> {
        let refuse = |status, message: &str| {
            let body = serde_json::json!({"message": message}).to_string();
            Response::builder().status(status).body(body).unwrap()
        };
        if request.headers().get("x-api-key").is_none_or(|key| key != "right") {
            return refuse(StatusCode::UNAUTHORIZED, "wrong key");
        }
        let (path, query) = (request.uri().path(), request.uri().query().unwrap());
        let name = path.strip_prefix("/v1/tunnels/").unwrap().strip_suffix("/connector").unwrap();
        let port = query.strip_prefix("port=").unwrap().parse().unwrap();
        let slot = match self.registry.reserve(&project(), &name.parse().unwrap(), port) {
            Ok(slot) => slot,
            Err(error) => return refuse(StatusCode::CONFLICT, &error.to_string()),
        };
        let cut = self.cut.lock().unwrap().clone();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(cut.run_until_cancelled_owned(async move {
            let stream = TokioIo::new(upgrade.await.unwrap()).compat();
            let _ended = slot.serve(Box::new(stream)).await;
        }));
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, CONNECTOR_PROTOCOL)
            .body(String::new())
            .unwrap()
    }

    /// Loses every connection.
    fn lose(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    async fn open(&self, name: &str) -> Result<Box<dyn courier_egress::TunnelStream>, TunnelError> {
        let sandbox = SandboxId::from_random([7; 20]);
        self.registry.of(Some(&project())).open(&sandbox, &name.parse().unwrap()).await
    }

    /// Waits until the connector of a name is there, or is not.
    #[track_caller]
    fn wait_for(&self, name: &str, wanted: bool) -> impl Future<Output = ()> {
        let is = move || {
            let offered = self.registry.offered(&project());
            offered.iter().any(|tunnel| {
                let connected =
                    matches!(tunnel.kind, TunnelKind::Connector { connected: true, .. });
                tunnel.name.as_str() == name && connected
            })
        };
        async move {
            let waited = async {
                while is() != wanted {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let waited = tokio::time::timeout(PATIENCE, waited).await;
            assert!(waited.is_ok(), "{name} connected: {}, not {wanted}", is());
        }
    }
}

fn connector(fake: &Fake, to: &str, key: &str) -> Arc<Connector> {
    let tunnel: TunnelSpec = format!("mine={to}").parse().unwrap();
    Arc::new(Connector {
        server: Server::new(&fake.url, key, &[]).unwrap(),
        service: Arc::new(Service::new(tunnel.target().clone())),
        tunnel,
        stop: CancellationToken::new(),
    })
}

fn run_it(connector: &Arc<Connector>) -> AbortOnDropHandle<anyhow::Result<()>> {
    let running = Arc::clone(connector);
    AbortOnDropHandle::new(tokio::spawn(async move { running.keep_connected().await }))
}

/// A service that says what it heard, in capitals, once it has heard all.
async fn shouting() -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _peer) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                if stream.read_to_end(&mut heard).await.is_ok() {
                    heard.make_ascii_uppercase();
                    let _gone = stream.write_all(&heard).await;
                }
            });
        }
    });
    (address, AbortOnDropHandle::new(task))
}

async fn shout(fake: &Fake, text: &[u8]) -> Vec<u8> {
    let mut stream = fake.open("mine").await.unwrap();
    stream.write_all(text).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_so_does_the_end_of_each() {
    let ((fake, _serving), (address, _service)) = (Fake::start().await, shouting().await);
    let connector = connector(&fake, &address, "right");
    let running = run_it(&connector);
    fake.wait_for("mine", true).await;
    assert_eq!(shout(&fake, b"hello").await, b"HELLO");
    // Far more than every window, both ways.
    let large = vec![b'a'; 1_024 * 1_024];
    assert_eq!(shout(&fake, &large).await, large.to_ascii_uppercase());

    connector.stop.cancel();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    fake.wait_for("mine", false).await;
    let error = fake.open("mine").await.err().unwrap();
    assert!(matches!(error, TunnelError::Disconnected { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_was_lost_comes_back_and_what_went_through_it_has_ended() {
    let ((fake, _serving), (address, _service)) = (Fake::start().await, shouting().await);
    let connector = connector(&fake, &address, "right");
    let _running = run_it(&connector);
    fake.wait_for("mine", true).await;
    let mut open = fake.open("mine").await.unwrap();
    fake.lose();
    let ended = tokio::time::timeout(PATIENCE, open.read(&mut [0])).await.unwrap();
    assert!(ended.is_err(), "it does not look like an end: {ended:?}");
    fake.wait_for("mine", false).await;
    fake.wait_for("mine", true).await;
    assert_eq!(shout(&fake, b"again").await, b"AGAIN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_told_from_a_connector_that_is_away() {
    let (fake, _serving) = Fake::start().await;
    // Nothing listens on port 1 of the loopback interface.
    let connector = connector(&fake, "127.0.0.1:1", "right");
    let _running = run_it(&connector);
    fake.wait_for("mine", true).await;
    match fake.open("mine").await.err().unwrap() {
        TunnelError::Service { source, .. } => {
            assert!(source.to_string().contains("502"), "{source}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_wrong_ends_the_connector_with_the_servers_words() {
    let (fake, _serving) = Fake::start().await;
    let connector = connector(&fake, "127.0.0.1:1", "wrong");
    let ended = tokio::time::timeout(PATIENCE, connector.keep_connected()).await.unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("wrong key"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_key_goes_to_a_server_with_a_trusted_certificate_only() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), own.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let (fake, _serving) = Fake::start_with(Some(Arc::new(tls).into())).await;
    let name = "mine".parse().unwrap();
    let strict = Server::new(&fake.url, "right", &[]);
    // A machine may trust no CA at all; then there is no server to begin with.
    if let Ok(strict) = strict {
        let error = strict.connect(&name, 1).await.err().unwrap();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
        assert_eq!(fake.registry.offered(&project()), []);
    }
    let trusting = Server::new(&fake.url, "right", &[ca.path().to_owned()]).unwrap();
    let _connection = trusting.connect(&name, 1).await.unwrap();
    fake.wait_for("mine", true).await;
}

#[test]
fn a_name_that_is_taken_is_asked_for_again_for_a_while_and_after_a_loss_for_ever() {
    let (url, message) = (String::new(), String::new());
    let taken = ConnectError::Refused { url, status: StatusCode::CONFLICT, message };
    assert!(!is_final(&taken, false, Duration::ZERO));
    assert!(is_final(&taken, false, TAKEN_PATIENCE));
    assert!(!is_final(&taken, true, 10 * TAKEN_PATIENCE));
}

#[test]
fn a_pause_is_never_longer_than_it_says_and_never_less_than_half() {
    for _ in 0..100 {
        let pause = jittered(PAUSE_MAX).unwrap();
        assert!(pause <= PAUSE_MAX && pause >= PAUSE_MAX / 2, "{pause:?}");
    }
}
