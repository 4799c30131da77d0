//! The namespaces and the root of a box: all of the host that runsc can see.
//!
//! ```text
//! /bin/runsc   the binary, read-only        /proc        of the pid namespace, own meminfo
//! /bundle      OCI configuration            /dev/null
//! /state       runsc's state, pid file      /scratch     the writable disk (ext4, loop device)
//! /volumes/N   the volumes, where there are any
//! ```
//!
//! All of it is one small tmpfs in a mount namespace of its own, so it goes with the last process.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::thread::UnshareFlags;

use crate::control::{BoxConfig, BoxVolume};
use crate::{loop_device, oci};

/// runsc in the box's root.
pub(crate) const RUNSC: &str = "/bin/runsc";
/// Bound of the root's tmpfs: configuration, state and pid file, all small.
const ROOT_OPTIONS: &std::ffi::CStr = c"size=8m,nr_inodes=256,mode=755";

/// Builds the walls and steps behind them.
pub(crate) fn build(config: &BoxConfig, image: &OwnedFd, disk: OwnedFd) -> io::Result<()> {
    leave_namespaces()?;
    let root = config.root.as_path();
    named(
        "make mounts private",
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    named("mount the root", mount("none", root, "tmpfs", flags, ROOT_OPTIONS))?;
    for dir in ["bin", "bundle/rootfs", "dev", "etc", "proc", "scratch", "state", "tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    bind_file(&config.runsc, &root.join("bin/runsc"), flags)?;
    // No NODEV: it is a device.
    bind_file(
        "/dev/null".as_ref(),
        &root.join("dev/null"),
        MountFlags::NOSUID | MountFlags::NOEXEC,
    )?;
    mount_proc(root, config.limits.memory_mib)?;
    mount_disk(disk, &root.join("scratch"))?;
    mount_volumes(&config.volumes, root)?;
    // The descriptor, not a path: the image has no name in here, and runsc opens what was checked.
    let image = format!("/proc/1/fd/{}", image.as_raw_fd());
    let spec = oci::config(&config.limits, &image, &config.volumes);
    fs::write(root.join("bundle/config.json"), spec.to_string())?;
    enter(root)
}

/// Bytes of the disk that are in use, seen from a root directory.
pub(crate) fn disk_bytes(root: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statfs(root.join(oci::SCRATCH.trim_start_matches('/')))?;
    let block = u64::try_from(stat.f_bsize).unwrap_or_default();
    Ok(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(block))
}

#[expect(unsafe_code, reason = "rustix marks unshare unsafe because of CLONE_FILES")]
fn leave_namespaces() -> io::Result<()> {
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: descriptors stay shared with nobody: CLONE_FILES is not among the flags.
    named("leave the host's namespaces", unsafe { rustix::thread::unshare_unsafe(flags) })
}

fn bind_file(from: &Path, to: &Path, flags: MountFlags) -> io::Result<()> {
    File::create(to)?;
    named(&format!("bind {}", from.display()), mount_bind(from, to))?;
    named(
        "make it read-only",
        mount_remount(to, MountFlags::BIND | MountFlags::RDONLY | flags, c""),
    )
}

/// A proc of the pid namespace. runsc takes the guest's memory size from `meminfo`.
fn mount_proc(root: &Path, memory_mib: u32) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let proc = root.join("proc");
    named("mount proc", mount("proc", &proc, "proc", flags, None))?;
    let meminfo = root.join("meminfo");
    fs::write(&meminfo, format!("MemTotal:       {} kB\n", u64::from(memory_mib) * 1024))?;
    named("bind meminfo", mount_bind(&meminfo, proc.join("meminfo")))
}

fn mount_disk(disk: OwnedFd, at: &Path) -> io::Result<()> {
    let device = loop_device::attach(disk)?;
    // No NOEXEC: the Sentry maps pages of programs that the guest wrote from here, to be executed.
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID;
    named("mount the disk", mount(&device.path, at, "ext4", flags, c"discard"))
    // The device is closed here: from now on only the mount holds it.
}

/// Mounts the volumes, each in a folder with its number. All mounts of one device, in whatever
/// namespace, are of the one file system on it.
fn mount_volumes(volumes: &[BoxVolume], root: &Path) -> io::Result<()> {
    if volumes.is_empty() {
        return Ok(());
    }
    // A user namespace may only mount a proc where it sees a whole one, and the other has a file
    // over its meminfo. The gofer needs one for a moment; the guest sees neither.
    let proc = root.join("wholeproc");
    fs::create_dir(&proc)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    named("mount a whole proc", mount("proc", &proc, "proc", flags, None))?;
    for (number, volume) in volumes.iter().enumerate() {
        let at = root.join(oci::volume_dir(number).trim_start_matches('/'));
        fs::create_dir_all(&at)?;
        // No NOEXEC: programs may be kept in volumes. An error of the file system makes it
        // read-only, so it does not get worse.
        let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID;
        let options = c"discard,noinit_itable,errors=remount-ro";
        named("mount a volume", mount(&volume.device, &at, "ext4", flags, options))?;
        forget_lost_and_found(&at)?;
    }
    Ok(())
}

/// Removes the folder that mkfs puts into every file system. It belongs to a user who is not in the
/// guest's range, so nobody inside could.
fn forget_lost_and_found(volume: &Path) -> io::Result<()> {
    let folder = volume.join("lost+found");
    let is_of_mkfs =
        fs::symlink_metadata(&folder).is_ok_and(|meta| meta.is_dir() && meta.uid() == 0);
    match is_of_mkfs.then(|| fs::remove_dir(&folder)) {
        // What a repair of the file system has put there stays.
        Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

/// Makes the new root the root, and the host's unreachable.
fn enter(root: &Path) -> io::Result<()> {
    named("enter the root", rustix::process::chdir(root))?;
    named("pivot to the root", rustix::process::pivot_root(".", "."))?;
    named("leave the old root", unmount(".", UnmountFlags::DETACH))?;
    named("enter the new root", rustix::process::chdir("/"))
}

fn named(what: &str, result: rustix::io::Result<()>) -> io::Result<()> {
    result.map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })
}
