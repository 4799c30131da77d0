//! What the server adds to a kernel: `1+1` through it, beside the same through a bare local Jupyter
//! kernel client, in turn in one run. Needs the kernels of `scripts/setup` and a running server:
//!
//! ```text
//! cargo run --release -p courier-interpreter --example overhead -- 127.0.0.1:49999 PYTHON
//! ```
//!
//! PYTHON is an interpreter with ipykernel and jupyter_client, Jupyter's own client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Executions of each kind, in rounds that alternate.
const ROUNDS: usize = 20;
const PER_ROUND: usize = 25;

/// Answers each line of standard input with the milliseconds that one execution took.
const BARE: &str = "
import sys, time
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name='python3')
def run():
    start = time.perf_counter()
    wanted = client.execute('1+1')
    while True:
        message = client.get_iopub_msg(timeout=30)
        if message['parent_header'].get('msg_id') == wanted and message['content'].get('execution_state') == 'idle':
            return (time.perf_counter() - start) * 1000
run()
print('ready', flush=True)
for _ in sys.stdin:
    print(run(), flush=True)
manager.shutdown_kernel(now=True)
";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("the server's address is missing")?;
    let python = arguments.next().context("the path of a Python is missing")?;
    let mut bare = Command::new(python)
        .args(["-c", BARE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ask = bare.stdin.take().context("it was asked for")?;
    let mut lines = BufReader::new(bare.stdout.take().context("it was asked for")?).lines();
    lines.next().context("the bare kernel does not start")??;
    through(&address)?;
    let (mut alone, mut served) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..PER_ROUND {
            writeln!(ask)?;
            let line = lines.next().context("the bare kernel ended")??;
            alone.push(Duration::from_secs_f64(line.parse::<f64>()? / 1000.0));
        }
        for _ in 0..PER_ROUND {
            served.push(through(&address)?);
        }
    }
    drop(ask);
    bare.wait()?;
    report("bare kernel client", &mut alone);
    report("through the server", &mut served);
    Ok(())
}

fn through(address: &str) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    let body = r#"{"code":"1+1"}"#;
    write!(
        stream,
        "POST /execute HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains(r#""text":"2""#), "not an answer: {answer}");
    Ok(start.elapsed())
}

fn report(name: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("{name}: p50 {:?}, p95 {:?}, {} executions", at(50), at(95), times.len());
}
