//! Doors of the kernel: system calls, devices and files that lead to the host.

use std::process::{Command, Stdio};
use std::time::Duration;

use courier_tests::program;
use serde_json::{Value, json};

use crate::World;

/// Doors that stand open on any host to root: what the control must find open.
const OPEN_OUTSIDE: &[&str] = &[
    "raw_socket",
    "packet_socket",
    "ptrace_parent",
    "mount_proc",
    "core_pattern",
    "drop_caches",
    "new_network_namespace",
    "open_by_handle",
    "perf_event",
    "bpf",
];

/// Doors that lead to the host, whoever inside knocks.
const SHUT_TO_ROOT: &[&str] = &[
    "io_uring",
    "bpf",
    "perf_event",
    "userfaultfd",
    "init_module",
    "kexec_load",
    "open_by_handle",
    "memfd_secret",
    "iopl",
    "swapon",
    "raw_socket",
    "packet_socket",
    "alg_socket",
    "vsock",
    "netfilter",
    "make_device",
    "dev_mem",
    "dev_kmsg",
    "dev_loop",
    "dev_kvm",
    "proc_kcore",
    "proc_kallsyms",
    "modprobe",
    "uevent_helper",
    "drop_caches",
    "mount_debugfs",
    "mount_securityfs",
    "join_init_mounts",
    "join_init_network",
    "push_terminal_input",
];

/// Doors that root may open inside, because what is behind them is the sandbox's own. (FUSE is even
/// open to users: its device is the sandbox's own too, and mounting needs rights that nobody has.)
const SHUT_TO_USERS: &[&str] = &[
    "sysrq",
    "set_clock",
    "ptrace_init",
    "mount_proc",
    "mount_cgroup",
    "new_network_namespace",
    "core_pattern",
];

#[track_caller]
fn assert_shut(outcome: &Value, doors: &[&str]) {
    let open: Vec<&&str> = doors.iter().filter(|door| outcome[**door] == "open").collect();
    assert!(open.is_empty(), "open: {open:?}; all: {outcome}");
    let unknown: Vec<&&str> = doors.iter().filter(|door| outcome[**door].is_null()).collect();
    assert!(unknown.is_empty(), "not probed: {unknown:?}");
}

/// The control: the same program finds the doors of the host open.
fn assert_open_outside(world: &World) {
    let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep");
    let file = world.server.environment.sources.join("probes/kernel.py");
    let mut probe = Command::new("python3");
    probe.arg(file).args(OPEN_OUTSIDE).env("PROBE_PARENT", other.id().to_string());
    let ended = program::run(&mut probe, b"", Duration::from_secs(30));
    other.kill().expect("our child can be killed");
    other.wait().expect("our child can be waited for");
    let outcome: Value = serde_json::from_slice(&ended.assert_code(0).stdout).expect("JSON");
    for door in OPEN_OUTSIDE {
        assert_eq!(outcome[*door], "open", "the control must find {door} open outside: {outcome}");
    }
}

pub(crate) fn the_kernel_s_doors_are_shut_to_a_user_inside(world: &World) {
    assert_open_outside(world);
    let sandbox = world.server.sandbox(120);
    let outcome = world.probe_inside(&sandbox, "user", "kernel.py", "");
    assert_shut(&outcome, SHUT_TO_ROOT);
    assert_shut(&outcome, SHUT_TO_USERS);
    assert!(sandbox.heartbeat() < crate::HEARTBEAT);
    sandbox.kill();
}

pub(crate) fn the_kernel_s_doors_to_the_host_are_shut_to_root_inside(world: &World) {
    assert_open_outside(world);
    let sandbox = world.server.sandbox(120);
    let outcome = world.probe_inside(&sandbox, "root", "kernel.py", "");
    assert_shut(&outcome, SHUT_TO_ROOT);
    sandbox.kill();
}

pub(crate) fn files_of_the_kernel_cannot_be_changed_from_inside(world: &World) {
    const FILES: &[&str] = &[
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/fs/file-max",
    ];
    let read = || FILES.iter().map(|file| std::fs::read(file).ok()).collect::<Vec<_>>();
    let before = read();
    assert!(before.iter().flatten().count() >= 4, "the control reads them outside");
    let sandbox = world.server.sandbox(120);
    let script = "for file in $(find /proc/sys /sys -type f -perm /222 2>/dev/null); do \
                  echo 1 > $file; done 2>/dev/null; echo c > /proc/sysrq-trigger; true";
    sandbox.root(script).assert_ok();
    assert_eq!(read(), before);
    sandbox.kill();
}

pub(crate) fn nobody_inside_sees_or_signals_a_process_of_the_host(world: &World) {
    let mut victim = Command::new("sleep").arg("3600").spawn().expect("sleep");
    let code = format!(
        "import os, json\nseen = []\n\
         for pid in range(2, 100000):\n    try:\n        os.kill(pid, 0)\n        seen.append(pid)\n\
         \x20   except OSError: pass\n\
         try: os.kill({}, 0); hit = True\n\
         except OSError: hit = False\nprint(json.dumps([len(seen), hit]))",
        victim.id()
    );
    let outside = world.on_host(&code);
    let outside: Value = serde_json::from_slice(&outside.stdout).expect("the control prints JSON");
    assert_eq!(outside[1], true, "the control sees the victim");
    let answer = world.execute(&code, &json!({}));
    let text = answer["stdout"]["text"].as_str().expect("text");
    let inside: Value = serde_json::from_str(text).expect("the program prints JSON");
    assert!(inside[0].as_u64().is_some_and(|count| count < 20), "{inside}");
    let sandbox = world.server.sandbox(120);
    sandbox.root(&format!("kill -9 {} 2>/dev/null; true", victim.id())).assert_ok();
    assert_eq!(victim.try_wait().expect("our child can be waited for"), None, "the victim lives");
    sandbox.kill();
    victim.kill().expect("our child can be killed");
    victim.wait().expect("our child can be waited for");
}
