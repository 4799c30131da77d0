//! How the node reaches a port inside: `POST /ports/PORT`. Clients can never reach it: the proxy
//! answers 404.
//!
//! The answer is 200 as soon as the guest daemon is connected to the port on the loopback
//! interface. From then on the request's body is what goes to the server there and the answer's body
//! what comes from it; each ends when its sender has ended it, and either is broken off when the
//! connection is. 502 says that nothing listens.

/// What the path begins with; the port follows in decimal.
pub const PORTS_PATH: &str = "/ports/";

/// The path for a port.
#[must_use]
pub fn path(port: u16) -> String {
    format!("{PORTS_PATH}{port}")
}

/// The port of a path; `None` where it is none of these.
#[must_use]
pub fn port(path: &str) -> Option<u16> {
    let digits = path.strip_prefix(PORTS_PATH)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| *port > 0 && plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_comes_back_from_its_path_and_from_nothing_else() {
        for expected in [1, 8_080, u16::MAX] {
            assert_eq!(port(&path(expected)), Some(expected));
        }
        for no_port in ["/ports/", "/ports/0", "/ports/65536", "/ports/+1", "/ports/1/", "/port/1"]
        {
            assert_eq!(port(no_port), None, "{no_port}");
        }
    }
}
