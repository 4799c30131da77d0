use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use courier_protocol::node::{ConnectorError, TunnelKind};
use courier_types::Timestamp;
use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::*;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn project(number: u8) -> ProjectId {
    ProjectId::from_random([number; 20])
}

fn name(text: &str) -> TunnelName {
    text.parse().unwrap()
}

fn sandbox() -> SandboxId {
    SandboxId::from_random([7; 20])
}

fn registry(specs: &[&str]) -> TunnelRegistry {
    let specs = specs.iter().map(|spec| spec.parse().unwrap()).collect();
    TunnelRegistry::new(specs, system_clock()).unwrap()
}

type Served = JoinHandle<Result<(), ConnectorError>>;

/// Takes a name for a connector; returns the connector's end of its connection.
fn attach(registry: &TunnelRegistry, of: u8, text: &str) -> (DuplexStream, Served) {
    let slot = registry.reserve(&project(of), &name(text), 5_432).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1_024);
    (far, tokio::spawn(slot.serve(Box::new(near.compat()))))
}

/// Waits until the connector is, or is not, connected.
async fn wait_for(registry: &TunnelRegistry, of: u8, wanted: bool) {
    let connected = || {
        let offered = registry.offered(&project(of));
        let is = |tunnel: &OfferedTunnel| {
            matches!(tunnel.kind, TunnelKind::Connector { connected: true, .. })
        };
        offered.iter().any(is)
    };
    let waited = async {
        while connected() != wanted {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "connected: {}", connected());
}

/// A connector that accepts every connection and gives what comes back, or never reads it.
fn serve(stream: DuplexStream, reads: bool) -> JoinHandle<hyper::Result<()>> {
    let service = service_fn(move |mut request: Request<Incoming>| async move {
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.uri().to_string(), "mine.tunnel.internal:5432");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let stream = TokioIo::new(upgrade.await.unwrap());
            if !reads {
                std::future::pending::<()>().await;
            }
            let (mut read, mut write) = tokio::io::split(stream);
            let _gone = tokio::io::copy(&mut read, &mut write).await;
            let _gone = write.shutdown().await;
        });
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(if reads { 65_535 } else { 1 })
        .max_concurrent_streams(100_000)
        .serve_connection(TokioIo::new(stream), service);
    tokio::spawn(connection)
}

async fn echo(stream: &mut dyn TunnelStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, text);
}

#[tokio::test]
async fn the_operators_tunnels_lead_to_their_services_for_every_project() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let specs = [format!("sock=unix:{}", path.display()), format!("db=127.0.0.1:{port}")];
    let registry = registry(&specs.each_ref().map(String::as_str));
    tokio::spawn(async move {
        unix.accept().await.unwrap().0.write_all(b"unix").await.unwrap();
        tcp.accept().await.unwrap().0.write_all(b"tcp!").await.unwrap();
    });
    for (text, says, inside, project) in
        [("sock", b"unix", 80, Some(project(1))), ("db", b"tcp!", port, None)]
    {
        let tunnels = registry.of(project.as_ref());
        assert_eq!(tunnels.port(&sandbox(), &name(text)), Some(inside));
        let mut stream = tunnels.open(&sandbox(), &name(text)).await.unwrap();
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, says);
    }
    let offered = registry.offered(&project(2));
    let names: Vec<&str> = offered.iter().map(|tunnel| tunnel.name.as_str()).collect();
    assert_eq!(names, ["db", "sock"]);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_and_a_name_that_is_not_there_too() {
    let registry = registry(&["db=127.0.0.1:1"]);
    let tunnels = registry.of(Some(&project(1)));
    let error = tunnels.open(&sandbox(), &name("db")).await.err().unwrap();
    assert!(matches!(error, TunnelError::Service { .. }), "{error}");
    let error = tunnels.open(&sandbox(), &name("other")).await.err().unwrap();
    assert!(matches!(error, TunnelError::Unknown { .. }), "{error}");
}

