//! The servers of the test internet. They answer at every address, tell the journal what they
//! received, and are as obliging as an attacker's own: whatever reaches them has leaked.

mod dns;
mod echo;
mod git;
mod socks;
mod streams;
mod web;
mod websocket;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::authority::Authority;
use super::journal::{Event, Journal};
use super::namespace::Namespace;
use super::zone::Zone;

/// No conversation of a test is longer: a decoy hangs up then.
const LONGEST: Duration = Duration::from_secs(300);

/// What a port of every address does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    /// HTTP/1.1 and HTTP/2 with prior knowledge.
    Web,
    /// The same over TLS.
    SecureWeb,
    /// DNS over TCP.
    Dns,
    /// TLS, and then whatever comes.
    SecureBytes,
    /// Speaks first, then returns what it gets.
    Banner,
    /// Returns what it gets.
    Echo,
    /// SOCKS5.
    Socks,
    /// Takes everything and says nothing.
    Silent,
}

/// What answers on which TCP port, at every address.
const PORTS: &[(u16, &str, Service)] = &[
    (80, "web", Service::Web),
    (8000, "web", Service::Web),
    (8080, "web", Service::Web),
    (443, "secure web", Service::SecureWeb),
    (8443, "secure web", Service::SecureWeb),
    (53, "dns", Service::Dns),
    (853, "dns over tls", Service::SecureBytes),
    (22, "banner", Service::Banner),
    (25, "banner", Service::Banner),
    (5432, "banner", Service::Banner),
    (7, "echo", Service::Echo),
    (9000, "echo", Service::Echo),
    (1080, "socks", Service::Socks),
    (9001, "silent", Service::Silent),
];

/// What the decoys share.
#[derive(Debug)]
pub struct World {
    /// What they received.
    pub journal: Journal,
    /// What names mean.
    pub zone: Zone,
    /// Their certificates.
    pub authority: Authority,
    /// What the metadata service tells: nobody may have it.
    pub canary: String,
    /// Folder with the repositories of the Git decoy.
    pub repositories: PathBuf,
    /// `user:password` that the Git decoy and the SOCKS decoy ask for.
    pub credentials: (String, String),
}

/// One connection to a decoy.
#[derive(Debug, Clone)]
struct Call {
    world: Arc<World>,
    /// What was dialled.
    local: SocketAddr,
    /// The server name of the TLS hello.
    tls: Option<String>,
    /// Whether it is over TLS.
    secure: bool,
}

/// The running decoys; they end when dropped.
#[derive(Debug)]
pub struct Decoys {
    over: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Decoys {
    /// Starts them; returns when all listen. `resolvers` answer DNS over UDP too.
    #[track_caller]
    #[must_use]
    pub fn start(net: &Namespace, world: &Arc<World>, resolvers: &[SocketAddr]) -> Self {
        let (over, end) = oneshot::channel();
        let (ready, listening) = sync_channel(1);
        let (world, resolvers) = (Arc::clone(world), resolvers.to_vec());
        let thread = net.spawn("decoys", move || {
            // One thread only: each that a runtime starts later would have to be in NET as well.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(async move {
                listen(&world, &resolvers).await;
                let _starter_waits = ready.send(());
                drop(end.await);
            });
        });
        assert!(listening.recv().is_ok(), "the decoys did not start; their thread says why above");
        Self { over: Some(over), thread: Some(thread) }
    }
}

impl Drop for Decoys {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn listen(world: &Arc<World>, resolvers: &[SocketAddr]) {
    for (port, name, service) in PORTS {
        // Both families.
        let listener = TcpListener::bind(("::", *port)).await;
        let listener = listener.unwrap_or_else(|error| panic!("port {port}: {error}"));
        tokio::spawn(accept(listener, name, *service, Arc::clone(world)));
    }
    for address in resolvers {
        dns::listen(*address, Arc::clone(world)).await;
    }
}

async fn accept(listener: TcpListener, name: &'static str, service: Service, world: Arc<World>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let Ok(local) = stream.local_addr() else { continue };
        let (local, peer) = (canonical(local), canonical(peer));
        world.journal.add(Event::Connection { local, peer, decoy: name });
        let call = Call { world: Arc::clone(&world), local, tls: None, secure: false };
        tokio::spawn(async move {
            // However it ends: what arrived is in the journal.
            drop(tokio::time::timeout(LONGEST, serve(service, stream, call)).await);
        });
    }
}

/// IPv4 as IPv4: the listeners take both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn serve(service: Service, stream: TcpStream, call: Call) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match service {
        Service::Web => web::serve(stream, call).await,
        Service::SecureWeb => {
            let (stream, call) = secure(stream, call).await?;
            web::serve(stream, call).await
        }
        Service::SecureBytes => {
            let (stream, call) = secure(stream, call).await?;
            streams::swallow(stream, &call).await
        }
        Service::Dns => dns::serve(stream, &call).await,
        Service::Banner => streams::banner(stream, &call).await,
        Service::Echo => streams::echo(stream, &call).await,
        Service::Socks => socks::serve(stream, &call).await,
        Service::Silent => streams::swallow(stream, &call).await,
    }
}

/// The server's side of a TLS handshake, with a certificate for whatever name it asks for.
async fn secure(
    stream: TcpStream,
    mut call: Call,
) -> std::io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Call)> {
    let acceptor = rustls::server::Acceptor::default();
    let start = tokio_rustls::LazyConfigAcceptor::new(acceptor, stream).await?;
    let name = start.client_hello().server_name().map(str::to_owned);
    let local = call.local;
    call.world.journal.add(Event::Hello { local, name: name.clone() });
    let config = call.world.authority.config(name.as_deref(), local.ip());
    let stream = start.into_stream(config).await?;
    call.world.journal.add(Event::Secured { local, name: name.clone() });
    call.tls = name;
    call.secure = true;
    Ok((stream, call))
}
