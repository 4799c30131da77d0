//! Figures for `docs/decisions`, printed and not judged:
//! `cargo test --release -p courier-egress --lib measure -- --ignored --nocapture --test-threads 1`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Admission, LINK_MTU, RefusedPacket, Services, StackHandle, spawn};
use super::guest::{Guest, Socket, Wire};
use super::packets::{THERE, question, syn, udp};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(2);
/// What a copy between two streams takes at once.
const CHUNK: usize = 64 * 1024;
const MIB: f64 = 1_048_576.0;

/// Connects the guest to a server of the host's kernel, as the product does.
struct Splice(SocketAddr);

impl Services for Splice {
    fn dns(&self, query: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        async move { Some(query) }.boxed()
    }

    fn admit(&self, to: SocketAddrV4) -> BoxFuture<'static, Admission> {
        let upstream = self.0;
        async move {
            if to.port() == 1 {
                return Admission::Refuse;
            }
            Admission::Accept(Box::new(move |mut stream| {
                async move {
                    let mut upstream = TcpStream::connect(upstream).await.unwrap();
                    upstream.set_nodelay(true).unwrap();
                    // The guest's end of it is what ends this.
                    let _ended = tokio::io::copy_bidirectional_with_sizes(
                        &mut stream,
                        &mut upstream,
                        CHUNK,
                        CHUNK,
                    )
                    .await;
                }
                .boxed()
            }))
        }
        .boxed()
    }

    fn refused(&self, _what: RefusedPacket) {}
}

/// What an upstream does with a connection: its first byte says.
async fn upstream(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut chunk = vec![0; CHUNK];
    match stream.read_u8().await? {
        b'd' => loop {
            stream.write_all(&chunk).await?;
        },
        b'u' => while stream.read(&mut chunk).await? > 0 {},
        _ => loop {
            let count = stream.read(&mut chunk).await?;
            if count == 0 {
                break;
            }
            stream.write_all(&chunk[..count]).await?;
        },
    }
    Ok(())
}

/// A link with a stack on a runtime of its own, as the node has, and an upstream.
fn rig() -> (tokio::runtime::Runtime, StackHandle, OwnedFd) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(upstream(stream));
        }
    });
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (host, guest) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    for end in [&host, &guest] {
        rustix::net::sockopt::set_socket_send_buffer_size(end, 1 << 20).unwrap();
    }
    let handle = spawn(host, Arc::new(Splice(address))).unwrap();
    (runtime, handle, guest)
}

/// Runs a guest on a thread of its own.
fn as_guest(fd: OwnedFd, run: impl AsyncFnOnce(Guest)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut guest = Guest::new(fd);
        guest.buffer = 1 << 20;
        run(guest).await;
    });
}

fn there(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(THERE, port)
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[sorted.len() * percent / 100]
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    println!("{what}: p50 {p50:?}, p99 {p99:?}");
}

async fn idle(guest: &mut Guest, count: usize) {
    let buffer = std::mem::replace(&mut guest.buffer, 4_096);
    for _ in 0..count {
        let socket = guest.connect(there(80)).await;
        guest.socket(socket).send_slice(b"e").unwrap();
    }
    guest.buffer = buffer;
}

#[test]
#[ignore = "prints figures"]
fn measure_throughput() {
    for idle_count in [0, 500] {
        for direction in [b'd', b'u'] {
            let (_runtime, _handle, fd) = rig();
            as_guest(fd, async |mut guest: Guest| {
                idle(&mut guest, idle_count).await;
                let socket = guest.connect(there(80)).await;
                guest.socket(socket).send_slice(&[direction]).unwrap();
                let zeros = vec![0; CHUNK];
                let begun = Instant::now();
                let mut sum = 0;
                guest
                    .until("done", |sockets| {
                        let socket = sockets.get_mut::<Socket>(socket);
                        if direction == b'u' {
                            sum += socket.send_slice(&zeros).unwrap();
                        }
                        while let Ok(count @ 1..) = socket.recv(|data| (data.len(), data.len())) {
                            sum += count;
                        }
                        begun.elapsed() > SPAN
                    })
                    .await;
                let rate = sum as f64 / MIB / begun.elapsed().as_secs_f64();
                println!("{} with {idle_count} idle: {rate:.0} MiB/s", direction as char);
            });
        }
    }
}

#[test]
#[ignore = "prints figures"]
fn measure_latency() {
    for idle_count in [0, 500] {
        let (_runtime, _handle, fd) = rig();
        as_guest(fd, async |mut guest: Guest| {
            idle(&mut guest, idle_count).await;
            let socket = guest.connect(there(80)).await;
            guest.socket(socket).send_slice(b"e").unwrap();
            let mut times = Vec::new();
            for _ in 0..3_000 {
                let begun = Instant::now();
                assert_eq!(guest.exchange(socket, b"x").await, b"x");
                times.push(begun.elapsed());
            }
            show(&format!("there and back with {idle_count} idle"), times);
            let mut times = Vec::new();
            for _ in 0..500 {
                let begun = Instant::now();
                let socket = guest.connect(there(80)).await;
                guest.socket(socket).send_slice(b"e").unwrap();
                assert_eq!(guest.exchange(socket, b"x").await, b"x");
                times.push(begun.elapsed());
                guest.socket(socket).abort();
                guest.poll();
                guest.sockets.remove(socket);
            }
            show(&format!("connect and first byte with {idle_count} idle"), times);
        });
    }
}