#[test]
fn two_of_the_operators_tunnels_do_not_have_one_name() {
    let specs = ["db=a:1", "DB=b:2"].map(|spec| spec.parse().unwrap()).to_vec();
    let error = TunnelRegistry::new(specs, system_clock()).unwrap_err();
    assert_eq!(error, TwoOfOneName { name: name("db") });
}

#[tokio::test]
async fn a_connector_is_its_own_projects_and_nobody_elses() {
    let registry = registry(&[]);
    let (far, _served) = attach(&registry, 1, "mine");
    serve(far, true);
    wait_for(&registry, 1, true).await;
    let own = registry.of(Some(&project(1)));
    echo(&mut *own.open(&sandbox(), &name("mine")).await.unwrap(), b"hello").await;
    for stranger in [Some(project(2)), None] {
        let tunnels = registry.of(stranger.as_ref());
        assert_eq!(tunnels.port(&sandbox(), &name("mine")), None);
        let error = tunnels.open(&sandbox(), &name("mine")).await.err().unwrap();
        assert!(matches!(error, TunnelError::Unknown { .. }), "{error}");
    }
    assert!(registry.offered(&project(2)).is_empty());
    assert!(registry.reserve(&project(2), &name("mine"), 1).is_ok(), "theirs is another");
}

#[tokio::test]
async fn what_goes_through_a_connector_ends_with_it_and_its_name_is_free_then() {
    let registry = registry(&["db=a:1"]);
    let (far, served) = attach(&registry, 1, "mine");
    let connector = serve(far, true);
    wait_for(&registry, 1, true).await;
    let tunnels = registry.of(Some(&project(1)));
    let mut open = tunnels.open(&sandbox(), &name("mine")).await.unwrap();
    let taken = registry.reserve(&project(1), &name("mine"), 1).err().unwrap();
    assert_eq!(taken, ReserveError::Connected { name: name("mine") });
    let operators = registry.reserve(&project(1), &name("db"), 1).err().unwrap();
    assert_eq!(operators, ReserveError::Operators { name: name("db") });

    connector.abort();
    let _ended = tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    let end = tokio::time::timeout(PATIENCE, open.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_or(0), 0);
    wait_for(&registry, 1, false).await;
    assert_eq!(tunnels.port(&sandbox(), &name("mine")), Some(5_432), "it is known still");
    let error = tunnels.open(&sandbox(), &name("mine")).await.err().unwrap();
    assert!(matches!(error, TunnelError::Disconnected { .. }), "{error}");
    assert!(registry.reserve(&project(1), &name("mine"), 1).is_ok());
}

