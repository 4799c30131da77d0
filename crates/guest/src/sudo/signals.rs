//! The signals that a client passes on, and how it ends by one itself.

#![expect(unsafe_code, reason = "rustix has no dispositions of signals")]

use std::io;

use rustix::process::{Resource, Rlimit, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What is passed on; the kernel sends the first four when keys are pressed or a terminal changes.
pub(super) const FORWARDED: [Signal; 10] = [
    Signal::INT,
    Signal::QUIT,
    Signal::TSTP,
    Signal::WINCH,
    Signal::HUP,
    Signal::TERM,
    Signal::CONT,
    Signal::ALARM,
    Signal::USR1,
    Signal::USR2,
];

/// Most signals that wait to be passed on; the kernel, too, keeps each but once.
const WAITING_MAX: usize = FORWARDED.len();

/// The forwarded signal of that number.
pub(super) fn forwarded(number: u8) -> Option<Signal> {
    FORWARDED.into_iter().find(|signal| signal.as_raw() == i32::from(number))
}

/// Catches all signals that are passed on, but for those that whoever started the client wanted
/// ignored (`nohup`).
///
/// # Errors
/// The kernel's.
pub(super) fn catch() -> io::Result<mpsc::Receiver<Signal>> {
    let (caught, signals) = mpsc::channel(WAITING_MAX);
    for signal in FORWARDED.into_iter().filter(|signal| !is_ignored(*signal)) {
        let mut arrivals = self::signal(SignalKind::from_raw(signal.as_raw()))?;
        let caught = caught.clone();
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                if caught.send(signal).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(signals)
}

/// Ends this process by the signal that ended the command, as shells want to know it. Returns only
/// if the signal does not end processes.
pub(super) fn end_by(number: i32) {
    // The command may have left a core; another one, of the client, would help nobody.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _unlimited = rustix::process::setrlimit(Resource::Core, none);
    // SAFETY: it takes two numbers; the default disposition runs no code of ours.
    unsafe { libc::signal(number, libc::SIG_DFL) };
    if let Some(signal) = Signal::from_named_raw(number) {
        let _refused = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
}

fn is_ignored(signal: Signal) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: no new action is given, and the old one is written to memory of its type.
    let asked = unsafe { libc::sigaction(signal.as_raw(), std::ptr::null(), action.as_mut_ptr()) };
    if asked != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it has written the action.
    let action = unsafe { action.assume_init() };
    action.sa_sigaction == libc::SIG_IGN
}