#[test]
#[ignore = "prints figures"]
fn measure_floods() {
    let packets = [
        ("refused datagrams", udp(there(9), b"x")),
        ("questions", question(b"q")),
        ("refused connections", syn(40_000, there(1))),
        ("segments of nothing", super::packets::segment(40_000, there(1), &Default::default())),
        ("largest datagrams", udp(there(9), &vec![0; LINK_MTU - 28])),
    ];
    for (what, packet) in packets {
        let (_runtime, _handle, fd) = rig();
        rustix::io::ioctl_fionbio(&fd, false).unwrap();
        let reader = fd.try_clone().unwrap();
        let drain = std::thread::spawn(move || {
            let mut chunk = vec![0_u8; LINK_MTU];
            while rustix::net::recv(&reader, &mut chunk[..], RecvFlags::empty())
                .is_ok_and(|(_, count)| count > 0)
            {}
        });
        let (begun, cpu) = (Instant::now(), cpu_now());
        let mut count = 0_u32;
        while begun.elapsed() < SPAN {
            rustix::net::send(&fd, &packet, SendFlags::NOSIGNAL).unwrap();
            count += 1;
        }
        let spent = begun.elapsed();
        println!(
            "{what}: {:.0} a second, {:.1} cores in all",
            f64::from(count) / spent.as_secs_f64(),
            (cpu_now() - cpu) / spent.as_secs_f64(),
        );
        rustix::net::shutdown(&fd, rustix::net::Shutdown::Both).unwrap();
        drain.join().unwrap();
    }
}

/// Seconds of processor that this process has used.
fn cpu_now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "prints figures"]
fn measure_memory() {
    println!("a connection is {} bytes", size_of::<super::super::connection::Connection>());
    let (runtime, handle, script, fd) = {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let (handle, script, fd) = super::script::start();
        drop(entered);
        (runtime, handle, script, fd)
    };
    let runtime_of_guest =
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime_of_guest.block_on(async {
        let wire = Wire::new(fd);
        let open = async |from: u16, count: u16, data: &[u8]| {
            for port in from..from + count {
                use super::packets::{Segment, Tcp, segment};
                let to = there(super::script::HAND + 1_000);
                assert!(wire.send(&syn(port, to)).await);
                let answer = Tcp::of(&wire.next().await.unwrap());
                let mut seq = 1_001;
                for data in data.chunks(65_000) {
                    let of = Segment { seq, ack: Some(answer.seq + 1), data, ..Segment::default() };
                    assert!(wire.send(&segment(port, to, &of)).await);
                    seq += i32::try_from(data.len()).unwrap();
                }
                let of = Segment { seq, ack: Some(answer.seq + 1), ..Segment::default() };
                assert!(wire.send(&segment(port, to, &of)).await);
                while wire
                    .0
                    .try_io(tokio::io::Interest::READABLE, |fd| {
                        Ok(rustix::net::recv(fd, &mut [0_u8; 1][..], RecvFlags::empty())?)
                    })
                    .is_ok()
                {}
            }
        };
        let before = resident();
        open(10_000, 400, b"").await;
        let idle = resident();
        open(20_000, 400, &[b'x'; 65_000 * 3]).await;
        let full = resident();
        let sure = async {
            while handle.connections() < 800 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(super::script::PATIENCE, sure).await.unwrap();
        println!(
            "idle: {} KiB each; with 195 kB echoed and unread: {} KiB each",
            (idle - before) / 400,
            (full - idle) / 400
        );
    });
    drop((runtime, script));
}

#[test]
#[ignore = "prints figures"]
fn measure_floor() {
    // One copy through the link, without a stack.
    let (host, guest) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let reader = std::thread::spawn(move || {
        let mut chunk = vec![0_u8; LINK_MTU];
        let mut sum = 0;
        while let Ok((_, count @ 1..)) =
            rustix::net::recv(&guest, &mut chunk[..], RecvFlags::empty())
        {
            sum += count;
        }
        sum
    });
    let begun = Instant::now();
    let packet = vec![0_u8; LINK_MTU];
    while begun.elapsed() < SPAN {
        rustix::net::send(&host, &packet, SendFlags::NOSIGNAL).unwrap();
    }
    drop(host);
    let sum = reader.join().unwrap();
    println!("link alone: {:.0} MiB/s", sum as f64 / MIB / begun.elapsed().as_secs_f64());
    // TCP over the kernel's loopback.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            upstream(stream).await
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"d").await.unwrap();
        let begun = Instant::now();
        let (mut sum, mut chunk) = (0, vec![0; CHUNK]);
        while begun.elapsed() < SPAN {
            sum += stream.read(&mut chunk).await.unwrap();
        }
        println!(
            "kernel's TCP alone: {:.0} MiB/s",
            sum as f64 / MIB / begun.elapsed().as_secs_f64()
        );
    });
}

#[test]
#[ignore = "prints figures"]
fn measure_one_set_for_all() {
    // What a poll costs that finds nothing to do, with all connections in one set, as the guest of
    // these tests has them and the stack does not.
    for count in [1, 501] {
        let (_runtime, _handle, fd) = rig();
        as_guest(fd, async |mut guest: Guest| {
            idle(&mut guest, count).await;
            guest.until("quiet", |sockets| sockets.iter().count() == count).await;
            let begun = Instant::now();
            for _ in 0..1_000 {
                guest.poll();
            }
            println!("a poll of {count} in one set: {:?}", begun.elapsed() / 1_000);
        });
    }
}
