//! DNS over UDP and TCP.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::{Call, World};
use crate::rig::journal::Event;

/// Largest message over UDP that anybody sends.
const LARGEST: usize = 65_535;

/// Answers over UDP at one address, which must be the namespace's own.
pub(super) async fn listen(address: SocketAddr, world: Arc<World>) {
    let socket = UdpSocket::bind(address).await;
    let socket = socket.unwrap_or_else(|error| panic!("{address}: {error}"));
    tokio::spawn(async move {
        let mut buffer = vec![0; LARGEST];
        loop {
            let Ok((count, from)) = socket.recv_from(&mut buffer).await else { continue };
            let Some(question) = buffer.get(..count).and_then(|b| Message::from_vec(b).ok()) else {
                let bytes = buffer.get(..count).unwrap_or_default();
                let text = String::from_utf8_lossy(bytes).into_owned();
                world.journal.add(Event::Bytes { local: address, text });
                continue;
            };
            note(&world, address, "udp", &question);
            let mut answer = world.zone.answer(&question);
            let fits = |bytes: &Vec<u8>| bytes.len() <= usize::from(question.max_payload());
            if !answer.to_vec().as_ref().is_ok_and(fits) {
                answer = answer.truncate();
            }
            if let Ok(bytes) = answer.to_vec() {
                drop(socket.send_to(&bytes, from).await);
            }
        }
    });
}

/// Answers over one TCP connection: each message comes after its length.
pub(super) async fn serve(mut stream: TcpStream, call: &Call) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await?;
        let question = Message::from_vec(&bytes).map_err(std::io::Error::other)?;
        note(&call.world, call.local, "tcp", &question);
        let answer = call.world.zone.answer(&question).to_vec().map_err(std::io::Error::other)?;
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}

fn note(world: &World, local: SocketAddr, transport: &'static str, question: &Message) {
    for asked in &question.queries {
        let name = asked.name().to_ascii();
        let kind = asked.query_type().to_string();
        world.journal.add(Event::Question { local, transport, name, kind });
    }
}
