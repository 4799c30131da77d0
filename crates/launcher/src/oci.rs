//! The OCI configuration of a sandbox. Clients have no word in it but for three numbers and the places
//! of volumes, and no string of the host is in it: what is here, a guest can see.
//!
//! A sandbox without volumes has no gofer: no process of it but box and runsc ever opened a file of
//! the host. With volumes runsc starts one, and because of the user namespace here that is a process
//! without any right outside: its ids are [`FIRST_ID`] and those after it, its root is a tmpfs with
//! nothing in it but the volumes.

use serde_json::{Value, json};

use crate::control::BoxVolume;
use crate::volumes::{FIRST_ID, GUEST_IDS};
use crate::wire::Limits;

/// Where the box keeps the bundle, in its own root.
pub(crate) const BUNDLE: &str = "/bundle";
/// Where the writable disk is mounted, in the box's root.
pub(crate) const SCRATCH: &str = "/scratch";
/// The host name inside, the same for all.
const HOSTNAME: &str = "sandbox";
/// The guest daemon, as every template's image has it.
const GUEST: &str = "/usr/local/bin/courier-guest";

/// Root's capabilities inside. They are the guest kernel's, not the host's: the Sentry runs without
/// any. Left out is what gVisor does not know, and CAP_SYS_ADMIN and CAP_SYS_RESOURCE: they would
/// exempt root inside from `RLIMIT_NPROC`.
const CAPABILITIES: [&str; 15] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
    "CAP_NET_ADMIN",
];

/// The configuration. `image` is the path under which runsc opens the root file system.
pub(crate) fn config(limits: &Limits, image: &str, volumes: &[BoxVolume]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [GUEST],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
                "inheritable": [],
            },
            "rlimits": [
                {"type": "RLIMIT_NPROC", "hard": limits.pids, "soft": limits.pids},
                {"type": "RLIMIT_NOFILE", "hard": limits.open_files, "soft": limits.open_files},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": HOSTNAME,
        "mounts": mounts(limits, volumes),
        "linux": linux(volumes),
        "annotations": {
            "dev.gvisor.spec.rootfs.type": "erofs",
            "dev.gvisor.spec.rootfs.source": image,
            "dev.gvisor.spec.rootfs.overlay": format!("dir={SCRATCH}"),
        },
    })
}

fn mounts(limits: &Limits, volumes: &[BoxVolume]) -> Value {
    // The guest's own memory holds its tmpfs: half of it is the usual bound.
    let tmpfs = format!("size={}m", limits.memory_mib / 2);
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs", "options": [tmpfs]}),
    ];
    mounts.extend(volumes.iter().enumerate().map(|(number, volume)| {
        json!({
            "destination": volume.path,
            "type": "bind",
            "source": volume_dir(number),
            "options": ["rw", "nosuid", "nodev"],
        })
    }));
    Value::Array(mounts)
}

fn linux(volumes: &[BoxVolume]) -> Value {
    let mut names = vec!["pid", "network", "ipc", "uts", "mount"];
    if !volumes.is_empty() {
        names.push("user");
    }
    let namespaces: Vec<Value> = names.iter().map(|name| json!({"type": name})).collect();
    if volumes.is_empty() {
        return json!({"namespaces": namespaces});
    }
    let ids = json!([{"containerID": 0, "hostID": FIRST_ID, "size": GUEST_IDS}]);
    json!({"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids})
}

/// Where the box mounts a volume, in its own root.
pub(crate) fn volume_dir(number: usize) -> String {
    format!("/volumes/{number}")
}
