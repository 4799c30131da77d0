//! Runs a command in the private test internet and prints what its decoys received, as JSON lines.
//!
//! `rig bash` is a shell whose whole world are the decoys; `rig courier serve …` a server whose
//! sandboxes live there. The command is told `RIG_RESOLVER` (address and port), `RIG_CA` (the file of
//! the authority's certificate) and `RIG_FOLDER`.

use std::process::ExitCode;

use courier_tests::rig::{RESOLVER, Rig};

fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: rig PROGRAM [ARGUMENT...]");
        return Ok(ExitCode::from(2));
    };
    let folder = tempfile::tempdir()?;
    let rig = Rig::start(folder.path());
    for (name, address) in [("allowed.test", "93.184.216.10"), ("denied.test", "93.184.216.20")] {
        rig.zone().address(name, &[address]);
        rig.zone().address(&format!("*.{name}"), &[address]);
    }
    eprintln!("rig: resolver {RESOLVER}, certificate {}", rig.ca_file.display());
    let status = std::process::Command::new(program)
        .args(words)
        .env("RIG_FOLDER", folder.path())
        .env("RIG_CA", &rig.ca_file)
        .env("RIG_RESOLVER", RESOLVER.to_string())
        .status()?;
    print!("{}", rig.world.journal.lines());
    Ok(ExitCode::from(if status.success() { 0 } else { 1 }))
}