#[tokio::test]
async fn what_goes_through_a_connector_ends_when_the_server_drops_it() {
    let registry = registry(&[]);
    let (far, served) = attach(&registry, 1, "mine");
    serve(far, true);
    wait_for(&registry, 1, true).await;
    let mut open = registry.of(Some(&project(1))).open(&sandbox(), &name("mine")).await.unwrap();
    served.abort();
    let end = tokio::time::timeout(PATIENCE, open.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_or(0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_says_nothing_is_given_up_and_keeps_nobody_waiting() {
    let registry = registry(&[]);
    let (_far, served) = attach(&registry, 1, "mine");
    wait_for(&registry, 1, true).await;
    let begun = tokio::time::Instant::now();
    let opened = registry.of(Some(&project(1))).open(&sandbox(), &name("mine")).await;
    let error = opened.err().unwrap();
    assert!(matches!(error, TunnelError::Service { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let ended = tokio::time::timeout(Duration::from_secs(60), served).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ConnectorError::Connection(_))), "{ended:?}");
    wait_for(&registry, 1, false).await;
}

#[tokio::test]
async fn a_connector_that_talks_nonsense_is_cut_off() {
    let registry = registry(&[]);
    let (mut far, served) = attach(&registry, 1, "mine");
    far.write_all(b"HTTP/1.1 200 OK\r\n\r\nthis is no HTTP/2 at all").await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ConnectorError::Connection(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_takes_nothing_has_nothing_kept_for_it() {
    let registry = registry(&[]);
    let (far, _served) = attach(&registry, 1, "mine");
    serve(far, false);
    wait_for(&registry, 1, true).await;
    let tunnels = registry.of(Some(&project(1)));
    // More than there may be at once, so those before must be gone.
    for _ in 0..1_000 {
        let mut stream = tunnels.open(&sandbox(), &name("mine")).await.unwrap();
        let all = stream.write_all(&[0; 4_096]);
        let taken = tokio::time::timeout(Duration::from_millis(1), all).await;
        assert!(taken.is_err(), "it has room for one byte");
    }
}

#[tokio::test]
async fn there_are_no_more_connections_through_a_connector_than_there_may_be() {
    let registry = registry(&[]);
    let (far, _served) = attach(&registry, 1, "mine");
    serve(far, true);
    wait_for(&registry, 1, true).await;
    let tunnels = registry.of(Some(&project(1)));
    let mut open = Vec::new();
    for _ in 0..128 {
        open.push(tunnels.open(&sandbox(), &name("mine")).await.unwrap());
    }
    let error = tunnels.open(&sandbox(), &name("mine")).await.err().unwrap();
    assert!(matches!(error, TunnelError::Service { .. }), "{error}");
    open.pop();
    echo(&mut *tunnels.open(&sandbox(), &name("mine")).await.unwrap(), b"room").await;
}

#[tokio::test]
async fn a_connection_that_breaks_off_does_not_look_like_one_that_ended() {
    let registry = registry(&[]);
    let (far, _served) = attach(&registry, 1, "mine");
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            if &word == b"break" {
                std::future::pending::<()>().await;
            }
            stream.shutdown().await.unwrap();
        });
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service);
    let connector = tokio::spawn(connection);
    wait_for(&registry, 1, true).await;
    let tunnels = registry.of(Some(&project(1)));
    let mut ends = tunnels.open(&sandbox(), &name("mine")).await.unwrap();
    ends.write_all(b"ends!").await.unwrap();
    assert_eq!(ends.read(&mut [0]).await.unwrap(), 0);
    let mut breaks = tunnels.open(&sandbox(), &name("mine")).await.unwrap();
    breaks.write_all(b"break").await.unwrap();
    connector.abort();
    let broken = tokio::time::timeout(PATIENCE, breaks.read(&mut [0])).await.unwrap();
    assert!(broken.is_err(), "{broken:?}");
}

#[test]
fn there_is_a_bound_and_a_name_that_was_not_used_leaves_no_trace() {
    let registry = registry(&[]);
    let reserve =
        |of: u8, number: usize| registry.reserve(&project(of), &name(&format!("n{number}")), 1);
    let held: Vec<_> = (0..32).map(|number| reserve(1, number).unwrap()).collect();
    assert_eq!(reserve(1, 32).err().unwrap(), ReserveError::Full { limit: 32 });
    let others: Vec<_> = (0..96).map(|n| reserve(2 + (n / 32) as u8, n).unwrap()).collect();
    assert_eq!(reserve(9, 0).err().unwrap(), ReserveError::Full { limit: 128 });
    drop((held, others));
    assert!(registry.offered(&project(1)).is_empty());
    assert!(reserve(1, 32).is_ok());
}

#[tokio::test]
async fn a_connector_that_stays_away_is_forgotten_after_a_day() {
    let now = Arc::new(Mutex::new(Timestamp::from_micros(1)));
    let clock: Clock = {
        let now = Arc::clone(&now);
        Arc::new(move || *now.lock().unwrap())
    };
    let registry = TunnelRegistry::new(Vec::new(), clock).unwrap();
    let (far, served) = attach(&registry, 1, "mine");
    wait_for(&registry, 1, true).await;
    drop(far);
    let _ended = tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    let pass = |hours: u64| {
        let mut now = now.lock().unwrap();
        *now = now.plus(Duration::from_hours(hours));
    };
    pass(23);
    let since = Timestamp::from_micros(1);
    let kind = TunnelKind::Connector { connected: false, since };
    assert_eq!(registry.offered(&project(1)).first().map(|tunnel| tunnel.kind), Some(kind));
    pass(1);
    assert!(registry.offered(&project(1)).is_empty());
}
