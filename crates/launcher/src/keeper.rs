//! One thread per sandbox: it makes it, watches it, ends it and cleans up. Everybody else only sees
//! its [`Sandbox`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::UnshareFlags;

use crate::cgroup::{Cgroup, Overhead};
use crate::checked::Mount;
use crate::control::{BoxConfig, BoxVolume, Report};
use crate::host::Host;
use crate::network;
use crate::record;
use crate::sandbox::{Order, Phase, Running, Sandbox, Wanted};
use crate::volumes::Attached;
use crate::wire::{Ended, How, Refusal, Usage};

/// How long a sandbox may take to start. Measured: 0.15 s; a machine under heavy load takes longer.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Longest wait at once: the wall clock may be set while a keeper waits for a deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a sandbox whose guest has closed its channel may take to end by itself when somebody
/// wants it destroyed: so the cause is told (memory, a crash) and not just that it was asked for.
const OWN_END_PATIENCE: Duration = Duration::from_secs(1);

/// The keeper's life.
pub(crate) fn keep(sandbox: &Sandbox, host: &Host, order: Order) {
    let cgroup = host.parent.of(sandbox.id.as_str());
    let begun = begin(sandbox, host, order, &cgroup);
    let phase = match begun {
        Err(refusal) => Phase::Failed(refusal),
        Ok(live) => Phase::Ended(watch(sandbox, live, &cgroup)),
    };
    if let Err(error) = cgroup.remove().and_then(|()| host.intents.remove(sandbox.id.as_str())) {
        // The next start of the launcher tries again: the intent is still there.
        eprintln!("courier-launcher: cannot clean up after {}: {error}", sandbox.id);
    }
    sandbox.enter(phase);
}

/// A box and the launcher's end of its control socket.
struct Live {
    child: Child,
    control: OwnedFd,
    pidfd: OwnedFd,
    /// What it has mounted: their devices are no other file's as long as it lives.
    _volumes: Vec<(Arc<Attached>, String)>,
}

fn begin(sandbox: &Sandbox, host: &Host, order: Order, cgroup: &Cgroup) -> Result<Live, Refusal> {
    let runsc = host.runsc.find()?;
    host.check_room()?;
    let failed = |doing: &'static str| move |error: io::Error| Refusal::host(doing, &error);
    let root = host
        .intents
        .write(sandbox.id.as_str(), order.owner.name.as_str(), cgroup)
        .map_err(failed("write the intent down"))?;
    let disk = host.disks.make(order.limits.disk_mib).map_err(failed("make the disk"))?;
    let volumes = attach(host, &order)?;
    let overhead = if volumes.is_empty() { Overhead::Sentry } else { Overhead::SentryAndGofer };
    cgroup.make(&order.limits, overhead).map_err(failed("make the cgroup"))?;
    let (channel, guest) = seqpacket_pair().map_err(failed("make the channel"))?;
    let (link, guest_link) = network::link().map_err(failed("make the network link"))?;
    let (control, box_end) = seqpacket_pair().map_err(failed("make the control socket"))?;
    let child = spawn(box_end).map_err(failed("start the box"))?;
    let config = BoxConfig {
        limits: order.limits,
        join: cgroup.join_files(),
        root,
        runsc: runsc.path,
        volumes: volumes
            .iter()
            .map(|(volume, path)| BoxVolume {
                device: volume.device.path.clone(),
                path: path.clone(),
            })
            .collect(),
        turn: host.turn(),
    };
    let mut live = Live::new(child, control, volumes).map_err(failed("watch the box"))?;
    let fds = [guest.as_fd(), guest_link.as_fd(), order.image.as_fd(), disk.as_fd()];
    let sent = record::send(&live.control, &config, &fds).map_err(failed("configure the box"));
    drop((guest, guest_link, disk));
    let up = sent.and_then(|()| live.wait_until_up(sandbox));
    let phase = up.and_then(|()| {
        let pidfd = live.pidfd.try_clone().map_err(failed("duplicate a descriptor"))?;
        let pid = Pid::from_child(&live.child);
        Ok(Phase::Running(Running { channel, link, pidfd, pid, cgroup: cgroup.clone() }))
    });
    match phase {
        Ok(running) => {
            sandbox.enter(running);
            Ok(live)
        }
        Err(refusal) => {
            live.kill().map_err(failed("kill the box"))?;
            Err(refusal)
        }
    }
}

/// Attaches the volumes of a sandbox.
fn attach(host: &Host, order: &Order) -> Result<Vec<(Arc<Attached>, String)>, Refusal> {
    let attach = |(id, path): &Mount| Ok((host.volumes.attach(&order.owner, id)?, path.clone()));
    order.volumes.iter().map(attach).collect()
}

fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok(pair)
}

