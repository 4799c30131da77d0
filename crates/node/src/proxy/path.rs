//! The paths that clients may use. Whatever is not here does not exist outside: the guest daemon's
//! own paths for the node (`/init`, `/ready`, `/freeze`, ...) cannot be spelled.

use http::Method;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `GET /health`: open to everybody.
    Health,
    /// `GET /files`: a token or a signature.
    ReadFile,
    /// `POST /files`: a token or a signature.
    WriteFile,
    /// Everything else: a token.
    Other,
}

/// Services of the envd protocol.
const SERVICES: [&str; 2] = ["/process.Process/", "/filesystem.Filesystem/"];

impl Endpoint {
    /// The endpoint of a method and a path as it stands on the wire, not decoded: a path that hides
    /// behind percent signs or slashes is none.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        match path {
            "/health" if *method == Method::GET => Some(Self::Health),
            "/files" if *method == Method::GET => Some(Self::ReadFile),
            "/files" if *method == Method::POST => Some(Self::WriteFile),
            "/health" | "/files" | "/files/compose" | "/metrics" | "/envs" => Some(Self::Other),
            rpc => {
                let name = SERVICES.iter().find_map(|service| rpc.strip_prefix(service))?;
                let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
                is_name.then_some(Self::Other)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_node_cannot_be_spelled_by_a_client() {
        let reserved = [
            "init",
            "ready",
            "freeze",
            "unfreeze",
            "upgrade",
            "collapse",
            "fsfreeze",
            "fsthaw",
            "provision",
            "users",
            "unpack",
            "layers/mark",
            "layers/changes",
            "layers/all",
        ];
        for name in reserved {
            for path in [
                format!("/{name}"),
                format!("//{name}"),
                format!("/{name}/"),
                format!("/./{name}"),
                format!("/files/../{name}"),
                format!("/%{:02x}{}", name.as_bytes()[0], &name[1..]),
                format!("/process.Process/../{name}"),
                name.to_uppercase(),
            ] {
                assert_eq!(Endpoint::of(&Method::POST, &path), None, "{path}");
            }
        }
    }

    #[test]
    fn only_reading_health_is_open_and_only_get_and_post_of_files_take_signatures() {
        assert_eq!(Endpoint::of(&Method::GET, "/health"), Some(Endpoint::Health));
        assert_eq!(Endpoint::of(&Method::POST, "/health"), Some(Endpoint::Other));
        assert_eq!(Endpoint::of(&Method::GET, "/files"), Some(Endpoint::ReadFile));
        assert_eq!(Endpoint::of(&Method::POST, "/files"), Some(Endpoint::WriteFile));
        assert_eq!(Endpoint::of(&Method::PUT, "/files"), Some(Endpoint::Other));
        let start = "/process.Process/Start";
        assert_eq!(Endpoint::of(&Method::POST, start), Some(Endpoint::Other));
    }
}
