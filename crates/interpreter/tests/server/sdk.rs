//! The official code-interpreter SDKs, unmodified. In their debug mode they find the server at port
//! 49999 of this machine and ask for no sandbox.

use std::path::Path;
use std::process::Command;

use crate::rig::{Server, target};

/// The port that the SDKs know.
const PORT: u16 = 49999;

#[tokio::test]
async fn both_sdks_run_code_as_documented() {
    let _server = Server::start_on(PORT).await;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let sdk = target().join("sdk");
    // Modules are looked for from the importing file upwards, so the test goes beside them.
    let folder = sdk.join("tests/interpreter");
    std::fs::create_dir_all(&folder).unwrap();
    let script = folder.join("interpreter.mjs");
    std::fs::copy(sources.join("interpreter.mjs"), &script).unwrap();
    run(Command::new(sdk.join("node_modules/.bin/node"))
        .args(["--test", "--test-force-exit"])
        .arg(script))
    .await;
    run(Command::new(sdk.join("python/bin/python")).arg(sources.join("interpreter.py"))).await;
}

async fn run(command: &mut Command) {
    let mut command =
        tokio::process::Command::from(std::mem::replace(command, Command::new("true")));
    let done = command.env_clear().env("E2B_DEBUG", "true").output().await.unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
