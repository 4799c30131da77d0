//! How a command ended, in the words of the wire.

use courier_protocol::envd::process::EndEvent;

use crate::reaper::Exit;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself or by a signal.
    Exited(Exit),
    /// Its lifetime was over.
    TimedOut(Exit),
}

impl End {
    pub(super) fn event(self) -> EndEvent {
        let (Self::Exited(exit) | Self::TimedOut(exit)) = self;
        let (exit_code, exited, status) = match exit {
            Exit::Code(code) => (code, true, format!("exit status {code}")),
            Exit::Signal(signal) => (-1, false, format!("signal: {}", signal_words(signal))),
        };
        let error = (exit != Exit::Code(0)).then(|| status.clone());
        EndEvent { exit_code, exited, status, error }
    }
}

/// A signal as Go's `syscall.Signal.String` on Linux names it, which is what envd sends.
fn signal_words(signal: i32) -> String {
    let words = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        number => return format!("signal {number}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_the_words_of_envd() {
        let event = End::Exited(Exit::Code(0)).event();
        assert_eq!((event.exit_code, event.exited, event.error), (0, true, None));
        assert_eq!(event.status, "exit status 0");
        let event = End::Exited(Exit::Code(3)).event();
        assert_eq!(event.error.as_deref(), Some("exit status 3"));
        let event = End::Exited(Exit::Signal(9)).event();
        assert_eq!((event.exit_code, event.exited), (-1, false));
        assert_eq!(event.error.as_deref(), Some("signal: killed"));
    }
}
