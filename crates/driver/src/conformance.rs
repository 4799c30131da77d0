//! The suite that every driver passes. A test gives it a [`Rig`], whose guests answer every record
//! with the same record, and calls [`run`], or single cases.
//!
//! A case panics with what went wrong: it is for tests only.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use courier_types::{
    EndReason, Limits, LimitsRequest, SandboxId, Timestamp, VolumeId, VolumeMount,
};
use rustix::event::{PollFd, PollFlags};

use crate::{Driver, DriverError, LINK_GUEST, LINK_MTU, Machine, MachineSpec};

/// How long anything may take that is expected to happen at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// Lifetime of machines whose deadline a case is not about.
const LONG: Duration = Duration::from_secs(300);

/// Where the guest of a rig sends a packet: an address of the documentation (RFC 5737), which no link
/// leads to.
pub const DESTINATION: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A driver under test, and a way to harm its machines.
#[async_trait]
pub trait Rig: Send + Sync {
    /// The driver; always the same.
    fn driver(&self) -> &dyn Driver;

    /// The image of guests that answer every record with itself.
    fn image(&self) -> PathBuf;

    /// Kills the machine behind the driver's back.
    async fn crash(&self, id: &SandboxId);

    /// Has the guest send one packet to [`DESTINATION`].
    fn send_packet(&self, machine: &Machine);
}

/// Runs every case, one after the other.
pub async fn run(rig: &dyn Rig) {
    a_machine_answers_and_is_gone_after_destroy(rig).await;
    destroying_twice_or_the_unknown_is_not_found(rig).await;
    an_equal_create_gives_the_same_machine(rig).await;
    attach_gives_a_channel_to_the_same_guest(rig).await;
    a_deadline_ends_a_machine_and_destroy_tells(rig).await;
    a_moved_deadline_counts(rig).await;
    a_machines_own_end_is_noticed(rig).await;
    machines_are_made_side_by_side(rig).await;
    usage_is_told_while_it_runs(rig).await;
    the_link_carries_what_the_guest_sends_and_nothing_else(rig).await;
    a_packet_that_nobody_reads_waits_for_the_next_process(rig).await;
    the_link_ends_with_the_machine(rig).await;
    a_volume_is_there_until_it_is_deleted_and_not_while_a_machine_has_it(rig).await;
}

/// Create, list, talk, destroy.
pub async fn a_machine_answers_and_is_gone_after_destroy(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    assert_eq!(echo(&machine.channel, b"ping"), b"ping");
    assert!(list(rig).await.contains(&machine.id));
    let ended = rig.driver().destroy(&machine.id).await.expect("destroy");
    assert_eq!(ended.reason, EndReason::Requested);
    assert!(readable(&machine.gone, Duration::ZERO), "gone is readable when destroy returns");
    assert!(!list(rig).await.contains(&machine.id));
}

/// What is not there is named, not invented.
pub async fn destroying_twice_or_the_unknown_is_not_found(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    rig.driver().destroy(&machine.id).await.expect("destroy");
    let driver = rig.driver();
    let never = new_id();
    for id in [&machine.id, &never] {
        assert_not_found(driver.destroy(id).await, id);
        assert_not_found(driver.attach(id).await, id);
        assert_not_found(driver.usage(id).await, id);
        assert_not_found(driver.set_deadline(id, after(LONG)).await, id);
    }
}

/// A repeated create, as after a lost answer.
pub async fn an_equal_create_gives_the_same_machine(rig: &dyn Rig) {
    let spec = spec(rig, LONG);
    let first = rig.driver().create(&spec).await.expect("create");
    let again = rig.driver().create(&spec).await.expect("create again");
    assert_eq!(echo(&first.channel, b"1"), b"1");
    assert_eq!(echo(&again.channel, b"2"), b"2");
    rig.driver().destroy(&spec.id).await.expect("destroy");
}

/// What a restarted server does.
pub async fn attach_gives_a_channel_to_the_same_guest(rig: &dyn Rig) {
    let Machine { id, channel, gone, link } = create(rig, LONG).await;
    drop((channel, gone, link));
    let machine = rig.driver().attach(&id).await.expect("attach");
    assert_eq!(echo(&machine.channel, b"again"), b"again");
    assert!(!readable(&machine.gone, Duration::ZERO));
    rig.driver().destroy(&id).await.expect("destroy");
}

/// The timeout holds though nobody asks.
pub async fn a_deadline_ends_a_machine_and_destroy_tells(rig: &dyn Rig) {
    let machine = create(rig, Duration::from_secs(2)).await;
    await_gone(&machine).await;
    let ended = rig.driver().destroy(&machine.id).await.expect("destroy");
    assert_eq!(ended.reason, EndReason::Timeout);
    assert_not_found(rig.driver().destroy(&machine.id).await, &machine.id);
}

