//! Volumes on the real launcher: what outlives whom, who sees what, and what nobody can do.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::time::Duration;

use courier_driver::conformance::{self, Rig, echo};
use courier_driver::gvisor::{GvisorDriver, Linger};
use courier_driver::launcher_process::ensure_running;
use courier_driver::leaks::find_leaks;
use courier_driver::{Driver, DriverError, Machine, MachineSpec, Volumes};
use courier_types::{VolumeId, VolumeMount};
use rustix::process::{PidfdFlags, Signal};

use crate::rig::{self, GvisorRig};

/// Lifetime of machines.
const LONG: Duration = Duration::from_secs(120);
/// Size of volumes, in MiB.
const SIZE_MIB: u32 = 64;
/// The host's user that root inside is on a volume: `FIRST_ID` of the launcher.
const GUEST_ROOT: u32 = 0x7000_0000;

fn volume(seed: u8) -> VolumeId {
    VolumeId::from_random([seed; VolumeId::RANDOM_BYTES])
}

async fn machine(rig: &GvisorRig, mounts: &[(&VolumeId, &str)]) -> Machine {
    rig.driver().create(&spec(rig, mounts)).await.unwrap()
}

fn spec(rig: &GvisorRig, mounts: &[(&VolumeId, &str)]) -> MachineSpec {
    let volumes = mounts.iter().map(|(id, path)| VolumeMount {
        volume: (*id).clone(),
        path: path.parse().unwrap(),
        size_mib: SIZE_MIB,
    });
    MachineSpec { volumes: volumes.collect(), ..conformance::spec(rig, LONG) }
}

#[track_caller]
fn file(machine: &Machine, order: &str) -> String {
    String::from_utf8(echo(&machine.channel, format!("file {order}").as_bytes())).unwrap()
}

async fn destroy(rig: &GvisorRig, machine: Machine) {
    rig.driver().destroy(&machine.id).await.unwrap();
}

