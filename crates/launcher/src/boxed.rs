//! `courier-launcher box`: pid 1 of a sandbox's pid namespace, between launcher and Sentry.
//!
//! ```text
//! config ─▶ walls up (cgroup, namespaces, root) ─▶ runsc create ─▶ over the Sentry's control
//! socket: network link, start of the guest ─▶ capabilities dropped
//!        ─▶ wait for: the Sentry's end │ the lifeline's end ─▶ exit, and the kernel kills the rest
//! ```
//!
//! Once the Sentry runs, this process has no capability, no descriptor but the lifeline and the
//! log, and sees nothing of the host but its own small root.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Uid};
use serde_json::{Value, json};

use crate::control::{BoxConfig, Report};
use crate::sentry::Sentry;
use crate::volumes::FIRST_ID;
use crate::watch::{Watch, Woken};
use crate::{network, privileges, record, walls};

/// The sandbox's id inside its own runsc state, which it shares with nobody.
const ID: &str = "sandbox";
/// Where runsc writes the Sentry's pid.
const PID_FILE: &str = "/state/sentry.pid";
/// Where the Sentry takes calls: runsc makes this path of its `--root` and the id.
const CONTROL: &str = "/state/runsc-sandbox.sock";
/// How long the Sentry may take to answer one call. Measured: 20 ms for the start of the guest; the
/// launcher gives the whole start 60 s.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the box; returns its exit code.
pub(crate) fn run() -> u8 {
    let control = io::stdin();
    // For people who look at a list of processes; it does not matter if it fails.
    let _unnamed = rustix::thread::set_name(c"courier-box");
    match live(&control) {
        Ok(()) => 0,
        Err(Failure { what, log }) => {
            // Without a launcher there is nobody to tell.
            let _nobody = record::send(&control, &Report::Failed { what, log }, &[]);
            1
        }
    }
}

/// Why the guest never ran.
struct Failure {
    what: String,
    log: String,
}

impl Failure {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), log: String::new() }
    }
}

/// Names the step that failed.
fn step<T>(what: &str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::new(format!("{what}: {error}")))
}

fn live(control: &io::Stdin) -> Result<(), Failure> {
    let received = step("receive the configuration", record::receive::<BoxConfig>(control))?;
    let Some((config, fds)) = received else { return Ok(()) };
    let [channel, link, image, disk] = <[OwnedFd; 4]>::try_from(fds)
        .map_err(|fds| Failure::new(format!("{} descriptors", fds.len())))?;
    step("leave the session", rustix::process::setsid().map_err(io::Error::from))?;
    step("join the cgroup", join(&config))?;
    step("build the walls", walls::build(&config, &image, disk))?;
    step("give up privileges", privileges::reduce_for_runsc(&config.limits, config.turn))?;
    let (log, log_end) = step("make the log", io::pipe())?;
    let runsc = step("run runsc", spawn(channel, log_end))?;
    let mut watch = step("watch the log", Watch::new(control, log))?;
    let sentry = start(&mut watch, runsc, link).map_err(|failure| with_log(&mut watch, failure))?;
    drop(image);
    step("give up all privileges", privileges::drop_all())?;
    step("report", record::send(control, &Report::Up, &[]))?;
    if let Some(report) = step("wait", until_end(&mut watch, &sentry))? {
        step("report", record::send(control, &report, &[]))?;
    }
    Ok(())
}

fn join(config: &BoxConfig) -> io::Result<()> {
    config.join.iter().try_for_each(|file| fs::write(file, "0"))
}

/// Starts `runsc create`: it exits when the Sentry takes calls. The network is the Sentry's own
/// stack (`sandbox`) without any link yet: none of this network namespace, which is empty.
fn spawn(channel: OwnedFd, log: io::PipeWriter) -> io::Result<Child> {
    privileges::set_oom_score(privileges::GUEST_OOM_SCORE, "self")?;
    let child = Command::new(walls::RUNSC)
        .args(["--root=/state", "-network=sandbox", "-directfs=false", "-ignore-cgroups"])
        .args(["-platform=systrap", "create", "-bundle", crate::oci::BUNDLE])
        .args(["-pid-file", PID_FILE, ID])
        .env_clear()
        .current_dir("/")
        .stdin(channel)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    privileges::set_oom_score(0, "self")?;
    Ok(child)
}

