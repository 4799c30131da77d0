//! The private test internet: two network namespaces with one cable between them and no way out.
//! In one run `courier serve` and the controls, in the other the decoys: every address answers
//! there, and every packet is seen. Nothing that leaks in a test leaves the machine.
//!
//! ```text
//!   this process, courier serve          decoys and sniffer (threads of this process)
//!   ┌──────────── NODE ────────────┐     ┌──────────────── NET ────────────────┐
//!   │ 127.0.0.1: a host's service  │─────│ every address: web, DNS, SSH, SOCKS │
//!   └──────────────────────────────┘     └─────────────────────────────────────┘
//! ```
//!
//! The namespaces have no names and the decoys are threads: a run that is killed leaves nothing.

pub mod authority;
pub mod decoys;
pub mod journal;
pub mod namespace;
pub mod packet;
pub mod sniffer;
pub mod wiring;
pub mod zone;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::program;
use authority::Authority;
use decoys::{Decoys, World};
use journal::{Event, Journal, Request};
use namespace::Namespace;
use packet::Packet;
use sniffer::Sniffer;
use wiring::Wiring;
use zone::Zone;

/// The resolver that the node is told to use.
pub const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(93, 184, 216, 53)), 53);
/// Resolvers that a sandbox may know by heart.
pub const FOREIGN_RESOLVERS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
];
/// Port of the service on the node's own addresses that no sandbox may reach.
pub const HOST_SERVICE: u16 = 7777;
/// Port of the markers' sender; any would do.
const ANY_PORT: u16 = 0;
/// The program that tries what a fence should stop.
pub const PROBES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/probes/egress.py");
/// No control takes longer.
const CONTROL: Duration = Duration::from_secs(60);
/// How long the host's service waits for a request.
const HOST_SERVICE_WAIT: Duration = Duration::from_millis(200);
/// The user of decoys that want one.
pub const USER: &str = "decoy-user";

/// A place in everything that is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    journal: journal::Place,
    packets: sniffer::Place,
    host_service: usize,
}

/// The running test internet. The thread that starts it is in NODE until the rig is dropped, and
/// so is everything that it starts meanwhile.
#[derive(Debug)]
pub struct Rig {
    /// What decoys, names and certificates share.
    pub world: Arc<World>,
    /// The namespaces.
    pub wiring: Wiring,
    /// The certificate of the internet's authority, as a file.
    pub ca_file: PathBuf,
    folder: PathBuf,
    home: Namespace,
    marker: UdpSocket,
    host_service: Arc<AtomicUsize>,
    sniffer: Sniffer,
    _decoys: Decoys,
}

