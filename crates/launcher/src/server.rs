//! The launcher's socket: who may talk to it, and what each request does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::checked::{self, Name};
use crate::record;
use crate::registry::{Linger, Owner, Registry, Wanted};
use crate::wire::{Answer, Refusal, Request, VERSION};

/// The socket's name in the launcher's directory.
const SOCKET: &str = "launcher.sock";
/// Most connections at once; each has a thread. A driver opens at most 16.
const MAX_CONNECTIONS: usize = 256;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Longest path of a Unix socket, without the final zero.
const MAX_SOCKET_PATH: usize = 107;
/// Stack of a connection's thread; a record buffer is on the heap.
const STACK: usize = 256 * 1024;
/// How often an idle launcher looks whether it may go.
const IDLE_LOOK: Duration = Duration::from_millis(500);

/// Who may connect beside root and the launcher's own user, and when to go.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Further uids.
    pub(crate) allow: Vec<u32>,
    /// Exit after so long without clients and sandboxes.
    pub(crate) idle_exit: Option<Duration>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    registry: Registry,
    connections: AtomicUsize,
    stop: AtomicBool,
    stopped: OwnedFd,
}

impl Shared {
    fn ask_to_stop(&self) {
        // It only fails when the counter is full, and then the launcher is stopping anyway.
        let _full = rustix::io::write(&self.stopped, &1_u64.to_ne_bytes());
    }
}

/// Serves until a signal, a `shutdown` or idleness ends it; then nothing is left of any sandbox.
pub(crate) fn serve(registry: Registry, policy: &Policy, signals: &OwnedFd) -> io::Result<()> {
    let path = registry.host().dir().join(SOCKET);
    let opened = listen(&path).and_then(|listener| {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok((listener, rustix::event::eventfd(0, flags)?))
    });
    let (listener, stopped) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // The parent of all cgroups is there already.
            registry.shut_down();
            return Err(error);
        }
    };
    let shared = Arc::new(Shared {
        registry,
        connections: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        stopped,
    });
    let result = accept_all(&shared, &listener, policy, signals);
    // First nobody can ask for more, then what is there goes.
    shared.stop.store(true, Ordering::SeqCst);
    let removed = std::fs::remove_file(&path);
    shared.registry.shut_down();
    result.and(removed)
}

fn listen(path: &Path) -> io::Result<OwnedFd> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} has {length} bytes, a socket's path may have {MAX_SOCKET_PATH}: use a shorter \
                 --dir",
                path.display()
            ),
        ));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _gone => {}
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Anyone may connect: the credentials of each peer decide.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn accept_all(
    shared: &Arc<Shared>,
    listener: &OwnedFd,
    policy: &Policy,
    signals: &OwnedFd,
) -> io::Result<()> {
    let look = rustix::time::Timespec::try_from(IDLE_LOOK).map_err(io::Error::other)?;
    let timeout = policy.idle_exit.map(|_| look);
    let mut busy_at = Instant::now();
    loop {
        let mut fds = [listener, signals, &shared.stopped].map(|fd| PollFd::new(fd, PollFlags::IN));
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [incoming, signalled, stopped] = fds.map(|fd| !fd.revents().is_empty());
        if signalled || stopped {
            return Ok(());
        }
        if incoming {
            accept(shared, listener, policy);
        }
        if shared.connections.load(Ordering::SeqCst) > 0 || !shared.registry.is_idle() {
            busy_at = Instant::now();
        }
        if policy.idle_exit.is_some_and(|limit| busy_at.elapsed() >= limit) {
            return Ok(());
        }
    }
}

/// Takes one connection. Nothing that goes wrong with it ends the launcher.
fn accept(shared: &Arc<Shared>, listener: &OwnedFd, policy: &Policy) {
    let accepted = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
        .map_err(io::Error::from)
        .and_then(|socket| admit(shared, socket, policy));
    if let Err(error) = accepted {
        eprintln!("courier-launcher: cannot take a connection: {error}");
    }
}

fn admit(shared: &Arc<Shared>, socket: OwnedFd, policy: &Policy) -> io::Result<()> {
    let uid = rustix::net::sockopt::socket_peercred(&socket)?.uid.as_raw();
    let own = rustix::process::getuid().as_raw();
    let refusal = if uid != 0 && uid != own && !policy.allow.contains(&uid) {
        Some(format!("uid {uid} may not use this launcher: start it with --allow-uid {uid}"))
    } else if shared.connections.load(Ordering::SeqCst) >= MAX_CONNECTIONS {
        Some(format!("{MAX_CONNECTIONS} connections are the most"))
    } else {
        None
    };
    if let Some(what) = refusal {
        return record::send(&socket, &Answer::Refused(Refusal::invalid(what)), &[]);
    }
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let connection = Connection { shared: Arc::clone(shared), socket, uid };
    std::thread::Builder::new()
        .name(format!("client uid {uid}"))
        .stack_size(STACK)
        .spawn(move || connection.serve())?;
    Ok(())
}

/// One client's connection.
#[derive(Debug)]
struct Connection {
    shared: Arc<Shared>,
    socket: OwnedFd,
    uid: u32,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer with its descriptors.
type Reply = Result<(Answer, Vec<OwnedFd>), Refusal>;

impl Connection {
    fn serve(self) {
        let Some((owner, linger)) = self.greet() else { return };
        self.shared.registry.connected(&owner);
        while let Some((request, fds)) = self.next() {
            let last = matches!(request, Request::Shutdown);
            let reply = self.carry_out(&owner, request, fds);
            let shut_down = last && reply.is_ok();
            if !self.answer(reply) {
                break;
            }
            if shut_down {
                // Only now: the process ends with its first thread, answered or not.
                self.shared.ask_to_stop();
            }
        }
        self.shared.registry.disconnected(&owner, linger);
    }

