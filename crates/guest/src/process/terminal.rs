//! Terminals: the daemon's end of a PTY.

use std::io;
use std::os::fd::OwnedFd;

use courier_protocol::envd::process::PtySize;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;

/// Size of a terminal whose starter does not say.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// The daemon's end of a PTY.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    /// Makes a PTY; the second value is the command's end.
    ///
    /// # Errors
    /// The kernel has no more, or none at all.
    pub(crate) fn open(size: Option<&PtySize>) -> io::Result<(Self, OwnedFd)> {
        let (master, slave) = open_pair(winsize(size))?;
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "its successor is unsafe, and an OwnedFd cannot go wrong")]
        let master = AsyncFd::new(master)?;
        Ok((Self { master }, slave))
    }

    /// Reads what the command wrote, at most `chunk` bytes; none at its end.
    pub(crate) async fn read(&self, chunk: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(chunk);
        loop {
            let mut guard = self.master.readable().await?;
            let read = guard.try_io(|master| {
                let room = rustix::buffer::spare_capacity(&mut bytes);
                Ok(rustix::io::read(master.get_ref(), room)?)
            });
            match read {
                Ok(Ok(_count)) => return Ok(bytes),
                // Linux says EIO when the last descriptor of the command's end is closed.
                Ok(Err(error)) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                    return Ok(Vec::new());
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Types all of `bytes`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.master.writable().await?;
            match guard.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?)) {
                Ok(Ok(count)) => bytes = bytes.get(count..).unwrap_or_default(),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Changes its size; the command gets SIGWINCH.
    pub(crate) fn resize(&self, size: &PtySize) -> io::Result<()> {
        Ok(rustix::termios::tcsetwinsize(self.master.get_ref(), winsize(Some(size)))?)
    }
}

/// Makes a PTY of that size: the daemon's end and the command's.
pub(crate) fn open_pair(size: Winsize) -> io::Result<(OwnedFd, OwnedFd)> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(&name, flags, Mode::empty())?;
    rustix::termios::tcsetwinsize(&master, size)?;
    Ok((master, slave))
}

/// Gives a terminal to a user, so that programs that open it by name can.
pub(crate) fn give(slave: &OwnedFd, uid: u32, gid: u32) {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    // Where the kernel refuses, the inherited descriptors still work.
    let _refused = rustix::fs::fchown(slave, Some(uid), Some(gid));
}

fn winsize(size: Option<&PtySize>) -> Winsize {
    let bounded = |value: u32, default: u16| match u16::try_from(value) {
        Ok(0) | Err(_) => default,
        Ok(value) => value,
    };
    let (cols, rows) = size.map_or((0, 0), |size| (size.cols, size.rows));
    Winsize {
        ws_col: bounded(cols, DEFAULT_SIZE.0),
        ws_row: bounded(rows, DEFAULT_SIZE.1),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
