//! `courier-launcher box`: pid 1 of a sandbox's pid namespace, between launcher and Sentry.
//!
//! ```text
//! config ─▶ walls up (cgroup, namespaces, root) ─▶ runsc run -detach ─▶ capabilities dropped
//!        ─▶ wait for: the Sentry's end │ the lifeline's end ─▶ exit, and the kernel kills the rest
//! ```
//!
//! Once the Sentry runs, this process has no capability, no descriptor but the lifeline and the
//! log, and sees nothing of the host but its own small root.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Uid};

use crate::control::{BoxConfig, Report};
use crate::{privileges, record, walls};

/// How much of runsc's and the guest's standard output is kept, in bytes; the rest is read and
/// forgotten, so that a guest can neither fill a disk with it nor block on it.
const LOG_TAIL: usize = 16 * 1024;
/// How much is read from the log at once.
const LOG_CHUNK: usize = 16 * 1024;
/// The sandbox's id inside its own runsc state, which it shares with nobody.
const ID: &str = "sandbox";
/// Where runsc writes the Sentry's pid.
const PID_FILE: &str = "/state/sentry.pid";

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

/// Why the Sentry never ran.
struct Failure {
    what: String,
    log: String,
}

/// Names the step that failed.
fn step<T>(what: &str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure { what: format!("{what}: {error}"), log: String::new() })
}

fn live(control: &io::Stdin) -> Result<(), Failure> {
    let received = step("receive the configuration", record::receive::<BoxConfig>(control))?;
    let Some((config, fds)) = received else { return Ok(()) };
    let [channel, image, disk] = <[OwnedFd; 3]>::try_from(fds).map_err(|fds| Failure {
        what: format!("{} descriptors", fds.len()),
        log: String::new(),
    })?;
    step("leave the session", rustix::process::setsid().map_err(io::Error::from))?;
    step("join the cgroup", join(&config))?;
    step("build the walls", walls::build(&config, &image, disk))?;
    step("give up privileges", privileges::reduce_for_runsc(&config.limits, config.turn))?;
    let (log, log_end) = step("make the log", io::pipe())?;
    let runsc = step("run runsc", spawn(channel, log_end))?;
    let mut watch = Watch { control, log: File::from(OwnedFd::from(log)), tail: Vec::new() };
    step(
        "make the log non-blocking",
        rustix::io::ioctl_fionbio(&watch.log, true).map_err(io::Error::from),
    )?;
    let sentry = watch.start(runsc)?;
    drop(image);
    step("give up all privileges", privileges::drop_all())?;
    step("report", record::send(control, &Report::Up, &[]))?;
    if let Some(report) = step("wait", watch.until_end(sentry))? {
        step("report", record::send(control, &report, &[]))?;
    }
    Ok(())
}

fn join(config: &BoxConfig) -> io::Result<()> {
    config.join.iter().try_for_each(|file| fs::write(file, "0"))
}

/// Starts `runsc run -detach`: it exits when the Sentry runs the guest.
fn spawn(channel: OwnedFd, log: io::PipeWriter) -> io::Result<Child> {
    privileges::set_oom_score(privileges::GUEST_OOM_SCORE, "self")?;
    let child = Command::new(walls::RUNSC)
        .args(["--root=/state", "-network=none", "-directfs=false", "-ignore-cgroups"])
        .args(["-platform=systrap", "run", "-detach", "-bundle", crate::oci::BUNDLE])
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

/// What a box watches.
struct Watch<'a> {
    control: &'a io::Stdin,
    log: File,
    tail: Vec<u8>,
}

/// What woke a box.
enum Woken {
    LifelineEnded,
    ProcessEnded,
}

impl Watch<'_> {
    /// Waits until runsc has exited; returns the Sentry.
    fn start(&mut self, mut runsc: Child) -> Result<OwnedFd, Failure> {
        let pid = Pid::from_child(&runsc);
        let pidfd = step(
            "watch runsc",
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from),
        )?;
        match step("wait for runsc", self.wait(&pidfd))? {
            Woken::ProcessEnded => {}
            Woken::LifelineEnded => {
                return Err(Failure { what: "the launcher went".into(), log: String::new() });
            }
        }
        let status = step("wait for runsc", runsc.wait())?;
        if !status.success() {
            step("read the log", self.read_log())?;
            return Err(Failure { what: format!("runsc ended with {status}"), log: self.tail() });
        }
        let text = step("read the Sentry's pid", fs::read_to_string(PID_FILE))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid =
            step("read the Sentry's pid", pid.ok_or_else(|| io::ErrorKind::InvalidData.into()))?;
        step("watch the Sentry", sentry(pid))
            .map_err(|failure| Failure { log: self.tail(), ..failure })
    }

    /// Waits for the end of the Sentry or of the launcher; nothing to report after the latter.
    fn until_end(&mut self, sentry: OwnedFd) -> io::Result<Option<Report>> {
        match self.wait(&sentry)? {
            Woken::LifelineEnded => return Ok(None),
            Woken::ProcessEnded => {}
        }
        self.read_log()?;
        let status = rustix::process::waitid(
            rustix::process::WaitId::PidFd(sentry.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        )?;
        let (signal, code) = status
            .map_or((None, None), |status| (status.terminating_signal(), status.exit_status()));
        let what = match (signal, code) {
            (Some(signal), _) => format!("the Sentry was killed by signal {signal}"),
            (None, Some(code)) => format!("the guest daemon or the Sentry exited with {code}"),
            (None, None) => "the Sentry ended".to_owned(),
        };
        Ok(Some(Report::Ended {
            failed: code != Some(0),
            what,
            disk_bytes: walls::disk_bytes("/".as_ref()).unwrap_or_default(),
            log: self.tail(),
        }))
    }

    /// Waits for the end of a process or of the launcher, and reads the log meanwhile.
    fn wait(&mut self, process: &OwnedFd) -> io::Result<Woken> {
        let mut log_open = true;
        loop {
            let mut fds =
                vec![PollFd::new(self.control, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
            if log_open {
                fds.push(PollFd::new(&self.log, PollFlags::IN));
            }
            match rustix::event::poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let woken: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            match woken.as_slice() {
                [true, ..] => return Ok(Woken::LifelineEnded),
                [_, true, ..] => return Ok(Woken::ProcessEnded),
                _ => log_open = self.read_log()?,
            }
        }
    }

    /// Reads what is there; false at the end.
    fn read_log(&mut self) -> io::Result<bool> {
        let mut chunk = [0_u8; LOG_CHUNK];
        match self.log.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.tail.extend_from_slice(chunk.get(..count).unwrap_or_default());
                let surplus = self.tail.len().saturating_sub(LOG_TAIL);
                self.tail.drain(..surplus);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
    }
}

/// Makes the Sentry the last that the kernel kills for memory: first go the guest's processes.
fn sentry(pid: Pid) -> io::Result<OwnedFd> {
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let user = Uid::from_raw(fs::metadata(&proc)?.uid());
    privileges::set_oom_score_as(user, 0, &pid.as_raw_nonzero().to_string())?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}
