//! The OCI configuration of a sandbox. Clients have no word in it but for three numbers, and no
//! string of the host is in it: what is here, a guest can see.

use serde_json::{Value, json};

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
pub(crate) fn config(limits: &Limits, image: &str) -> Value {
    // The guest's own memory holds its tmpfs: half of it is the usual bound.
    let tmpfs = format!("size={}m", limits.memory_mib / 2);
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
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs", "options": [tmpfs]},
        ],
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
        ]},
        "annotations": {
            "dev.gvisor.spec.rootfs.type": "erofs",
            "dev.gvisor.spec.rootfs.source": image,
            "dev.gvisor.spec.rootfs.overlay": format!("dir={SCRATCH}"),
        },
    })
}
