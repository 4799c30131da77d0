//! `courier bench ports`: a large download from a server inside, through the port proxy, beside the
//! same through a plain TCP relay between two processes' worth of sockets on the loopback interface.
//!
//! The relay's origin is a program of the host; what the sandbox's own network can move is told too,
//! by a client inside that fetches the same from the same server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use courier_client::{Event, Events};
use indicatif::ProgressBar;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::samples::{Results, Samples};
use super::service::{Measured, Service};
use super::{Args, WARM_UP, unless_interrupted};
use crate::config::{Config, TEMPLATE};
use crate::template;

/// Bytes of one download: a hundred megabytes.
const BYTES: u64 = 100_000_000;
/// The server's port inside.
const PORT: u16 = 8_000;
/// What runs the program inside; in the template `base`.
const PYTHON: &str = "/usr/bin/python3";
/// The program.
const PROGRAM: &str = include_str!("ports.py");
/// How much is moved at once: what a simple relay takes.
const PIECE_BYTES: usize = 64 * 1_024;
/// Longest head of an answer.
const HEAD_MAX: usize = 16 * 1_024;
/// Longest download: minutes where a debug build moves all the bytes.
const DEADLINE: Duration = Duration::from_secs(120);

/// Measures it.
pub(super) async fn measure(args: &Args, config: &Config) -> anyhow::Result<Results> {
    template::ensure(config, TEMPLATE).await?;
    let service = Service::start(config, &[]).await?;
    let measured = unless_interrupted(downloads(&service, args.runs)).await;
    let stopped = service.stop().await;
    let results = measured?;
    stopped.context("the measured server was not ended cleanly")?;
    Ok(results)
}

async fn downloads(service: &Service, runs: u32) -> anyhow::Result<Results> {
    let mut results = Results::new(service.technology().await?)?;
    let sandbox = service.create(None).await?;
    let mut server = sandbox.start(PYTHON, arguments("serve")).await?;
    line(&mut server).await.context("the server inside does not start")?;
    let relay = Relay::start().await?;
    let (mut floor, mut ours, mut inside) =
        (Samples::default(), Samples::default(), Samples::default());
    let bar = ProgressBar::new(u64::from(runs + WARM_UP));
    for run in 0..runs + WARM_UP {
        floor.add_warm(run, download(relay.address, "Host: floor").await?);
        let headers = format!(
            "Host: localhost\r\nE2b-Sandbox-Id: {}\r\nE2b-Sandbox-Port: {PORT}",
            sandbox.id
        );
        ours.add_warm(run, download(service.address(), &headers).await?);
        inside.add_warm(run, fetch_inside(&sandbox).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    service.kill(&sandbox).await?;
    let floors = ["100 MB through a plain TCP relay", "100 MB within the sandbox"];
    let [by_relay, within] = floors;
    results.add_bytes(by_relay, &floor, BYTES, &[]);
    results.add_bytes(within, &inside, BYTES, &[]);
    results.add_bytes("100 MB through the port proxy", &ours, BYTES, &floors);
    Ok(results)
}

fn arguments(mode: &str) -> Vec<String> {
    let (size, port) = (BYTES.to_string(), PORT.to_string());
    vec!["-c".to_owned(), PROGRAM.to_owned(), size, port, mode.to_owned()]
}

/// The program's next line of output.
async fn line(events: &mut Events) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let waited = tokio::time::timeout(DEADLINE, async {
        while let Some(event) = events.next().await? {
            match event {
                Event::Stdout(more) => text.extend_from_slice(&more),
                Event::Stderr(more) => bail!(
                    "the program inside failed: {}",
                    crate::output::printable(&String::from_utf8_lossy(&more))
                ),
                Event::Started { .. } | Event::Pty(_) => {}
                Event::Ended(end) => bail!("the program inside ended ({})", end.status),
            }
            if text.ends_with(b"\n") {
                break;
            }
        }
        Ok(())
    });
    waited.await.context("the program inside takes too long")??;
    Ok(String::from_utf8(text)?.trim_end().to_owned())
}

/// One download by a client in the sandbox itself.
async fn fetch_inside(sandbox: &Measured) -> anyhow::Result<Duration> {
    let mut client = sandbox.start(PYTHON, arguments("fetch")).await?;
    Ok(Duration::from_micros(line(&mut client).await?.parse()?))
}

/// One download: from the connection's first packet to the answer's last byte.
async fn download(from: SocketAddr, headers: &str) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let whole = tokio::time::timeout(DEADLINE, async {
        let mut stream = TcpStream::connect(from).await?;
        let request = format!("GET / HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream).await
    });
    let body = whole.await.context("the download takes too long")??;
    if body != BYTES {
        bail!("the answer has {body} bytes instead of {BYTES}");
    }
    Ok(started.elapsed())
}

/// Reads an answer to its end and returns the length of its body.
async fn read_answer(stream: &mut TcpStream) -> anyhow::Result<u64> {
    let mut head = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut body = loop {
        let count = stream.read(&mut piece).await?;
        head.extend_from_slice(piece.get(..count).unwrap_or_default());
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            if !head.starts_with(b"HTTP/1.1 200 ") {
                let line = String::from_utf8_lossy(head.get(..end).unwrap_or_default());
                bail!("the answer is {:?}", crate::output::printable(&line));
            }
            break head.len() - end - 4;
        }
        if count == 0 || head.len() > HEAD_MAX {
            bail!("there is no answer");
        }
    };
    loop {
        match stream.read(&mut piece).await? {
            0 => return Ok(u64::try_from(body)?),
            count => body += count,
        }
    }
}

/// A plain relay on the loopback interface, with a server behind it.
struct Relay {
    address: SocketAddr,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Relay {
    async fn start() -> anyhow::Result<Self> {
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (behind, address) = (origin.local_addr()?, relay.local_addr()?);
        let serve = tokio::spawn(accept(origin, answer));
        let pass = tokio::spawn(accept(relay, move |client| pass(client, behind)));
        Ok(Self { address, _tasks: [serve, pass].map(AbortOnDropHandle::new) })
    }
}

/// Serves connections one after the other; one that fails shows in its client's figures.
async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = std::io::Result<()>>,
{
    while let Ok((client, _peer)) = listener.accept().await {
        if let Err(error) = serve(client).await {
            tracing::warn!(%error, "a connection of the relay broke");
        }
    }
}

async fn pass(mut client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    let size = PIECE_BYTES;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, size, size).await?;
    Ok(())
}

async fn answer(mut client: TcpStream) -> std::io::Result<()> {
    let mut request = vec![0; HEAD_MAX];
    let _a_small_request_comes_at_once = client.read(&mut request).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await?;
    let piece = vec![0; 1 << 20];
    let mut left = usize::try_from(BYTES).unwrap_or(usize::MAX);
    while left > 0 {
        left -= client.write(piece.get(..left).unwrap_or(&piece)).await?;
    }
    client.shutdown().await
}
