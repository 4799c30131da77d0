//! The gVisor driver passes the suite on the real launcher and the real runsc, keeps its limits, and
//! leaves nothing. Needs root, runsc, mkfs.ext4 and mkfs.erofs.

mod rig;
mod volumes;

use std::fs;
use std::time::Duration;

use courier_driver::conformance::{self, Rig, await_gone, create, echo};
use courier_driver::gvisor::{GvisorDriver, Linger};
use courier_driver::launcher_process::{LauncherError, ensure_running, socket_path};
use courier_driver::leaks::{Leak, find_leaks};
use courier_driver::{Driver, DriverError};
use courier_types::{EndReason, Limits, LimitsRequest};
use rig::GvisorRig;
use rustix::process::Signal;

/// Lifetime of machines whose deadline a test is not about.
const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn the_gvisor_driver_conforms_and_leaves_nothing_behind() {
    let Some(rig) = GvisorRig::start("suite").await else { return };
    conformance::run(&rig).await;
    assert_eq!(find_leaks(rig.dir()).await.unwrap(), []);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_eats_its_memory_ends_for_memory() {
    let Some(rig) = GvisorRig::start("memory").await else { return };
    let machine = create(&rig, LONG).await;
    rustix::io::write(&machine.channel, b"eat").unwrap();
    await_gone(&machine).await;
    let ended = rig.driver().destroy(&machine.id).await.unwrap();
    assert_eq!(ended.reason, EndReason::Memory, "{ended:?}");
    assert!(ended.usage.oom_kills > 0 && ended.usage.memory_peak_bytes > 100 << 20, "{ended:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_the_guests_own_trouble() {
    let Some(rig) = GvisorRig::start("disk").await else { return };
    let machine = create(&rig, LONG).await;
    let written: u64 = String::from_utf8(echo(&machine.channel, b"fill")).unwrap().parse().unwrap();
    assert!((40 << 20..=64 << 20).contains(&written), "{written} bytes fitted on 64 MiB");
    let usage = rig.driver().usage(&machine.id).await.unwrap();
    assert!(usage.disk_bytes >= written, "{usage:?}");
    assert_eq!(echo(&machine.channel, b"alive"), b"alive");
    rig.driver().destroy(&machine.id).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_of_a_sandbox_has_a_capability_and_all_but_its_first_are_nobody() {
    let Some(rig) = GvisorRig::start("privileges").await else { return };
    let machine = create(&rig, LONG).await;
    assert_eq!(echo(&machine.channel, b"up"), b"up");
    let pids = rig::sandbox_pids(&machine.id);
    assert!(pids.len() > 2, "{pids:?}");
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{status}");
        }
        assert_eq!(field("NoNewPrivs:"), "1", "{status}");
        if field("Name:") != "courier-box" {
            assert_eq!(
                (field("Uid:"), field("Seccomp:")),
                ("65534".into(), "2".into()),
                "{status}"
            );
        }
    }
    rig.driver().destroy(&machine.id).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_launcher_takes_its_sandboxes_along_and_the_next_one_cleans_up() {
    let Some(rig) = GvisorRig::start("killed").await else { return };
    let machine = create(&rig, LONG).await;
    rustix::process::kill_process(rig.launcher_pid(), Signal::KILL).unwrap();
    await_gone(&machine).await;
    let refused = rig.driver().usage(&machine.id).await.unwrap_err();
    assert!(matches!(refused, DriverError::Launcher(_)), "{refused:?}");
    let leaks = find_leaks(rig.dir()).await.unwrap();
    let named = |leak: &Leak| matches!(leak, Leak::Directory(_) | Leak::Cgroup(_));
    assert!(leaks.len() >= 2 && leaks.iter().all(named), "{leaks:?}");
    ensure_running(&rig.options).await.unwrap();
    assert_eq!(find_leaks(rig.dir()).await.unwrap(), []);
    assert_eq!(rig.driver().list().await.unwrap(), [], "the driver finds the new launcher");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_see_only_their_own_and_take_it_along_unless_they_linger() {
    let Some(rig) = GvisorRig::start("owner").await else { return };
    let server = rig.client("server", Linger::Stay).await;
    let run = rig.client("run", Linger::Go).await;
    let spec = || conformance::spec(&rig, LONG);
    let (stays, goes) = (server.create(&spec()).await.unwrap(), run.create(&spec()).await.unwrap());
    assert_eq!(server.list().await.unwrap(), std::slice::from_ref(&stays.id));
    let foreign = run.destroy(&stays.id).await.unwrap_err();
    assert!(matches!(foreign, DriverError::NotFound { .. }), "{foreign:?}");
    drop((server, run));
    await_gone(&goes).await;
    let server = rig.client("server", Linger::Stay).await;
    let again = server.attach(&stays.id).await.unwrap();
    assert_eq!(echo(&again.channel, b"still"), b"still");
    server.destroy(&stays.id).await.unwrap();
    drop(server);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_callers_at_once_start_one_launcher_and_a_lone_second_one_is_told_off() {
    let Some(rig) = GvisorRig::start("race").await else { return };
    let options = rig::options(&rig.dir().with_file_name("raced"));
    let (one, two) = tokio::join!(ensure_running(&options), ensure_running(&options));
    assert_eq!(one.unwrap(), two.unwrap());
    let second = tokio::process::Command::new(&options.binary)
        .arg("--dir")
        .arg(&options.dir)
        .output()
        .await
        .unwrap();
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && message.contains("another launcher"), "{message}");
    let driver = GvisorDriver::connect(socket_path(&options.dir), "race", Linger::Go).await;
    driver.unwrap().shut_down().await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_runsc_is_told_with_its_remedy_and_nothing_is_made() {
    let Some(rig) = GvisorRig::start("missing").await else { return };
    let mut options = rig::options(&rig.dir().with_file_name("other"));
    options.technology_binary = Some("/nonexistent/runsc".into());
    let socket = ensure_running(&options).await.unwrap();
    let driver = GvisorDriver::connect(socket, "missing", Linger::Go).await.unwrap();
    let error = driver.create(&conformance::spec(&rig, LONG)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DriverError::Unavailable { .. }), "{text}");
    assert!(text.contains("not installed") && text.contains("bookworm-backports"), "{text}");
    assert_eq!(driver.list().await.unwrap(), []);
    assert_eq!(find_leaks(&options.dir).await.unwrap(), []);
    driver.shut_down().await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_socket_would_have_too_long_a_path_is_named() {
    let Some(rig) = GvisorRig::start("long").await else { return };
    let options = rig::options(&rig.dir().with_file_name("x".repeat(120)));
    match ensure_running(&options).await {
        Err(LauncherError::Ended { log }) => assert!(log.contains("shorter --dir"), "{log}"),
        other => unreachable!("{other:?}"),
    }
    assert_eq!(find_leaks(&options.dir).await.unwrap(), []);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_no_image_does_not_start_and_leaves_nothing() {
    let Some(rig) = GvisorRig::start("image").await else { return };
    let rubbish = rig.dir().with_file_name("rubbish");
    fs::write(&rubbish, "not an image").unwrap();
    let spec = courier_driver::MachineSpec { image: rubbish, ..conformance::spec(&rig, LONG) };
    let error = rig.driver().create(&spec).await.unwrap_err();
    assert!(matches!(error, DriverError::NotStarted { .. }), "{error:?}");
    assert_eq!(rig.driver().list().await.unwrap(), []);
    assert_eq!(find_leaks(rig.dir()).await.unwrap(), []);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_carries_answers_and_is_the_only_network() {
    let Some(rig) = GvisorRig::start("link").await else { return };
    let machine = create(&rig, LONG).await;
    for pid in rig::sandbox_pids(&machine.id) {
        let path = format!("/proc/{}/net/dev", pid.as_raw_nonzero());
        let devices = fs::read_to_string(path).unwrap();
        let names: Vec<_> = devices.lines().filter_map(|line| line.split_once(':')).collect();
        assert!(matches!(names.as_slice(), [(name, _)] if name.trim() == "lo"), "{devices}");
    }
    rustix::io::write(&machine.channel, b"ask").unwrap();
    let mut packet = conformance::packet(&machine.link);
    conformance::assert_sent_by_guest(&packet);
    // With both ends swapped it is its own answer, checksums included.
    let (source, rest) = packet[12..24].split_at_mut(4);
    source.swap_with_slice(&mut rest[..4]);
    let (source, destination) = packet[20..24].split_at_mut(2);
    source.swap_with_slice(destination);
    rustix::io::write(&machine.link, &packet).unwrap();
    assert!(conformance::readable(&machine.channel, Duration::from_secs(20)));
    let mut answer = [0; 64];
    let count = rustix::io::read(&machine.channel, &mut answer).unwrap();
    assert_eq!(&answer[..count], b"question");
    rig.driver().destroy(&machine.id).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_inside_has_one_interface_no_raw_socket_and_no_ipv6() {
    let Some(rig) = GvisorRig::start("sockets").await else { return };
    let machine = create(&rig, LONG).await;
    let seen = String::from_utf8(echo(&machine.channel, b"network")).unwrap();
    // An ICMP socket for echo requests alone needs no privilege in gVisor: whoever reads the link
    // gets them, and nobody else.
    let shut = "PermissionDenied";
    let wanted = format!(
        r#"["eth0", "lo"] inet {shut} inet6 {shut} packet {shut} ping open ipv6 HostUnreachable"#
    );
    assert_eq!(seen, wanted);
    assert!(!conformance::readable(&machine.link, Duration::ZERO));
    rig.driver().destroy(&machine.id).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_at_any_step_is_told_by_that_step_and_leaves_nothing() {
    let Some(rig) = GvisorRig::start("steps").await else { return };
    let mut options = rig::options(&rig.dir().with_file_name("broken"));
    options.technology_binary = Some(rig::built("examples/broken_runsc"));
    let socket = ensure_running(&options).await.unwrap();
    let driver = GvisorDriver::connect(socket, "steps", Linger::Go).await.unwrap();
    let steps = [
        (201, "runsc cannot create"),
        (202, "reach the Sentry"),
        (203, "the Sentry died"),
        (204, "CreateLinksAndRoutes: no such link"),
        (205, "CreateLinksAndRoutes: the answer is too long"),
        (206, "StartRoot: no such program"),
        (207, "read the Sentry's pid"),
    ];
    for (pids, word) in steps {
        let request = LimitsRequest { pids: Some(pids), ..LimitsRequest::default() };
        let limits = Limits::try_from(request).unwrap();
        let spec = courier_driver::MachineSpec { limits, ..conformance::spec(&rig, LONG) };
        match driver.create(&spec).await {
            Err(DriverError::NotStarted { why, .. }) => assert!(why.contains(word), "{why}"),
            other => unreachable!("step {pids}: {other:?}"),
        }
        assert_eq!(driver.list().await.unwrap(), [], "step {pids}");
        assert_eq!(find_leaks(&options.dir).await.unwrap(), [], "step {pids}");
    }
    driver.shut_down().await.unwrap();
    rig.stop().await;
}