/// Starts this program again as pid 1 of a new pid namespace. The calling thread can then start
/// nothing else: that is why each keeper has its own.
#[expect(unsafe_code, reason = "rustix marks unshare unsafe because of CLONE_FILES")]
fn spawn(stdin: OwnedFd) -> io::Result<Child> {
    // SAFETY: descriptors stay shared: CLONE_FILES is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }?;
    Command::new("/proc/self/exe")
        .arg0("courier-launcher")
        .arg("box")
        .env_clear()
        .current_dir("/")
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Live {
    fn new(
        mut child: Child,
        control: OwnedFd,
        volumes: Vec<(Arc<Attached>, String)>,
    ) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, control, pidfd, _volumes: volumes }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error.into())
            }
        }
    }

    /// Waits for the box's first report.
    fn wait_until_up(&self, sandbox: &Sandbox) -> Result<(), Refusal> {
        let failed = |what: String| Refusal::NotStarted { what };
        let until = now_micros().saturating_add(micros(START_DEADLINE));
        loop {
            let Wanted { deadline_micros: deadline, destroy } = sandbox.wanted();
            if destroy {
                return Err(failed("it was destroyed while it started".to_owned()));
            }
            if now_micros() >= until.min(deadline) {
                return Err(failed("it was not up before its deadline".to_owned()));
            }
            let woken = wait(&[&self.control, sandbox.wakes()], until.min(deadline));
            let woken = woken.map_err(|error| Refusal::host("wait for the box", &error))?;
            sandbox.woken();
            if woken.first() == Some(&true) {
                break;
            }
        }
        match record::receive::<Report>(&self.control) {
            Ok(Some((Report::Up, _))) => Ok(()),
            Ok(Some((Report::Failed { what, log }, _))) => Err(failed(with_log(&what, &log))),
            Ok(Some((Report::Ended { what, log, .. }, _))) => Err(failed(with_log(&what, &log))),
            Ok(None) => Err(failed("the box was killed while it started".to_owned())),
            Err(error) => Err(failed(format!("the box's report was broken: {error}"))),
        }
    }

    /// Kills everything in the pid namespace; returns when it is dead.
    fn kill(&mut self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        self.child.wait()?;
        Ok(())
    }
}

/// Watches a running sandbox to its end; when this returns, no process of it is left.
fn watch(sandbox: &Sandbox, mut live: Live, cgroup: &Cgroup) -> Ended {
    let how = until_end(sandbox, &live);
    let before = sandbox.usage().unwrap_or_default();
    if let Err(error) = live.kill() {
        eprintln!("courier-launcher: cannot kill {}: {error}", sandbox.id);
    }
    let mut usage = Usage { disk_bytes: before.disk_bytes, ..cgroup.usage() };
    let (how, log) = match how {
        Some(how) => (how, String::new()),
        None => {
            let (how, disk_bytes, log) = own_end(&live, usage.oom_kills);
            usage.disk_bytes = usage.disk_bytes.max(disk_bytes);
            (how, log)
        }
    };
    Ended { how, usage, log }
}

/// Waits for the first cause of an end: `None` when the sandbox ended by itself.
fn until_end(sandbox: &Sandbox, live: &Live) -> Option<How> {
    loop {
        let Wanted { deadline_micros: deadline, destroy } = sandbox.wanted();
        if destroy {
            return if sandbox.guest_has_left() {
                await_own_end(live)
            } else {
                Some(How::Requested)
            };
        }
        if now_micros() >= deadline {
            return Some(How::Timeout);
        }
        match wait(&[&live.pidfd, sandbox.wakes()], deadline) {
            Ok(woken) if woken.first() == Some(&true) => return None,
            Ok(_) => sandbox.woken(),
            Err(error) => {
                eprintln!("courier-launcher: cannot watch {}: {error}", sandbox.id);
                return Some(How::Crashed);
            }
        }
    }
}

/// Gives a sandbox without a guest a moment to end.
fn await_own_end(live: &Live) -> Option<How> {
    let until = now_micros().saturating_add(micros(OWN_END_PATIENCE));
    while now_micros() < until {
        match wait(&[&live.pidfd], until) {
            Ok(woken) if woken.first() == Some(&true) => return None,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Some(How::Requested)
}

/// How a sandbox ended that nobody ended: from the box's last report, and the kernel's count.
fn own_end(live: &Live, oom_kills: u64) -> (How, u64, String) {
    let by_kernel = |failed: bool| if failed && oom_kills > 0 { How::Memory } else { How::Crashed };
    match record::receive::<Report>(&live.control) {
        Ok(Some((Report::Ended { failed, what, disk_bytes, log }, _))) => {
            (by_kernel(failed), disk_bytes, with_log(&what, &log))
        }
        Ok(Some((Report::Failed { what, log }, _))) => (How::Crashed, 0, with_log(&what, &log)),
        Ok(Some((Report::Up, _)) | None) | Err(_) => {
            (by_kernel(true), 0, "the box itself was killed".to_owned())
        }
    }
}

fn with_log(what: &str, log: &str) -> String {
    if log.is_empty() { what.to_owned() } else { format!("{what}\n{log}") }
}

/// Waits until one of the descriptors is readable or the time has come; tells which are readable.
fn wait(fds: &[&OwnedFd], until_micros: i64) -> io::Result<Vec<bool>> {
    let left = u64::try_from(until_micros.saturating_sub(now_micros())).unwrap_or_default();
    let left = Duration::from_micros(left).min(LONGEST_WAIT);
    let timeout = rustix::time::Timespec::try_from(left).map_err(io::Error::other)?;
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// The wall clock in microseconds since the Unix epoch.
pub(crate) fn now_micros() -> i64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
