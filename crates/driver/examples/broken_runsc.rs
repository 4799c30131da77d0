//! A runsc whose Sentry fails at one step of a start: which one, the sandbox's limit of processes
//! says, as the OCI configuration is all of an order that reaches runsc.
//!
//! ```text
//! runsc create ─▶ `sentry` listens ─▶ answers CreateLinksAndRoutes ─▶ answers StartRoot ─▶ its pid
//!    201             202                 203 │ 204 │ 205                  206                 207
//! ```

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, ExitCode};

/// Where the launcher's box looks for the control socket.
const SOCKET: &str = "/state/runsc-sandbox.sock";
/// What a Sentry that is content answers.
const CONTENT: &str = r#"{"success":true,"err":"","result":{}}"#;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let told = |word: &str| arguments.iter().any(|argument| argument == word);
    if told("--version") {
        println!("runsc version 0.0~20240729.0");
        return ExitCode::SUCCESS;
    }
    let spec = std::fs::read_to_string("/bundle/config.json").unwrap_or_default();
    let fault = (201..=207).find(|fault| spec.contains(&format!("\"hard\":{fault}")));
    let done = if told("sentry") { serve(fault) } else { create(fault) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the injected failure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `runsc create`: ends once the Sentry listens.
fn create(fault: Option<u32>) -> std::io::Result<()> {
    match fault {
        Some(201) => return Err(std::io::Error::other("runsc cannot create")),
        Some(202) => return Ok(()),
        _ => {}
    }
    let mut sentry = Command::new("/bin/runsc")
        .arg("sentry")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut listening = [0; 1];
    sentry.stdout.take().map_or(Ok(()), |mut stdout| stdout.read_exact(&mut listening))
}

/// The Sentry: two calls, and the fault.
fn serve(fault: Option<u32>) -> std::io::Result<()> {
    let listener = UnixListener::bind(SOCKET)?;
    std::io::stdout().write_all(b"l")?;
    std::io::stdout().flush()?;
    let (mut peer, _) = listener.accept()?;
    await_call(&mut peer)?;
    match fault {
        Some(203) => {
            // Before the socket closes, as whoever panics does.
            eprintln!("the Sentry died");
            return Ok(());
        }
        Some(204) => return peer.write_all(br#"{"success":false,"err":"no such link"}"#),
        Some(205) => loop {
            peer.write_all(&[b' '; 1024])?;
        },
        _ => peer.write_all(CONTENT.as_bytes())?,
    }
    await_call(&mut peer)?;
    match fault {
        Some(206) => peer.write_all(br#"{"success":false,"err":"no such program"}"#),
        // Whoever waits for this one's pid waits in vain.
        _ => peer.write_all(CONTENT.as_bytes()),
    }
}

/// Waits for a call, which comes as one piece.
fn await_call(peer: &mut UnixStream) -> std::io::Result<()> {
    match peer.read(&mut [0; 4096])? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _call => Ok(()),
    }
}
