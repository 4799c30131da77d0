//! Where a command's input goes.

use std::io;
use std::sync::Arc;

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::process::ProcessInput;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use super::Terminal;

/// Where a command's input goes.
#[derive(Debug)]
pub(super) enum Input {
    /// To the pipe that is its standard input, until somebody closes it.
    Pipe(Mutex<Option<pipe::Sender>>),
    /// To its terminal.
    Terminal(Arc<Terminal>),
    /// Nowhere: its standard input is `/dev/null`.
    Null,
}

impl Input {
    /// Writes all of a piece, and waits while the command does not read.
    pub(super) async fn write(&self, input: ProcessInput) -> Result<(), ConnectError> {
        match (self, input) {
            (Self::Terminal(terminal), ProcessInput { pty: Some(bytes), .. }) => {
                terminal.write_all(&bytes).await.map_err(|error| unwritable(&error))
            }
            (Self::Pipe(pipe), ProcessInput { stdin: Some(bytes), .. }) => {
                let mut pipe = pipe.lock().await;
                let Some(pipe) = pipe.as_mut() else {
                    return Err(refused("the command's standard input is closed"));
                };
                pipe.write_all(&bytes).await.map_err(|error| unwritable(&error))
            }
            (Self::Null, ProcessInput { stdin: Some(_), .. }) => {
                Err(refused("the command was started without standard input"))
            }
            (Self::Terminal(_), ProcessInput { stdin: Some(_), .. }) => {
                Err(ConnectError::invalid_argument("the command has a terminal: send `pty` input"))
            }
            (_, ProcessInput { pty: Some(_), .. }) => {
                Err(ConnectError::invalid_argument("the command has no terminal"))
            }
            (_, ProcessInput { stdin: None, pty: None }) => {
                Err(ConnectError::invalid_argument("the request has no input"))
            }
        }
    }

    /// Closes the pipe; closed already is success.
    pub(super) async fn close(&self) -> Result<(), ConnectError> {
        match self {
            Self::Pipe(pipe) => {
                pipe.lock().await.take();
                Ok(())
            }
            Self::Null => Ok(()),
            Self::Terminal(_) => Err(ConnectError::invalid_argument(
                "a terminal's input cannot be closed: send it an end-of-file character (0x04)",
            )),
        }
    }

    /// Resizes the terminal.
    pub(super) fn terminal(&self) -> Result<&Terminal, ConnectError> {
        match self {
            Self::Terminal(terminal) => Ok(terminal),
            Self::Pipe(_) | Self::Null => {
                Err(ConnectError::invalid_argument("the command has no terminal"))
            }
        }
    }
}

fn refused(why: &str) -> ConnectError {
    ConnectError::new(Code::FailedPrecondition, why)
}

fn unwritable(error: &io::Error) -> ConnectError {
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    ConnectError::new(code, format!("error writing to the command's input: {error}"))
}
