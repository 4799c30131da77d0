//! A machine that is not as it should be.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use courier_tests::program::{self, Ended};
use courier_tests::sandbox::Sandbox;
use courier_tests::server::{Options, Server, courier, free_port};
use serde_json::json;

use crate::World;

const SOON: Duration = Duration::from_secs(30);

/// Size of the small disk: what a node wants to be free before it makes a sandbox, and some more.
const SMALL_DISK: &str = "size=768m";
/// More than fits on it.
const TOO_MUCH: usize = 1 << 30;

/// Starts a second server that is expected to refuse.
#[track_caller]
fn refused(world: &World, data: &Path, arguments: &[&str]) -> Ended {
    let mut command = courier(&world.server.environment, data);
    command.arg("serve").args(arguments);
    let ended = program::run(&mut command, b"", SOON);
    assert_ne!(ended.code, Some(0), "{}", ended.out());
    ended
}

pub(crate) fn a_data_folder_in_use_is_refused_with_its_name(world: &World) {
    let data = &world.server.data;
    let listen = format!("127.0.0.1:{}", free_port());
    let ended = refused(world, data, &["--listen", &listen]);
    assert!(ended.err().contains(&data.display().to_string()), "{}", ended.err());
    let folder = world.server.environment.folder();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "x").expect("scratch is ours");
    let ended = refused(world, &file, &["--listen", &listen]);
    assert!(ended.err().contains("a-file"), "{}", ended.err());
}

pub(crate) fn a_missing_or_old_isolation_technology_is_told_with_the_remedy(world: &World) {
    let found = program::run(Command::new("sh").args(["-c", "command -v runsc"]), b"", SOON);
    let runsc = found.assert_code(0).out().trim().to_owned();
    let folder = world.server.environment.folder();
    let old = folder.path().join("old-runsc");
    std::fs::write(&old, "#!/bin/sh\necho 'runsc version 0.0~20190101.0'\necho 'spec: 1.0.2'\n")
        .expect("scratch is ours");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let script = folder.path().join("p.py");
    std::fs::write(&script, "print('ran')").expect("scratch is ours");
    for replacement in [Path::new("/dev/null"), &old] {
        let data = folder.path().join("data");
        let mut command = courier(&world.server.environment, &data);
        command.arg("run").arg(&script);
        // In a mount namespace of its own, the machine's runsc is another.
        let mut inside = Command::new("unshare");
        inside.args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"",
            "sh",
        ]);
        inside.arg(replacement).arg(&runsc).arg(command.get_program()).args(command.get_args());
        inside.env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        let ended = program::run(&mut inside, b"", SOON);
        ended.assert_code(125);
        assert_eq!(ended.out(), "");
        let message = ended.err();
        assert!(message.contains("runsc"), "{message}");
        assert!(message.contains("courier doctor") || message.contains("install"), "{message}");
    }
}

/// A small file system that is unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(ended.is_ok_and(|status| status.success()), "{} stays", self.0.display());
    }
}

pub(crate) fn a_full_disk_is_told_and_nothing_is_lost(world: &World) {
    let environment = &world.server.environment;
    let folder = environment.folder();
    let point = folder.path().join("disk");
    std::fs::create_dir(&point).expect("scratch is ours");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", SMALL_DISK, "tmpfs"]).arg(&point);
    program::run(&mut mount, b"", SOON).assert_code(0);
    let disk = SmallDisk(point);
    std::fs::set_permissions(&disk.0, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let server = Server::start_on(environment, &disk.0.join("data"), Options::default());
    let survivor = server.sandbox(300);
    survivor.write("before.txt", b"before");
    let filler = disk.0.join("filler");
    drop(std::fs::write(&filler, vec![0; TOO_MUCH]));
    let body = json!({"templateID": "base", "timeout": 60});
    let answer = server.call("POST", "/v2/sandboxes", Some(&body));
    assert!((500..600).contains(&answer.status), "{} {}", answer.status, answer.text());
    let message = answer.json()["message"].as_str().unwrap_or_default().to_lowercase();
    assert!(
        message.contains("free") || message.contains("space") || message.contains("full"),
        "{message}\n{}",
        server.log()
    );
    // What runs goes on, and what it writes beyond the disk is its own error.
    let kept = survivor.read("before.txt").text();
    assert_eq!(kept, "before", "{}\n{}", survivor.v1().text(), server.log());
    std::fs::remove_file(&filler).expect("it is ours");
    let answer = server.call("POST", "/v2/sandboxes", Some(&body));
    assert_eq!(answer.status, 201, "{}\n{}", answer.text(), server.log());
    let next = Sandbox::from_answer(&server, &answer);
    assert_eq!(next.sh("echo alive").out(), "alive");
    next.kill();
    survivor.kill();
    drop(server);
}

pub(crate) fn an_address_in_use_or_not_loopback_is_refused(world: &World) {
    let folder = world.server.environment.folder();
    let data = folder.path().join("data");
    let taken = world.server.address.to_string();
    let ended = refused(world, &data, &["--listen", &taken]);
    assert!(ended.err().contains(&taken), "{}", ended.err());
    let open = format!("0.0.0.0:{}", free_port());
    let ended = refused(world, &data, &["--listen", &open]);
    assert!(ended.err().contains("--allow-remote"), "{}", ended.err());
}