impl Rig {
    /// Starts it, with its files in `folder`, and moves the calling thread into NODE.
    #[track_caller]
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let resolvers: Vec<SocketAddr> = std::iter::once(RESOLVER.ip())
            .chain(FOREIGN_RESOLVERS)
            .map(|address| SocketAddr::new(address, RESOLVER.port()))
            .collect();
        let owned: Vec<IpAddr> = resolvers.iter().map(SocketAddr::ip).collect();
        let wiring = Wiring::make(&owned);
        let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
        let random = random.expect("Linux has random uuids");
        let world = Arc::new(World {
            journal: Journal::default(),
            zone: Zone::default(),
            authority: Authority::new(),
            canary: format!("metadata-canary-{}", random.trim()),
            repositories: folder.join("repositories"),
            credentials: (USER.to_owned(), format!("password-{}", random.trim())),
        });
        let ca_file = folder.join("internet-ca.pem");
        std::fs::create_dir_all(&world.repositories).expect("the folder is ours");
        std::fs::write(&ca_file, world.authority.pem()).expect("the folder is ours");
        let sniffer = Sniffer::start(&wiring);
        let decoys = Decoys::start(&wiring.net, &world, &resolvers);
        let home = Namespace::here();
        wiring.node.enter();
        Self {
            marker: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ANY_PORT)).expect("a port is free"),
            host_service: host_service(),
            folder: folder.to_owned(),
            _decoys: decoys,
            sniffer,
            home,
            wiring,
            ca_file,
            world,
        }
    }

    /// What names mean, to be changed at will.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.world.zone
    }

    /// The end of everything that is recorded, after all that has left the node so far.
    #[track_caller]
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            packets: self.sniffer.place(&self.marker),
            journal: self.world.journal.place(),
            host_service: self.host_service.load(Ordering::SeqCst),
        }
    }

    /// What decoys received after `place`.
    #[track_caller]
    #[must_use]
    pub fn events(&self, place: &Place) -> Vec<Event> {
        self.world.journal.since(place.journal)
    }

    /// The HTTP requests that decoys received after `place`.
    #[track_caller]
    #[must_use]
    pub fn requests(&self, place: &Place) -> Vec<Request> {
        self.world.journal.requests(place.journal)
    }

    /// The packets that left the node after `place`.
    #[track_caller]
    #[must_use]
    pub fn packets(&self, place: &Place) -> Vec<Packet> {
        // Everything up to now is in the record once a marker is.
        let _now = self.sniffer.place(&self.marker);
        self.sniffer.since(place.packets)
    }

    /// How many connections the node's own service got after `place`.
    #[must_use]
    pub fn host_service_calls(&self, place: &Place) -> usize {
        self.host_service.load(Ordering::SeqCst) - place.host_service
    }

    /// A command without any fence, as an ordinary program of the node runs: it uses the internet's
    /// resolver and trusts its authority. The control of what a sandbox tries.
    #[must_use]
    pub fn outside(&self, program: &str) -> Command {
        let configuration = self.folder.join("resolv.conf");
        let text = format!("nameserver {}\noptions timeout:1 attempts:1\n", RESOLVER.ip());
        std::fs::write(&configuration, text).expect("the folder is ours");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"");
        command.arg("sh").arg(configuration).arg(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
        for name in ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE"] {
            command.env(name, &self.ca_file);
        }
        command.current_dir(&self.folder);
        command
    }

    /// Evaluates an expression of `probes/egress.py` without any fence, and reads the JSON that it
    /// prints.
    #[track_caller]
    #[must_use]
    pub fn control(&self, expression: &str, canary: &str) -> Value {
        let mut command = self.outside("python3");
        command.arg(PROBES).args([expression, canary]).env("PROBE_CA", &self.ca_file);
        let ended = program::run(&mut command, b"", CONTROL);
        serde_json::from_slice(&ended.assert_code(0).stdout).expect("a probe prints JSON")
    }

    /// Makes a repository with one commit for the Git decoy: `https://HOST/git/NAME.git`.
    #[track_caller]
    pub fn repository(&self, name: &str) {
        let script = "git init -q --bare $1.git && git -C $1.git config http.receivepack true && \
            git init -q work && cd work && echo content > file && git add file && \
            git -c user.name=d -c user.email=d@d.test commit -qm first && \
            git push -q ../$1.git HEAD:refs/heads/main && \
            git -C ../$1.git symbolic-ref HEAD refs/heads/main && rm -rf ../work";
        let mut command = Command::new("sh");
        command.args(["-ec", script, "sh", name]).current_dir(&self.world.repositories);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let status = command.status().expect("sh starts");
        assert!(status.success(), "git cannot make a repository: {status}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.home.enter();
    }
}

/// A service of the node itself, on all its addresses: nobody inside may reach it.
fn host_service() -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, HOST_SERVICE));
    let listener = listener.expect("a new namespace has every port free");
    let count = Arc::clone(&calls);
    // It ends with the process: whoever may call it is in a namespace that is gone with the rig.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut piece = [0; 1024];
            drop(stream.set_read_timeout(Some(HOST_SERVICE_WAIT)));
            drop(stream.read(&mut piece));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhost"));
        }
    });
    calls
}
