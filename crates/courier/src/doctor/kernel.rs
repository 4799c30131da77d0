//! Checks of what the kernel gives.

use std::process::Command;

use super::check::Check;
use super::host::Host;

/// The oldest kernel that the isolation's documentation supports for what we use of it.
const OLDEST_KERNEL: (u64, u64) = (5, 4);
/// From this value on, processes may not trace even their own children, which the isolation does.
const TRACING_FORBIDDEN: u64 = 2;
/// Controllers of cgroup v1 that limit a sandbox.
const V1: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];
/// Controllers of cgroup v2 that limit a sandbox.
const V2: [&str; 3] = ["memory", "cpu", "pids"];

/// All of them.
pub(crate) fn checks(host: &Host) -> Vec<Check> {
    vec![
        kernel(host),
        cgroups(host),
        user_namespaces(host),
        tracing(host),
        loop_devices(host),
        ext4(host),
        kvm(host),
    ]
}

fn kernel(host: &Host) -> Check {
    const NAME: &str = "kernel";
    let release = host.read("proc/sys/kernel/osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let machine = std::env::consts::ARCH;
    if version < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        let found = format!("{release} is too old: Linux {major}.{minor} or newer is needed");
        return Check::missing(NAME, found);
    }
    Check::good(NAME, format!("{release} ({machine})"))
}

/// Limits are cgroups: without one of the controllers a cap would be a lie.
fn cgroups(host: &Host) -> Check {
    const NAME: &str = "cgroups";
    let mounts = host.read("proc/mounts");
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mounted: Vec<Vec<String>> = mounts.lines().map(fields).collect();
    let kind = |mount: &Vec<String>, kind: &str| mount.get(2).is_some_and(|found| found == kind);
    let has_v1 = |controller: &str| {
        mounted.iter().filter(|mount| kind(mount, "cgroup")).any(|mount| {
            mount.get(3).is_some_and(|options| options.split(',').any(|o| o == controller))
        })
    };
    if V1.iter().all(|controller| has_v1(controller)) {
        return Check::good(NAME, format!("v1 with {}", V1.join(", ")));
    }
    let Some(root) = mounted.iter().find(|m| kind(m, "cgroup2")).and_then(|m| m.get(1)) else {
        let lacking: Vec<&str> = V1.into_iter().filter(|controller| !has_v1(controller)).collect();
        return Check::missing(
            NAME,
            format!("no cgroup v2 is mounted, and v1 lacks {}", lacking.join(", ")),
        )
        .mended_by(["mount -t cgroup2 none /sys/fs/cgroup"]);
    };
    let controllers = host.read(&format!("{}/cgroup.controllers", root.trim_start_matches('/')));
    let has_v2 = |controller: &&str| controllers.split_whitespace().any(|c| c == *controller);
    let lacking: Vec<&str> = V2.into_iter().filter(|c| !has_v2(c)).collect();
    if lacking.is_empty() {
        return Check::good(NAME, format!("v2 with {}", V2.join(", ")));
    }
    Check::missing(
        NAME,
        format!(
            "v2 lacks {}: boot without cgroup_disable=, or delegate them to this container",
            lacking.join(", ")
        ),
    )
}

/// The isolation makes its user namespace when it has hardly any capability left, so what is
/// forbidden to ordinary users is forbidden to it.
fn user_namespaces(host: &Host) -> Check {
    const NAME: &str = "user namespaces";
    for (setting, bad, good) in [
        ("kernel/unprivileged_userns_clone", 0, 1),
        ("kernel/apparmor_restrict_unprivileged_userns", 1, 0),
    ] {
        if host.number(&format!("proc/sys/{setting}")) == Some(bad) {
            let name = setting.replace('/', ".");
            return Check::missing(NAME, format!("are for root only: {name} is {bad}"))
                .mended_by([format!("sysctl -w {name}={good}")]);
        }
    }
    match host.number("proc/sys/user/max_user_namespaces") {
        Some(0) => Check::missing(NAME, "are switched off")
            .mended_by(["sysctl -w user.max_user_namespaces=15000"]),
        Some(most) => Check::good(NAME, format!("up to {most}")),
        None => Check::missing(NAME, "are not in this kernel (CONFIG_USER_NS)"),
    }
}

