//! A server in the private test internet, for what needs only a few names.

use tempfile::TempDir;

use crate::environment::Environment;
use crate::rig::{RESOLVER, Rig};
use crate::server::{Options, Server};

/// Where the name is that no test allows.
pub const DENIED: &str = "93.184.216.20";

/// Names and their addresses; every other below `test` is at the denied one's.
const NAMES: &[(&str, &str)] = &[
    ("*.test", DENIED),
    ("denied.test", DENIED),
    ("allowed.test", "93.184.216.10"),
    ("later.test", "93.184.216.11"),
];

/// The internet and the server in it. The thread that starts it is in there until it is dropped,
/// and so is everything that it starts meanwhile.
#[derive(Debug)]
pub struct Internet {
    /// The server. It is dropped first: it must be asked to end from where it is.
    pub server: Server,
    /// The internet.
    pub rig: Rig,
    _folder: TempDir,
}

impl Internet {
    /// Starts both. The templates must have been built: there is nothing to fetch from in there.
    #[track_caller]
    #[must_use]
    pub fn start(environment: &Environment) -> Self {
        let folder = environment.folder();
        let rig = Rig::start(folder.path());
        for (name, address) in NAMES {
            rig.zone().address(name, &[address]);
        }
        let authority = rig.ca_file.display().to_string();
        let resolver = RESOLVER.to_string();
        let arguments = ["--egress-resolver", &resolver, "--egress-ca", &authority];
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let server = Server::start(environment, Options { arguments, ..Options::default() });
        Self { server, rig, _folder: folder }
    }
}
