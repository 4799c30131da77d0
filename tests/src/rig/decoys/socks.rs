//! A SOCKS5 proxy (RFC 1928, RFC 1929) that goes anywhere: for the right user and password, and for
//! those who offer none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::Call;
use crate::rig::journal::Event;

const VERSION: u8 = 5;
/// Methods: none; user and password.
const NOTHING: u8 = 0;
const PASSWORD: u8 = 2;
/// No method that the client offers will do.
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;
/// Answers: granted; host unreachable.
const GRANTED: u8 = 0;
const UNREACHABLE: u8 = 4;

/// Serves one connection.
pub(super) async fn serve(mut stream: TcpStream, call: &Call) -> std::io::Result<()> {
    let Some(user) = authenticate(&mut stream, call).await? else { return Ok(()) };
    let (host, port) = target(&mut stream).await?;
    let event = Event::Socks { local: call.local, user, target: format!("{host}:{port}") };
    call.world.journal.add(event);
    let address = host.parse().ok().or_else(|| call.world.zone.resolve(&host));
    let upstream = match address {
        Some(address) => TcpStream::connect(SocketAddr::new(address, port)).await.ok(),
        None => None,
    };
    let code = if upstream.is_some() { GRANTED } else { UNREACHABLE };
    stream.write_all(&[VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]).await?;
    if let Some(mut upstream) = upstream {
        copy_bidirectional(&mut stream, &mut upstream).await?;
    }
    Ok(())
}

/// The user, once the password is right; empty where the client offers none.
async fn authenticate(stream: &mut TcpStream, call: &Call) -> std::io::Result<Option<String>> {
    let _version = stream.read_u8().await?;
    let methods = short(stream).await?;
    if !methods.contains(&PASSWORD) {
        let open = methods.contains(&NOTHING);
        stream.write_all(&[VERSION, if open { NOTHING } else { NO_METHOD }]).await?;
        return Ok(open.then(String::new));
    }
    stream.write_all(&[VERSION, PASSWORD]).await?;
    let _version = stream.read_u8().await?;
    let given = (text(short(stream).await?), text(short(stream).await?));
    let right = given == call.world.credentials;
    stream.write_all(&[1, u8::from(!right)]).await?;
    Ok(right.then_some(given.0))
}

/// What the client wants to be connected to.
async fn target(stream: &mut TcpStream) -> std::io::Result<(String, u16)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [_version, command, _reserved, kind] = head;
    let host = match (command, kind) {
        (CONNECT, IPV4) => IpAddr::from(Ipv4Addr::from(stream.read_u32().await?)).to_string(),
        (CONNECT, IPV6) => IpAddr::from(Ipv6Addr::from(stream.read_u128().await?)).to_string(),
        (CONNECT, DOMAIN) => text(short(stream).await?),
        other => return Err(std::io::Error::other(format!("command and type {other:?}"))),
    };
    Ok((host, stream.read_u16().await?))
}

/// Bytes after their length.
async fn short(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u8().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
