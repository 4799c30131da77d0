//! The only part that needs root: sets up a sandbox's walls and execs the isolation technology.
//!
//! `courier-launcher --dir DIR` serves `DIR/launcher.sock`; `courier-launcher box` is what it starts
//! for each sandbox (see `boxed`). It depends on little, believes nothing that a client says, and
//! opens no path that a client names.

mod boxed;
mod cgroup;
mod checked;
mod control;
mod disk;
mod host;
mod intent;
mod keeper;
mod loop_device;
mod network;
mod oci;
mod options;
mod privileges;
mod record;
mod registry;
mod sandbox;
mod sentry;
mod server;
mod signals;
mod technology;
mod volumes;
mod walls;
mod watch;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;

use options::{Command, Options};

/// Exit code when another launcher serves the directory: whoever started this one finds that one.
const EXIT_BUSY: u8 = 3;

fn main() -> ExitCode {
    match options::parse(std::env::args_os().skip(1)) {
        Ok(Command::Box) => ExitCode::from(boxed::run()),
        Ok(Command::Help) => {
            println!("{}", options::USAGE);
            ExitCode::SUCCESS
        }
        Ok(Command::Serve(options)) => match serve(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("courier-launcher: {error}");
                match error.kind() {
                    std::io::ErrorKind::ResourceBusy => ExitCode::from(EXIT_BUSY),
                    _ => ExitCode::FAILURE,
                }
            }
        },
        Err(what) => {
            eprintln!("courier-launcher: {what}\n{}", options::USAGE);
            ExitCode::from(2)
        }
    }
}

fn serve(options: Options) -> std::io::Result<()> {
    // Before any thread: they inherit the mask.
    let signals = signals::take()?;
    raise_open_files()?;
    let finder = technology::Finder::new(options.runsc);
    let host = Arc::new(host::Host::open(&options.dir, finder)?);
    let registry = registry::Registry::new(host);
    server::serve(registry, &options.policy, &signals)
}

/// Six descriptors per sandbox add up to more than the usual 1,024.
fn raise_open_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}
