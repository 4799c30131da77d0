//! Checks of the way out of sandboxes: their link, names, certificates, presets.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use courier_driver::LINK_MTU;
use courier_egress::UpstreamTrust;
use courier_protocol::node::{PresetError, Presets};
use courier_types::egress::PresetName;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::check::Check;
use super::host::Host;
use crate::config::outside::OutsideArgs;
use crate::{compose, output, presets};

/// How long a DNS server may take to answer.
const DNS_DEADLINE: Duration = Duration::from_secs(2);
/// Port of DNS (RFC 1035, section 4.2).
const DNS_PORT: u16 = 53;
/// Most servers of `/etc/resolv.conf` that count (resolv.conf(5)).
const SERVERS_MAX: usize = 3;
/// Longest answer over UDP without extensions (RFC 1035, section 4.2.1).
const ANSWER_MAX: usize = 512;

/// All of them, for a node with that configuration.
pub(crate) async fn checks(host: &Host, outside: &OutsideArgs) -> Vec<Check> {
    let servers = match outside.egress_resolver.as_slice() {
        [] => servers(&host.read("etc/resolv.conf")),
        given => given.to_vec(),
    };
    let presets = compose::presets(outside);
    let mut checks = vec![link(), resolver(&servers), certificates(outside)];
    for name in presets::names() {
        checks.push(preset(&name, presets.as_ref()).await);
    }
    checks
}

/// A sandbox's link is a pair of sockets that carries whole packets.
fn link() -> Check {
    const NAME: &str = "network link";
    match carry(LINK_MTU) {
        Ok(()) => Check::good(NAME, format!("carries packets of {LINK_MTU} bytes")),
        Err(error) => Check::missing(
            NAME,
            format!("does not carry packets of {LINK_MTU} bytes ({error}): see net.core.wmem_max"),
        ),
    }
}

fn carry(bytes: usize) -> std::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let packet = vec![0_u8; bytes];
    let sent = rustix::net::send(pair.0.as_fd(), &packet, SendFlags::NOSIGNAL)?;
    let mut read = vec![0_u8; bytes + 1];
    let (_buffer, received) =
        rustix::net::recv(pair.1.as_fd(), read.as_mut_slice(), RecvFlags::empty())?;
    if (sent, received) == (bytes, bytes) {
        return Ok(());
    }
    Err(std::io::Error::other(format!("{sent} bytes went in, {received} came out")))
}

/// The servers of `/etc/resolv.conf`.
fn servers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    addresses.map(|address| SocketAddr::new(address, DNS_PORT)).take(SERVERS_MAX).collect()
}

fn resolver(servers: &[SocketAddr]) -> Check {
    const NAME: &str = "DNS";
    const REMEDY: &str = "sandboxes will resolve no names: name another server with \
                          `courier serve --egress-resolver ADDR[:PORT]`";
    if servers.is_empty() {
        return Check::advice(NAME, format!("/etc/resolv.conf names no server; {REMEDY}"));
    }
    let mut troubles = Vec::new();
    for server in servers {
        match ask(*server) {
            Ok(()) => return Check::good(NAME, format!("{server} answers")),
            Err(error) => troubles.push(format!("{server}: {error}")),
        }
    }
    Check::advice(NAME, format!("no server answers ({}); {REMEDY}", troubles.join(", ")))
}

/// Asks a server for the servers of the root, which every resolver knows, and takes any answer.
fn ask(server: SocketAddr) -> std::io::Result<()> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // From now on only what comes from there is read.
    socket.connect(server)?;
    socket.set_read_timeout(Some(DNS_DEADLINE))?;
    let id = std::process::id().to_le_bytes();
    let [first, second, ..] = id;
    // RFC 1035, section 4: one question, recursion desired; the root, type NS, class IN.
    let question = [first, second, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    socket.send(&question)?;
    let mut answer = [0; ANSWER_MAX];
    let length = socket.recv(&mut answer)?;
    match answer.get(..length) {
        Some([a, b, flags, ..]) if (*a, *b) == (first, second) && flags & 0x80 != 0 => Ok(()),
        Some(_) | None => Err(std::io::Error::other("what it sends is no answer")),
    }
}

