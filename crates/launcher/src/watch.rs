//! What a box watches: its lifeline to the launcher, the log of what runs in it, and one more thing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// How much of runsc's and the guest's standard output is kept, in bytes; the rest is read and
/// forgotten, so that a guest can neither fill a disk with it nor block on it.
const LOG_TAIL: usize = 16 * 1024;
/// How much is read from the log at once.
const LOG_CHUNK: usize = 16 * 1024;

/// A box's eyes.
pub(crate) struct Watch<'a> {
    lifeline: &'a io::Stdin,
    log: File,
    tail: Vec<u8>,
}

/// What woke a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The launcher went.
    LifelineEnded,
    /// What was waited for is there.
    Ready,
    /// It was not there in time.
    TimedOut,
}

impl<'a> Watch<'a> {
    /// Watches the lifeline, and reads the log from its pipe.
    pub(crate) fn new(lifeline: &'a io::Stdin, log: io::PipeReader) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&log, true)?;
        Ok(Self { lifeline, log: File::from(OwnedFd::from(log)), tail: Vec::new() })
    }

    /// Waits until a descriptor is readable (a pidfd: until the process has ended) or the launcher
    /// has gone, and reads the log meanwhile. Without a patience it waits for as long as it takes.
    pub(crate) fn wait(
        &mut self,
        wanted: impl AsFd,
        patience: Option<Duration>,
    ) -> io::Result<Woken> {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut log_open = true;
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
            let mut fds = vec![
                PollFd::new(self.lifeline, PollFlags::IN),
                PollFd::new(&wanted, PollFlags::IN),
            ];
            if log_open {
                fds.push(PollFd::new(&self.log, PollFlags::IN));
            }
            match rustix::event::poll(&mut fds, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => return Ok(Woken::TimedOut),
                other => other?,
            };
            let woken: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            match woken.as_slice() {
                [true, ..] => return Ok(Woken::LifelineEnded),
                [_, true, ..] => return Ok(Woken::Ready),
                _ => log_open = self.read_log()?,
            }
        }
    }

    /// Reads what is in the log; false at its end.
    pub(crate) fn read_log(&mut self) -> io::Result<bool> {
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

    /// The end of the log so far.
    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
    }
}