fn volumes(rig: &GvisorRig) -> &dyn Volumes {
    rig.driver().volumes().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_volume_outlives_sandboxes_with_owners_and_modes() {
    let Some(rig) = GvisorRig::start("outlive").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let first = machine(&rig, &[(&id, "/deep/inside")]).await;
    assert_eq!(file(&first, "list /deep/inside"), "there: ");
    assert_eq!(file(&first, "stat /deep/inside").split(' ').next(), Some("1000:1000"));
    assert_eq!(file(&first, "put /deep/inside/a hello"), "done");
    assert_eq!(file(&first, "chown /deep/inside/a 1234"), "done");
    assert_eq!(file(&first, "chmod /deep/inside/a"), "done");
    destroy(&rig, first).await;
    let second = machine(&rig, &[(&id, "/other")]).await;
    assert_eq!(file(&second, "get /other/a"), "hello");
    assert_eq!(file(&second, "stat /other/a"), "1234:1234 104755 5");
    destroy(&rig, second).await;
    volumes(&rig).delete(&id).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_see_each_others_files_at_once() {
    let Some(rig) = GvisorRig::start("both").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let one = machine(&rig, &[(&id, "/data")]).await;
    let two = machine(&rig, &[(&id, "/mnt")]).await;
    for round in 0..20 {
        assert_eq!(file(&one, &format!("put /data/a {round}")), "done");
        assert_eq!(file(&two, "get /mnt/a"), round.to_string());
        assert_eq!(file(&two, &format!("put /mnt/b -{round}")), "done");
        assert_eq!(file(&one, "get /data/b"), format!("-{round}"));
    }
    // Replaced by name: whoever opens it afterwards sees the new one whole.
    assert_eq!(file(&one, "put /data/new whole"), "done");
    assert_eq!(file(&one, "move /data/new /data/a"), "done");
    assert_eq!(file(&two, "get /mnt/a"), "whole");
    assert_eq!(file(&two, "remove /mnt/b"), "done");
    assert_eq!(file(&one, "list /data"), "there: a");
    // Of two that make one name, one wins.
    assert_eq!(file(&two, "new /mnt/lock"), "done");
    assert_ne!(file(&one, "new /data/lock"), "done");
    // Locks of files are each sandbox's own.
    assert_eq!(file(&one, "lock /data/lock"), "done");
    assert_eq!(file(&two, "lock /mnt/lock"), "done");
    assert_ne!(file(&two, "lock /mnt/lock"), "done");
    destroy(&rig, one).await;
    destroy(&rig, two).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_is_an_error_inside_and_its_room_comes_back() {
    let Some(rig) = GvisorRig::start("quota").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let machine = machine(&rig, &[(&id, "/data")]).await;
    for _again in 0..2 {
        let written: u64 = file(&machine, "fill /data/all").parse().unwrap();
        assert!((40 << 20..=64 << 20).contains(&written), "{written} bytes fitted on 64 MiB");
        // What is left is what the file system keeps for its own tables.
        let more: u64 = file(&machine, "fill /data/more").parse().unwrap();
        assert!(more < 2 << 20, "{more} bytes fitted beyond");
        assert_eq!(file(&machine, "remove /data/more"), "done");
        assert_eq!(file(&machine, "remove /data/all"), "done");
    }
    assert_eq!(file(&machine, "put /more x"), "done");
    destroy(&rig, machine).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_without_a_volume_have_no_gofer_and_that_of_others_has_no_right_outside() {
    let Some(rig) = GvisorRig::start("gofer").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let plain = machine(&rig, &[]).await;
    assert_eq!(echo(&plain.channel, b"up"), b"up");
    assert_eq!(gofers(&plain).len(), 0);
    destroy(&rig, plain).await;
    let machine = machine(&rig, &[(&id, "/data")]).await;
    assert_eq!(file(&machine, "put /data/a x"), "done");
    let gofers = gofers(&machine);
    assert_eq!(gofers.len(), 1);
    for pid in rig::sandbox_pids(&machine.id) {
        let proc = format!("/proc/{}", pid.as_raw_nonzero());
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1", "{status}");
        let uid: u32 = field("Uid:").parse().unwrap();
        match (field("Name:").as_str(), uid) {
            ("courier-box", 0) => {}
            (_, GUEST_ROOT) => assert_gofer(&proc, &field("Seccomp:")),
            (_, 65_534) => assert_eq!(field("CapEff:"), "0000000000000000", "{status}"),
            _ => unreachable!("{status}"),
        }
    }
    destroy(&rig, machine).await;
    rig.stop().await;
}

/// Its capabilities count in its own user namespace only; its root has the volumes and nothing else.
#[track_caller]
fn assert_gofer(proc: &str, seccomp: &str) {
    assert_eq!(seccomp, "2");
    let namespace = |proc: &str, kind: &str| fs::read_link(format!("{proc}/ns/{kind}")).unwrap();
    for kind in ["user", "mnt", "net", "ipc", "uts", "pid"] {
        assert_ne!(namespace(proc, kind), namespace("/proc/self", kind), "{kind}");
    }
    let map = fs::read_to_string(format!("{proc}/uid_map")).unwrap();
    let map: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(map, [0, GUEST_ROOT, 65_536]);
    let seen: Vec<_> = fs::read_dir(format!("{proc}/root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(seen, ["data"]);
    let mounts = fs::read_to_string(format!("{proc}/mountinfo")).unwrap();
    let kinds: Vec<_> =
        mounts.lines().filter_map(|line| line.split(" - ").nth(1)?.split(' ').next()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "ext4").count(), 1, "{mounts}");
    assert!(kinds.iter().all(|kind| ["ext4", "tmpfs"].contains(kind)), "{mounts}");
}

/// The processes of the user that guest root is.
fn gofers(machine: &Machine) -> Vec<u32> {
    let owner = |pid: &rustix::process::Pid| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(format!("/proc/{}", pid.as_raw_nonzero())).unwrap().uid()
    };
    let owners = rig::sandbox_pids(&machine.id).iter().map(owner).collect::<Vec<_>>();
    owners.into_iter().filter(|uid| *uid == GUEST_ROOT).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_inside_makes_neither_a_device_nor_a_way_out_of_a_volume() {
    let Some(rig) = GvisorRig::start("links").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let first = machine(&rig, &[(&id, "/data")]).await;
    for (name, target) in [("up", "../../../../etc"), ("root", "/"), ("proc", "/proc/1/root")] {
        assert_eq!(file(&first, &format!("link /data/{name} {target}")), "done");
    }
    // A link leads where it leads inside, and the next sandbox's files are its own.
    assert_eq!(file(&first, "put /data/root/mine x"), "done");
    assert_eq!(file(&first, "get /mine"), "x");
    assert_ne!(file(&first, "device /data/device"), "done");
    destroy(&rig, first).await;
    // What is mounted below a link of a volume stays inside as well.
    let other = volume(2);
    volumes(&rig).make(&other, SIZE_MIB).await.unwrap();
    let second = machine(&rig, &[(&id, "/data"), (&other, "/other")]).await;
    assert_eq!(file(&second, "list /data"), "there: proc root up");
    assert_ne!(file(&second, "get /data/root/mine"), "x");
    assert_eq!(file(&second, "put /other/a x"), "done");
    destroy(&rig, second).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_launcher_leaves_an_image_and_its_successor_mounts_it_again() {
    let Some(rig) = GvisorRig::start("killed").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let first = machine(&rig, &[(&id, "/data")]).await;
    assert_eq!(file(&first, "put /data/a synced"), "done");
    let launcher = rig.launcher_pid();
    let dead = rustix::process::pidfd_open(launcher, PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(launcher, Signal::KILL).unwrap();
    assert!(conformance::readable(&dead, LONG));
    // At once: the successor waits for what the kernel still does for the first.
    let socket = ensure_running(&rig.options).await.unwrap();
    let driver = GvisorDriver::connect(socket, "killed", Linger::Go).await.unwrap();
    let second = driver.create(&spec(&rig, &[(&id, "/data")])).await.unwrap();
    assert_eq!(file(&second, "get /data/a"), "synced");
    driver.destroy(&second.id).await.unwrap();
    assert_eq!(find_leaks(rig.dir()).await.unwrap(), []);
    driver.delete(&id).await.unwrap();
    driver.shut_down().await.unwrap();
    assert_eq!(find_leaks(rig.dir()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_volume_and_a_path_of_the_systems_are_refused() {
    let Some(rig) = GvisorRig::start("mine").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let other = rig.client("other", Linger::Go).await;
    assert_eq!(Volumes::list(&other).await.unwrap(), []);
    let theirs = other.create(&spec(&rig, &[(&id, "/data")])).await;
    assert!(matches!(theirs, Err(DriverError::NoVolume { .. })), "{theirs:?}");
    assert!(matches!(other.delete(&id).await, Err(DriverError::NoVolume { .. })));
    let nested = rig.driver().create(&spec(&rig, &[(&id, "/a"), (&id, "/a/b")])).await;
    assert!(nested.is_err(), "{nested:?}");
    assert_eq!(volumes(&rig).list().await.unwrap(), [id]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_of_a_deleted_file_comes_back_when_no_sandbox_holds_it() {
    let Some(rig) = GvisorRig::start("room").await else { return };
    let id = volume(1);
    volumes(&rig).make(&id, SIZE_MIB).await.unwrap();
    let one = machine(&rig, &[(&id, "/data")]).await;
    let two = machine(&rig, &[(&id, "/data")]).await;
    let fill = |path: &str| -> u64 { file(&one, &format!("fill {path}")).parse().unwrap() };
    assert!(fill("/data/all") > 40 << 20);
    assert!(file(&two, "stat /data/all").ends_with(char::is_numeric));
    // gVisor keeps files at hand that it has looked at; with the sandbox that goes.
    assert_eq!(file(&one, "remove /data/all"), "done");
    destroy(&rig, two).await;
    let written = fill("/data/all");
    assert!(written > 40 << 20, "{written} bytes fitted");
    destroy(&rig, one).await;
    rig.stop().await;
}
