//! The outside: a SOCKS5 proxy (RFC 1928) behind which every address of a test is, and which knows
//! who was dialled.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What is at an address.
#[derive(Debug, Clone)]
pub(super) enum Service {
    /// Gives back what it gets, and ends when the client does.
    Echo,
    /// The same in TLS.
    TlsEcho(Arc<ServerConfig>),
    /// Says something, and then what it got when the client has ended.
    Greeter(&'static str),
    /// HTTP in clear: answers every request with what it got.
    Http,
    /// The same in TLS.
    Https(Arc<ServerConfig>),
}

#[derive(Debug, Default)]
struct Seen {
    dialled: Vec<SocketAddrV4>,
    requests: Vec<String>,
}

/// The outside.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    /// Where its proxy is, `HOST:PORT`.
    pub(super) proxy: String,
    services: Arc<Mutex<HashMap<SocketAddrV4, Service>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Outside {
    pub(super) async fn start<const N: usize>(services: [(&str, Service); N]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let services = services.into_iter().map(|(at, what)| (at.parse().unwrap(), what));
        let outside = Self {
            proxy: listener.local_addr().unwrap().to_string(),
            services: Arc::new(Mutex::new(services.collect())),
            seen: Arc::default(),
        };
        let serving = outside.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = serving.clone();
                // A client that goes away ends its connection, which is what some tests want.
                tokio::spawn(async move { serving.serve(stream).await.ok() });
            }
        });
        outside
    }

    /// Who was dialled, in order.
    pub(super) fn dialled(&self) -> Vec<SocketAddrV4> {
        self.seen.lock().unwrap().dialled.clone()
    }

    /// The heads of the requests that came, in order.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }

    async fn serve(self, mut stream: TcpStream) -> io::Result<()> {
        let to = asked_for(&mut stream).await?;
        self.seen.lock().unwrap().dialled.push(to);
        let service = self.services.lock().unwrap().get(&to).cloned();
        let Some(service) = service else {
            return stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        };
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        match service {
            Service::Echo => echo(stream).await,
            Service::TlsEcho(config) => echo(TlsAcceptor::from(config).accept(stream).await?).await,
            Service::Greeter(words) => greet(stream, words).await,
            Service::Http => self.http(stream).await,
            Service::Https(config) => {
                self.http(TlsAcceptor::from(config).accept(stream).await?).await
            }
        }
    }

    async fn http<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = bytes.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{head}",
                    head.len()
                );
                self.seen.lock().unwrap().requests.push(head);
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
    }
}

/// Takes the client's greeting and request.
async fn asked_for(stream: &mut TcpStream) -> io::Result<SocketAddrV4> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    let mut methods = vec![0; greeting[1].into()];
    stream.read_exact(&mut methods).await?;
    stream.write_all(&[5, 0]).await?;
    let mut request = [0; 10];
    stream.read_exact(&mut request).await?;
    assert_eq!(request[..4], [5, 1, 0, 1], "an address is asked for, never a name");
    let [.., a, b, c, d, high, low] = request;
    Ok(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
}

async fn greet(mut stream: TcpStream, words: &str) -> io::Result<()> {
    stream.write_all(words.as_bytes()).await?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await?;
    stream.write_all(&said).await?;
    stream.shutdown().await
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            len => {
                stream.write_all(&buffer[..len]).await?;
                stream.flush().await?;
            }
        }
    }
}
