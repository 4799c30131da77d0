//! The network of a sandbox: a loopback of its own, and one link of raw IP packets whose other end a
//! client holds. There is no other way out, and none of the host's interfaces is part of it.
//!
//! Every sandbox has the same addresses, as each link is a network of its own. They, the MTU and
//! the form of a packet are the contract with `courier-driver`, whose `Machine::link` is the other
//! end. IPv6 has only its loopback.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};

/// Longest IP packet on the link, in bytes: `LINK_MTU` of `courier-driver`.
const MTU: u32 = 65_520;
/// The guest's address on the link: `LINK_GUEST` of `courier-driver`.
const GUEST: &str = "192.0.0.2";
/// Length of its network's prefix: `LINK_PREFIX` of `courier-driver`.
const PREFIX: u8 = 29;
/// The default gateway: `LINK_HOST` of `courier-driver`.
const HOST: &str = "192.0.0.1";
/// What the guest calls the link, as programs expect it of a first interface.
const NAME: &str = "eth0";
/// Bytes that wait in one direction, as the kernel accounts them: a few of the largest packets, some
/// hundred small ones. The kernel takes less where `net.core.wmem_max` is less (212,992 as a rule)
/// and doubles what it takes.
const SEND_BUFFER: usize = 1 << 20;

/// A link: the host's end and the guest's. Neither blocks: a packet for which there is no room is
/// lost, as on any network.
pub(crate) fn link() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (host, guest) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    set_socket_send_buffer_size(&host, SEND_BUFFER)?;
    set_socket_send_buffer_size(&guest, SEND_BUFFER)?;
    Ok((host, guest))
}

/// The argument of the Sentry's `Network.CreateLinksAndRoutes`, which comes with one descriptor: the
/// guest's end. The names are those of `boot.CreateLinksAndRoutesArgs` in gVisor's
/// `runsc/boot/network.go`; addresses are text and masks base64, as Go's `net` package writes them.
pub(crate) fn configuration() -> Value {
    let route = |network: &str, mask: &str| json!({"Destination": {"IP": network, "Mask": mask}, "Gateway": null});
    json!({
        "LoopbackLinks": [{
            "Name": "lo",
            "Addresses": [
                {"Address": "127.0.0.1", "PrefixLen": 8},
                {"Address": "::1", "PrefixLen": 128},
            ],
            // 255.0.0.0, and 128 set bits.
            "Routes": [
                route("127.0.0.0", "/wAAAA=="),
                route("::1", "/////////////////////w=="),
            ],
        }],
        "FDBasedLinks": [{
            "Name": NAME,
            "MTU": MTU,
            "Addresses": [{"Address": GUEST, "PrefixLen": PREFIX}],
            // 255.255.255.248.
            "Routes": [route("192.0.0.0", "////+A==")],
            // No link address: packets have no link header.
            "LinkAddress": null,
            "NumChannels": 1,
            // Nothing between the two ends can damage a packet, so the guest need not look.
            "RXChecksumOffload": true,
            "TXChecksumOffload": false,
        }],
        "Defaultv4Gateway": {
            "Name": NAME,
            "Route": {"Destination": {"IP": "0.0.0.0", "Mask": "AAAAAA=="}, "Gateway": HOST},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_the_full_length_is_one_record_and_what_does_not_fit_is_refused_at_once() {
        let (host, guest) = link().unwrap();
        let packet = vec![7; MTU as usize];
        assert_eq!(rustix::io::write(&guest, &packet), Ok(packet.len()));
        let mut received = vec![0; packet.len() + 1];
        assert_eq!(rustix::io::read(&host, &mut received), Ok(packet.len()));
        assert_eq!(rustix::io::read(&host, &mut received), Err(rustix::io::Errno::AGAIN));
        let fitted = (0..).take_while(|_| rustix::io::write(&guest, &packet).is_ok()).count();
        assert!((3..=64).contains(&fitted), "{fitted} packets wait");
    }

    #[test]
    fn only_ipv4_leaves_loopback() {
        let told = configuration();
        let link = &told["FDBasedLinks"][0];
        assert_eq!(link["Addresses"], json!([{"Address": "192.0.0.2", "PrefixLen": 29}]));
        assert_eq!(told["Defaultv6Gateway"], Value::Null);
        assert_eq!(told["FDBasedLinks"].as_array().map(Vec::len), Some(1));
    }
}