/// Later and sooner.
pub async fn a_moved_deadline_counts(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    let soon = after(Duration::from_millis(100));
    rig.driver().set_deadline(&machine.id, soon).await.expect("set_deadline");
    await_gone(&machine).await;
    let ended = rig.driver().destroy(&machine.id).await.expect("destroy");
    assert_eq!(ended.reason, EndReason::Timeout);
}

/// A crash is seen through `gone`, and told.
pub async fn a_machines_own_end_is_noticed(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    rig.crash(&machine.id).await;
    await_gone(&machine).await;
    let ended = rig.driver().destroy(&machine.id).await.expect("destroy");
    assert_eq!(ended.reason, EndReason::Crashed);
}

/// Eight at once, all different.
pub async fn machines_are_made_side_by_side(rig: &dyn Rig) {
    let specs: Vec<MachineSpec> = (0..8).map(|_| spec(rig, LONG)).collect();
    let mut creating: Vec<_> = specs.iter().map(|spec| rig.driver().create(spec)).collect();
    let mut machines = Vec::new();
    std::future::poll_fn(|context| {
        let mut pending = Vec::new();
        for mut future in creating.drain(..) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(machine) => machines.push(machine.expect("create")),
                std::task::Poll::Pending => pending.push(future),
            }
        }
        creating = pending;
        if creating.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    for machine in &machines {
        let id = machine.id.as_str().as_bytes();
        assert_eq!(echo(&machine.channel, id), id);
    }
    for machine in &machines {
        rig.driver().destroy(&machine.id).await.expect("destroy");
    }
}

/// Usage is there, and never more than the caps by far.
pub async fn usage_is_told_while_it_runs(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    let usage = rig.driver().usage(&machine.id).await.expect("usage");
    assert!(usage.memory_bytes <= usage.memory_peak_bytes.max(usage.memory_bytes));
    assert_eq!(usage.oom_kills, 0);
    rig.driver().destroy(&machine.id).await.expect("destroy");
}

/// One record is one packet, from the link's own address.
pub async fn the_link_carries_what_the_guest_sends_and_nothing_else(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    assert_eq!(echo(&machine.channel, b"up"), b"up");
    assert!(!readable(&machine.link, Duration::ZERO), "the guest has sent nothing yet");
    rig.send_packet(&machine);
    assert_sent_by_guest(&packet(&machine.link));
    assert!(!readable(&machine.link, Duration::ZERO), "the guest has sent one packet");
    rig.driver().destroy(&machine.id).await.expect("destroy");
}

/// Nobody but the reader of the link takes anything from it, and a restarted server is a reader.
pub async fn a_packet_that_nobody_reads_waits_for_the_next_process(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    rig.send_packet(&machine);
    let Machine { id, channel, gone, link } = machine;
    drop((channel, gone, link));
    let machine = rig.driver().attach(&id).await.expect("attach");
    assert_sent_by_guest(&packet(&machine.link));
    rig.driver().destroy(&id).await.expect("destroy");
}

/// What reads a link learns of its end there.
pub async fn the_link_ends_with_the_machine(rig: &dyn Rig) {
    let machine = create(rig, LONG).await;
    rig.driver().destroy(&machine.id).await.expect("destroy");
    assert!(readable(&machine.link, PATIENCE), "the link ends");
    assert_eq!(packet(&machine.link), b"");
}

/// Make, use, delete; where the driver has volumes at all.
pub async fn a_volume_is_there_until_it_is_deleted_and_not_while_a_machine_has_it(rig: &dyn Rig) {
    let Some(volumes) = rig.driver().volumes() else { return };
    let id = VolumeId::from_random([b'c'; VolumeId::RANDOM_BYTES]);
    let path = "/data".parse().expect("a path");
    let mount = VolumeMount { volume: id.clone(), path, size_mib: 16 };
    let with_volume = || MachineSpec { volumes: vec![mount.clone()], ..spec(rig, LONG) };
    unmade_is_unknown(rig, &id, with_volume()).await;
    volumes.make(&id, 16).await.expect("make a volume");
    volumes.make(&id, 16).await.expect("make it again");
    assert_eq!(volumes.list().await.expect("list volumes"), std::slice::from_ref(&id));
    used_is_kept(rig, &id, [with_volume(), with_volume()]).await;
    volumes.delete(&id).await.expect("delete the volume");
    assert_eq!(volumes.list().await.expect("list volumes"), []);
}