/// Waits until runsc has made the Sentry, gives it its network and starts the guest; returns the
/// Sentry.
fn start(watch: &mut Watch<'_>, mut runsc: Child, link: OwnedFd) -> Result<OwnedFd, Failure> {
    let pid = Pid::from_child(&runsc);
    let pidfd = step(
        "watch runsc",
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from),
    )?;
    await_ready(watch, &pidfd, "runsc", None)?;
    let status = step("wait for runsc", runsc.wait())?;
    if !status.success() {
        return Err(Failure::new(format!("runsc ended with {status}")));
    }
    let mut sentry = step("reach the Sentry", Sentry::connect(CONTROL))?;
    let network = network::configuration();
    call(watch, &mut sentry, ("Network.CreateLinksAndRoutes", &network), &[link.as_fd()])?;
    // The Sentry's end is the only one from here on: the host sees it close.
    drop(link);
    call(watch, &mut sentry, ("containerManager.StartRoot", &json!(ID)), &[])?;
    let text = step("read the Sentry's pid", fs::read_to_string(PID_FILE))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = step("read the Sentry's pid", pid.ok_or_else(|| io::ErrorKind::InvalidData.into()))?;
    step("spare the gofer", prefer_gofer())?;
    step("watch the Sentry", prefer(pid))
}

/// Makes one call and waits for its answer.
fn call(
    watch: &mut Watch<'_>,
    sentry: &mut Sentry,
    (method, argument): (&str, &Value),
    fds: &[BorrowedFd<'_>],
) -> Result<(), Failure> {
    step(method, sentry.send(method, argument, fds))?;
    loop {
        await_ready(watch, &*sentry, method, Some(ANSWER_PATIENCE))?;
        match step(method, sentry.receive())? {
            Some(Ok(())) => return Ok(()),
            Some(Err(what)) => return Err(Failure::new(format!("{method}: {what}"))),
            None => {}
        }
    }
}

fn await_ready(
    watch: &mut Watch<'_>,
    wanted: impl AsFd,
    what: &str,
    patience: Option<Duration>,
) -> Result<(), Failure> {
    match step(what, watch.wait(wanted, patience))? {
        Woken::Ready => Ok(()),
        Woken::LifelineEnded => Err(Failure::new("the launcher went")),
        Woken::TimedOut => Err(Failure::new(format!("{what}: no answer"))),
    }
}

/// Adds what runsc and the Sentry have said.
fn with_log(watch: &mut Watch<'_>, failure: Failure) -> Failure {
    // What cannot be read does not change what failed.
    let _unread = watch.read_log();
    Failure { log: watch.tail(), ..failure }
}

/// Waits for the end of the Sentry or of the launcher; nothing to report after the latter.
fn until_end(watch: &mut Watch<'_>, sentry: &OwnedFd) -> io::Result<Option<Report>> {
    match watch.wait(sentry, None)? {
        Woken::LifelineEnded | Woken::TimedOut => return Ok(None),
        Woken::Ready => {}
    }
    watch.read_log()?;
    let status = rustix::process::waitid(
        rustix::process::WaitId::PidFd(sentry.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    )?;
    let (signal, code) =
        status.map_or((None, None), |status| (status.terminating_signal(), status.exit_status()));
    let what = match (signal, code) {
        (Some(signal), _) => format!("the Sentry was killed by signal {signal}"),
        (None, Some(code)) => format!("the guest daemon or the Sentry exited with {code}"),
        (None, None) => "the Sentry ended".to_owned(),
    };
    Ok(Some(Report::Ended {
        failed: code != Some(0),
        what,
        disk_bytes: walls::disk_bytes("/".as_ref()).unwrap_or_default(),
        log: watch.tail(),
    }))
}

/// The same for the gofer, where there is one: without it the guest loses its volumes. It is the only
/// process of its user here.
fn prefer_gofer() -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        // A process may end while it is looked at.
        let Ok(user) = entry.metadata().map(|meta| meta.uid()) else { continue };
        if user == FIRST_ID {
            privileges::set_oom_score_as(Uid::from_raw(user), 0, pid)?;
        }
    }
    Ok(())
}

/// Makes the Sentry the last that the kernel kills for memory: first go the guest's processes.
fn prefer(sentry: Pid) -> io::Result<OwnedFd> {
    let proc = format!("/proc/{}", sentry.as_raw_nonzero());
    let user = Uid::from_raw(fs::metadata(&proc)?.uid());
    privileges::set_oom_score_as(user, 0, &sentry.as_raw_nonzero().to_string())?;
    Ok(rustix::process::pidfd_open(sentry, PidfdFlags::empty())?)
}