/// Whether one can really be made: inside another container, or a changed root, it may not be.
pub(crate) fn making_namespaces() -> Check {
    const NAME: &str = "a namespace";
    let made = Command::new("unshare").args(["--user", "--", "true"]).output();
    match made {
        Ok(output) if output.status.success() => Check::good(NAME, "can be made"),
        Ok(output) => Check::missing(
            NAME,
            format!(
                "cannot be made here; is this inside a container? ({})",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        ),
        Err(error) => Check::advice(NAME, format!("was not tried: unshare does not run: {error}")),
    }
}

fn tracing(host: &Host) -> Check {
    const NAME: &str = "ptrace";
    match host.number("proc/sys/kernel/yama/ptrace_scope") {
        Some(scope) if scope >= TRACING_FORBIDDEN => {
            Check::missing(NAME, format!("kernel.yama.ptrace_scope is {scope}; 1 is the most"))
                .mended_by(["sysctl -w kernel.yama.ptrace_scope=1"])
        }
        Some(_) | None => Check::good(NAME, "children may be traced"),
    }
}

fn loop_devices(host: &Host) -> Check {
    const NAME: &str = "loop devices";
    if host.has("dev/loop-control") {
        return Check::good(NAME, "there, for sandboxes' disks");
    }
    Check::missing(NAME, "/dev/loop-control is not there").mended_by(["modprobe loop"])
}

fn ext4(host: &Host) -> Check {
    const NAME: &str = "ext4";
    let known = host.read("proc/filesystems");
    if known.lines().any(|line| line.trim_start_matches("nodev").trim() == "ext4") {
        return Check::good(NAME, "there, for sandboxes' disks");
    }
    Check::missing(NAME, "the kernel does not know it (yet)").mended_by(["modprobe ext4"])
}

fn kvm(host: &Host) -> Check {
    const NAME: &str = "KVM";
    if host.has("dev/kvm") {
        Check::note(NAME, "there, but not used in this version")
    } else {
        Check::note(NAME, "not there, and not needed in this version")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::check::Verdict;
    use super::*;

    /// A machine made of files.
    pub(crate) fn machine(root: &Path, files: &[(&str, &str)]) -> Host {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Host::at(root)
    }

    #[track_caller]
    fn verdict(check: fn(&Host) -> Check, files: &[(&str, &str)]) -> (Verdict, String) {
        let root = tempfile::tempdir().unwrap();
        let check = check(&machine(root.path(), files));
        (check.verdict, check.found)
    }

    #[test]
    fn old_kernels_are_refused_by_their_numbers_not_their_text() {
        let release = |text| verdict(kernel, &[("proc/sys/kernel/osrelease", text)]).0;
        assert_eq!(release("5.3.18-lp152"), Verdict::Missing);
        assert_eq!(release("5.10.0-30-amd64"), Verdict::Good);
        assert_eq!(release("6.1"), Verdict::Good);
        assert_eq!(release(""), Verdict::Missing);
    }

    #[test]
    fn either_kind_of_cgroups_will_do_when_its_controllers_are_all_there() {
        let v1 = "cgroup /c/memory cgroup rw,memory 0 0\ncgroup /c/cpu cgroup rw,cpu,cpuacct 0 0\n";
        let (found, text) = verdict(cgroups, &[("proc/mounts", v1)]);
        assert_eq!(found, Verdict::Missing);
        assert!(text.ends_with("v1 lacks pids"), "{text}");
        let whole = format!("{v1}cgroup /c/pids cgroup rw,pids 0 0\n");
        assert_eq!(verdict(cgroups, &[("proc/mounts", &whole)]).0, Verdict::Good);
        let v2 = ("proc/mounts", "none /sys/fs/cgroup cgroup2 rw 0 0\n");
        let file = "sys/fs/cgroup/cgroup.controllers";
        assert_eq!(verdict(cgroups, &[v2, (file, "cpu io memory pids\n")]).0, Verdict::Good);
        assert_eq!(verdict(cgroups, &[v2, (file, "cpu pids\n")]).0, Verdict::Missing);
    }

    #[test]
    fn what_a_hardened_kernel_forbids_is_told() {
        let off = [("proc/sys/user/max_user_namespaces", "0\n")];
        assert_eq!(verdict(user_namespaces, &off).0, Verdict::Missing);
        let most = ("proc/sys/user/max_user_namespaces", "9\n");
        let restricted = ("proc/sys/kernel/unprivileged_userns_clone", "0\n");
        assert_eq!(verdict(user_namespaces, &[most]).0, Verdict::Good);
        assert_eq!(verdict(user_namespaces, &[most, restricted]).0, Verdict::Missing);
        let scope = |value| verdict(tracing, &[("proc/sys/kernel/yama/ptrace_scope", value)]).0;
        assert_eq!((scope("1\n"), scope("2\n")), (Verdict::Good, Verdict::Missing));
    }
}