/// Without any certificate, or with a file that cannot be read, no network can be made.
fn certificates(outside: &OutsideArgs) -> Check {
    const NAME: &str = "CA certificates";
    let extra = outside.egress_ca.iter().map(|path| compose::certificates(path));
    let extra = match extra.collect::<anyhow::Result<Vec<Vec<u8>>>>() {
        Ok(extra) => extra,
        Err(error) => return Check::missing(NAME, format!("{error:#}")),
    };
    match UpstreamTrust::new(&extra) {
        Ok(_trust) => Check::good(NAME, "are there, to check upstream servers by"),
        Err(error) => Check::missing(NAME, error.to_string()).mended_by([
            "apt-get update".to_owned(),
            "apt-get install --yes ca-certificates".to_owned(),
        ]),
    }
}

/// A preset that cannot be used keeps nobody from running sandboxes.
async fn preset(name: &PresetName, presets: &dyn Presets) -> Check {
    const NAME: &str = "preset";
    match presets.resolve(name).await {
        Ok(resolved) => {
            let mut hosts: Vec<String> =
                resolved.rules.iter().map(|rule| rule.to.to_string()).collect();
            hosts.sort();
            hosts.dedup();
            let login = if resolved.credentials.is_empty() { "" } else { ", with a login" };
            Check::good(NAME, format!("{name}: {}{login}", hosts.join(", ")))
        }
        Err(error) => Check::note(NAME, format!("{name} cannot be used: {}", cause(&error))),
    }
}

/// The innermost of what went wrong: the setting to make.
fn cause(error: &PresetError) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    output::printable_name(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_link_carries_the_largest_packet_here_and_not_one_that_no_buffer_holds() {
        assert_eq!(link().verdict, Verdict::Good, "{:?}", link());
        assert!(carry(1 << 30).is_err());
    }

    #[test]
    fn a_file_of_certificates_that_cannot_be_read_is_told() {
        let egress_ca = vec!["/nonexistent/ca.pem".into()];
        let check = certificates(&OutsideArgs { egress_ca, ..OutsideArgs::default() });
        assert_ne!(check.verdict, Verdict::Good);
        assert!(check.found.contains("/nonexistent/ca.pem"), "{}", check.found);
    }

    #[test]
    fn servers_are_those_of_resolv_conf() {
        let text = "# x\nsearch a.test\nnameserver 192.0.2.1\nnameserver 2001:db8::1 # y\n\
                    nameserver nonsense\nnameserver\noptions x\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn a_server_that_answers_is_told_from_one_that_does_not() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let mut question = [0; ANSWER_MAX];
            let (length, from) = server.recv_from(&mut question).unwrap();
            let mut answer = question[..length].to_vec();
            answer[2] |= 0x80;
            server.send_to(&answer, from).unwrap();
            // And once with the question itself, which is no answer.
            let (length, from) = server.recv_from(&mut question).unwrap();
            server.send_to(&question[..length], from).unwrap();
        });
        assert_eq!(resolver(&[address]).verdict, Verdict::Good);
        let check = resolver(&[address]);
        assert_eq!(check.verdict, Verdict::Advice);
        assert!(check.found.contains("--egress-resolver"), "{}", check.found);
        answering.join().unwrap();
        assert_eq!(resolver(&[]).verdict, Verdict::Advice);
    }

    #[tokio::test]
    async fn a_preset_that_cannot_be_used_is_a_note_with_the_setting_to_make() {
        struct Broken;
        #[async_trait::async_trait]
        impl Presets for Broken {
            async fn resolve(
                &self,
                name: &PresetName,
            ) -> Result<courier_protocol::node::ResolvedPreset, PresetError> {
                let source = std::io::Error::other("set index-url in pip.conf").into();
                Err(PresetError::Configuration { name: name.clone(), source })
            }

            fn secret(
                &self,
                _name: &courier_types::egress::SecretName,
            ) -> Option<courier_types::egress::SecretValue> {
                None
            }
        }
        let check = preset(&"pypi".parse().unwrap(), &Broken).await;
        assert_eq!(check.verdict, Verdict::Note);
        assert_eq!(check.found, "pypi cannot be used: set index-url in pip.conf");
    }
}
