//! From a command's pipes and terminal to its subscribers.

use std::io;
use std::sync::Arc;

use courier_protocol::envd::process::DataEvent;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::Terminal;
use super::command::Command;

/// Most bytes of one chunk from a pipe; envd's value.
pub(super) const CHUNK_BYTES: usize = 32 * 1024;

/// Most bytes of one chunk from a terminal; envd's value.
const TERMINAL_CHUNK_BYTES: usize = 16 * 1024;

/// What a command writes to.
#[derive(Debug)]
pub(super) enum Source {
    Stdout(pipe::Receiver),
    Stderr(pipe::Receiver),
    Terminal(Arc<Terminal>),
}

impl Source {
    /// Publishes everything until its end. A source that fails has ended.
    pub(super) async fn pump(mut self, command: Arc<Command>) {
        while let Ok(Some(output)) = self.read().await {
            command.publish(output).await;
        }
    }

    async fn read(&mut self) -> io::Result<Option<DataEvent>> {
        let mut event = DataEvent::default();
        let (slot, bytes) = match self {
            Self::Stdout(pipe) => (&mut event.stdout, read_pipe(pipe).await?),
            Self::Stderr(pipe) => (&mut event.stderr, read_pipe(pipe).await?),
            Self::Terminal(terminal) => {
                (&mut event.pty, terminal.read(TERMINAL_CHUNK_BYTES).await?)
            }
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        *slot = Some(bytes);
        Ok(Some(event))
    }
}

async fn read_pipe(pipe: &mut pipe::Receiver) -> io::Result<Vec<u8>> {
    // Nothing is allocated for a command that is silent.
    pipe.readable().await?;
    let mut bytes = Vec::with_capacity(CHUNK_BYTES);
    pipe.read_buf(&mut bytes).await?;
    Ok(bytes)
}