async fn used_is_kept(rig: &dyn Rig, id: &VolumeId, [first, second]: [MachineSpec; 2]) {
    let Some(volumes) = rig.driver().volumes() else { return };
    for spec in [&first, &second] {
        let machine = rig.driver().create(spec).await.expect("create");
        assert_eq!(echo(&machine.channel, b"up"), b"up");
    }
    rig.driver().destroy(&first.id).await.expect("destroy");
    let used = volumes.delete(id).await.expect_err("it is in use");
    assert!(matches!(used, DriverError::VolumeInUse { .. }), "{used:?}");
    rig.driver().destroy(&second.id).await.expect("destroy");
}

async fn unmade_is_unknown(rig: &dyn Rig, id: &VolumeId, spec: MachineSpec) {
    let created = rig.driver().create(&spec).await.expect_err("no such volume");
    assert!(matches!(created, DriverError::NoVolume { .. }), "{created:?}");
    let Some(volumes) = rig.driver().volumes() else { return };
    let deleted = volumes.delete(id).await.expect_err("no such volume");
    assert!(matches!(deleted, DriverError::NoVolume { .. }), "{deleted:?}");
}

/// A machine with small caps.
pub async fn create(rig: &dyn Rig, life: Duration) -> Machine {
    rig.driver().create(&spec(rig, life)).await.expect("create")
}

/// What [`create`] asks for.
pub fn spec(rig: &dyn Rig, life: Duration) -> MachineSpec {
    let request = LimitsRequest {
        memory_mib: Some(128),
        disk_mib: Some(64),
        cpu_millis: Some(1_000),
        ..LimitsRequest::default()
    };
    let limits = Limits::try_from(request).expect("valid limits");
    let volumes = Vec::new();
    MachineSpec { id: new_id(), image: rig.image(), limits, deadline: after(life), volumes }
}

/// Sends a record and receives one.
pub fn echo(channel: &OwnedFd, record: &[u8]) -> Vec<u8> {
    rustix::io::write(channel, record).expect("write to the channel");
    assert!(readable(channel, PATIENCE), "the guest answers");
    let mut answer = vec![0; 64 * 1024];
    let count = rustix::io::read(channel, &mut answer).expect("read from the channel");
    answer.truncate(count);
    answer
}

/// The next packet from a link, or nothing at its end.
pub fn packet(link: &OwnedFd) -> Vec<u8> {
    assert!(readable(link, PATIENCE), "a packet comes");
    // One byte more, so that a packet that is too long shows.
    let mut packet = vec![0; LINK_MTU + 1];
    let count = rustix::io::read(link, &mut packet).expect("read from the link");
    packet.truncate(count);
    packet
}

/// Checks the IPv4 header of a packet that [`Rig::send_packet`] made.
#[track_caller]
pub fn assert_sent_by_guest(packet: &[u8]) {
    let address = |at: usize| Some(packet.get(at..at + 4)?.to_vec());
    assert!(packet.len() <= LINK_MTU, "{} bytes", packet.len());
    assert_eq!(packet.first().map(|byte| byte >> 4), Some(4), "a raw IPv4 packet: {packet:?}");
    assert_eq!(address(12), Some(LINK_GUEST.octets().to_vec()), "from the guest: {packet:?}");
    assert_eq!(address(16), Some(DESTINATION.octets().to_vec()), "{packet:?}");
}

/// Waits until the machine is gone.
pub async fn await_gone(machine: &Machine) {
    let gone = machine.gone.try_clone().expect("duplicate");
    let seen = tokio::task::spawn_blocking(move || readable(&gone, PATIENCE)).await;
    assert!(seen.expect("poll"), "machine {} is gone", machine.id);
}

/// True when a descriptor becomes readable in time.
pub fn readable(fd: impl AsFd, patience: Duration) -> bool {
    let timeout = rustix::time::Timespec::try_from(patience).expect("a small span");
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timeout)).expect("poll") > 0
}

async fn list(rig: &dyn Rig) -> Vec<SandboxId> {
    rig.driver().list().await.expect("list")
}

#[track_caller]
fn assert_not_found<T: std::fmt::Debug>(result: Result<T, DriverError>, wanted: &SandboxId) {
    match result {
        Err(DriverError::NotFound { id }) if id == *wanted => {}
        other => unreachable!("expected {wanted} not to be found, got {other:?}"),
    }
}

fn after(span: Duration) -> Timestamp {
    Timestamp::from(SystemTime::now()).plus(span)
}

/// An id that no other case uses: process, time and a counter.
fn new_id() -> SandboxId {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut random = [0_u8; SandboxId::RANDOM_BYTES];
    let now = Timestamp::from(SystemTime::now()).as_micros().to_le_bytes();
    let parts = now.into_iter().chain(count.to_le_bytes()).chain(std::process::id().to_le_bytes());
    random.iter_mut().zip(parts).for_each(|(slot, byte)| *slot = byte);
    SandboxId::from_random(random)
}