    /// The next request; `None` ends the connection.
    fn next(&self) -> Option<(Request, Vec<OwnedFd>)> {
        match record::receive(&self.socket) {
            Ok(request) => request,
            Err(error) => {
                let what = format!("not a request of version {VERSION}: {error}");
                self.answer(Err(Refusal::invalid(what)));
                None
            }
        }
    }

    /// The greeting; every connection begins with one.
    fn greet(&self) -> Option<(Owner, Linger)> {
        let (request, _) = self.next()?;
        let greeted = match request {
            Request::Hello { version, .. } if version != VERSION => Err(Refusal::invalid(format!(
                "the client speaks version {version}, this launcher {VERSION}: install courier \
                     and courier-launcher of one release and restart the launcher"
            ))),
            Request::Hello { owner, linger, .. } => Name::parse(&owner)
                .map(|name| (name, if linger { Linger::Stay } else { Linger::Go })),
            _ => Err(Refusal::invalid("a connection begins with hello")),
        };
        match greeted {
            Err(refusal) => {
                self.answer(Err(refusal));
                None
            }
            Ok((name, linger)) => {
                let runsc = self.shared.registry.host().runsc.find().ok();
                let technology = runsc.map(|runsc| format!("runsc {}", runsc.version));
                let hello = Answer::Hello { version: VERSION, technology };
                self.answer(Ok((hello, Vec::new())))
                    .then_some((Owner { uid: self.uid, name }, linger))
            }
        }
    }

    /// Sends an answer; false when the client is gone.
    fn answer(&self, reply: Reply) -> bool {
        let (answer, fds) = reply.unwrap_or_else(|refusal| (Answer::Refused(refusal), Vec::new()));
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        record::send(&self.socket, &answer, &fds).is_ok()
    }

    fn carry_out(&self, owner: &Owner, request: Request, fds: Vec<OwnedFd>) -> Reply {
        let registry = &self.shared.registry;
        let plain = |answer| Ok((answer, Vec::new()));
        match request {
            Request::Hello { .. } => Err(Refusal::invalid("hello comes once")),
            Request::Create { id, limits, deadline, volumes } => {
                if self.shared.stop.load(Ordering::SeqCst) {
                    return Err(Refusal::Host { what: "the launcher is shutting down".into() });
                }
                let (id, limits) = (Name::parse_id(&id)?, checked::limits(limits)?);
                let volumes = checked::mounts(volumes)?;
                let wanted = Wanted { limits, deadline, image: image(fds)?, volumes };
                machine(registry.create(owner, &id, wanted)?)
            }
            Request::Attach { id } => {
                machine(registry.get(owner, &Name::parse_id(&id)?)?.machine()?)
            }
            Request::SetDeadline { id, deadline } => {
                registry.get(owner, &Name::parse_id(&id)?)?.set_deadline(deadline)?;
                plain(Answer::Done)
            }
            Request::Usage { id } => {
                plain(Answer::Usage(registry.get(owner, &Name::parse_id(&id)?)?.usage()?))
            }
            Request::Destroy { id } => {
                plain(Answer::Ended(registry.destroy(owner, &Name::parse_id(&id)?)?))
            }
            Request::List { after } => list(registry, Some(owner), after),
            Request::ListAll { after } => list(registry, None, after),
            Request::MakeVolume { id, size_mib } => {
                let (id, size_mib) = (Name::parse_volume(&id)?, checked::volume_size(size_mib)?);
                registry.host().check_room()?;
                registry.host().volumes.make(owner, &id, size_mib)?;
                plain(Answer::Done)
            }
            Request::DeleteVolume { id } => {
                let id = Name::parse_volume(&id)?;
                if registry.host().volumes.delete(owner, &id)? {
                    return plain(Answer::Done);
                }
                Err(Refusal::NoVolume { id: id.to_string() })
            }
            Request::ListVolumes { after } => {
                let after = after.map(|after| Name::parse_volume(&after)).transpose()?;
                let (ids, more) = registry.host().volumes.list(owner, after.as_ref())?;
                plain(Answer::List { ids, more })
            }
            Request::Shutdown => self.may_shut_down(),
        }
    }

    fn may_shut_down(&self) -> Reply {
        if self.uid != 0 && self.uid != rustix::process::getuid().as_raw() {
            return Err(Refusal::invalid("only root may shut the launcher down"));
        }
        Ok((Answer::Done, Vec::new()))
    }
}

fn machine(fds: crate::sandbox::MachineFds) -> Reply {
    Ok((Answer::Machine, vec![fds.channel, fds.gone, fds.link]))
}

fn list(registry: &Registry, owner: Option<&Owner>, after: Option<String>) -> Reply {
    let after = after.map(|after| Name::parse_id(&after)).transpose()?;
    let (ids, more) = registry.list(owner, after.as_ref());
    Ok((Answer::List { ids, more }, Vec::new()))
}

/// The image that came with a request. It must be a file that the client itself could open for
/// reading: the launcher opens it again, with root's rights.
fn image(fds: Vec<OwnedFd>) -> Result<OwnedFd, Refusal> {
    let [image] = <[OwnedFd; 1]>::try_from(fds).map_err(|fds| {
        Refusal::invalid(format!("{} descriptors, one image expected", fds.len()))
    })?;
    let failed = |error: rustix::io::Errno| Refusal::host("look at the image", &error.into());
    let flags = rustix::fs::fcntl_getfl(&image).map_err(failed)?;
    let stat = rustix::fs::fstat(&image).map_err(failed)?;
    let regular =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    let reads_only = !flags.intersects(
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::PATH,
    );
    if regular && reads_only {
        Ok(image)
    } else {
        Err(Refusal::invalid("the image must be a regular file, opened for reading only"))
    }
}
