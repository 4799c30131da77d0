"""Tries doors of the kernel and prints, for each, whether it opened.

    kernel.py NAME...

Every probe only asks: none changes anything where it succeeds, or it undoes the change. So the same
program runs on the host, where the doors open, as the control of the test.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)

# x86_64 numbers.
PTRACE, MOUNT, INIT_MODULE, KEXEC_LOAD = 101, 165, 175, 246
ADD_KEY, KEYCTL, UNSHARE, PERF_EVENT_OPEN = 248, 250, 272, 298
OPEN_BY_HANDLE_AT, SETNS, BPF, USERFAULTFD, IO_URING_SETUP = 304, 308, 321, 323, 425
PIVOT_ROOT, IOPL, SWAPON, SETTIMEOFDAY, REBOOT = 155, 172, 167, 164, 169
FSOPEN, MEMFD_SECRET, PIDFD_OPEN = 430, 447, 434

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWNS = 0x10000000, 0x40000000, 0x00020000
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
AF_ALG, AF_VSOCK, AF_PACKET, NETLINK_NETFILTER = 38, 40, 17, 12
KEY_SPEC_SESSION_KEYRING = -3


class Refused(Exception):
    """The door stayed shut."""


def syscall(number, *arguments):
    """Calls the kernel; closes the descriptor that it may have made."""
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise Refused(errno.errorcode.get(ctypes.get_errno(), "?"))
    return result


def in_child(probe):
    """Runs a probe in a child, so that what it changes of itself is gone with it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = ""
        try:
            probe()
        except Refused as refused:
            text = str(refused)
        except OSError as error:
            text = errno.errorcode.get(error.errno, "?")
        except BaseException as error:  # noqa: B036 - a child must not run on
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Refused(signal.Signals(os.WTERMSIG(status)).name)
    if text:
        raise Refused(text)


def opens(family, kind, protocol=0):
    return lambda: socket.socket(family, kind, protocol).close()


def opens_path(path, flags=os.O_RDONLY):
    return lambda: os.close(os.open(path, flags | os.O_CLOEXEC))


def attach(pid):
    def probe():
        syscall(PTRACE, PTRACE_ATTACH, pid, 0, 0)
        os.waitpid(pid, 0x40000000)  # __WALL
        syscall(PTRACE, PTRACE_DETACH, pid, 0, 0)

    return probe


def makes_device():
    path = f"/tmp/probe-device-{os.getpid()}"
    os.mknod(path, 0o600 | 0o060000, os.makedev(7, 0))
    try:
        os.close(os.open(path, os.O_RDONLY))
    finally:
        os.unlink(path)


def io_uring():
    os.close(syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(120)))


def bpf():
    # BPF_MAP_CREATE of an array with one element of four bytes.
    attributes = (ctypes.c_uint32 * 18)(2, 4, 4, 1)
    os.close(syscall(BPF, 0, ctypes.byref(attributes), ctypes.sizeof(attributes)))


def perf():
    # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, of this process.
    attributes = ctypes.create_string_buffer(112)
    attributes[0:8] = (1).to_bytes(4, "little") + (112).to_bytes(4, "little")
    os.close(syscall(PERF_EVENT_OPEN, attributes, 0, -1, -1, 0))


def opens_handle():
    # An invalid handle: the kernel looks at the right to do it first.
    handle = (ctypes.c_uint32 * 4)(8, 1, 0, 0)
    try:
        os.close(syscall(OPEN_BY_HANDLE_AT, os.open("/", os.O_RDONLY), handle, os.O_RDONLY))
    except Refused as refused:
        if str(refused) not in ("ESTALE", "EINVAL"):
            raise


def mounts():
    os.makedirs("/tmp/probe-mount", exist_ok=True)
    syscall(UNSHARE, CLONE_NEWNS)
    syscall(MOUNT, b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
    syscall(MOUNT, b"proc", b"/tmp/probe-mount", b"proc", 0, None)


def host_filesystem(kind):
    def probe():
        os.makedirs("/tmp/probe-mount", exist_ok=True)
        syscall(UNSHARE, CLONE_NEWNS)
        syscall(MOUNT, b"none", b"/", None, 0x44000, None)
        syscall(MOUNT, b"none", b"/tmp/probe-mount", kind, 0, None)

    return probe


def joins(namespace):
    def probe():
        descriptor = os.open(f"/proc/1/ns/{namespace}", os.O_RDONLY)
        syscall(SETNS, descriptor, 0)

    return probe


def writable(path):
    def probe():
        os.close(os.open(path, os.O_WRONLY))

    return probe


def pushes_input():
    master, slave = os.openpty()
    import fcntl

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.setsid()
    fcntl.ioctl(slave, 0x540E, 0)  # TIOCSCTTY
    fcntl.ioctl(slave, 0x5412, b"x")  # TIOCSTI
    os.close(master)


PROBES = {
    "io_uring": io_uring,
    "bpf": bpf,
    "perf_event": perf,
    "userfaultfd": lambda: os.close(syscall(USERFAULTFD, os.O_CLOEXEC)),
    "init_module": lambda: expects(("EFAULT", "ENOEXEC"), INIT_MODULE, None, 0, b""),
    "kexec_load": lambda: expects(("EINVAL", "EBUSY"), KEXEC_LOAD, 0, 17, None, 0),
    "open_by_handle": opens_handle,
    "kernel_keys": lambda: syscall(ADD_KEY, b"user", b"probe", b"x", 1, KEY_SPEC_SESSION_KEYRING),
    "memfd_secret": lambda: os.close(syscall(MEMFD_SECRET, 0)),
    "iopl": lambda: syscall(IOPL, 3),
    "swapon": lambda: expects(("ENOENT",), SWAPON, b"/not/there", 0),
    "set_clock": lambda: expects(("EFAULT", "EINVAL"), SETTIMEOFDAY, ctypes.c_void_p(1), None),
    "raw_socket": opens(socket.AF_INET, socket.SOCK_RAW, 1),
    "packet_socket": opens(AF_PACKET, socket.SOCK_RAW, 0x0300),
    "alg_socket": opens(AF_ALG, socket.SOCK_SEQPACKET),
    "vsock": opens(AF_VSOCK, socket.SOCK_STREAM),
    "netfilter": opens(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER),
    "ptrace_parent": lambda: attach(int(os.environ["PROBE_PARENT"]))(),
    "ptrace_init": attach(1),
    "make_device": makes_device,
    "dev_mem": opens_path("/dev/mem"),
    "dev_kmsg": opens_path("/dev/kmsg"),
    "dev_loop": opens_path("/dev/loop-control"),
    "dev_kvm": opens_path("/dev/kvm", os.O_RDWR),
    "dev_fuse": opens_path("/dev/fuse", os.O_RDWR),
    "proc_kcore": opens_path("/proc/kcore"),
    "proc_kallsyms": opens_path("/proc/kallsyms"),
    "sysrq": writable("/proc/sysrq-trigger"),
    "core_pattern": writable("/proc/sys/kernel/core_pattern"),
    "modprobe": writable("/proc/sys/kernel/modprobe"),
    "uevent_helper": writable("/sys/kernel/uevent_helper"),
    "drop_caches": writable("/proc/sys/vm/drop_caches"),
    "mount_proc": mounts,
    "mount_cgroup": host_filesystem(b"cgroup2"),
    "mount_debugfs": host_filesystem(b"debugfs"),
    "mount_securityfs": host_filesystem(b"securityfs"),
    "new_user_namespace": lambda: syscall(UNSHARE, CLONE_NEWUSER),
    "new_network_namespace": lambda: syscall(UNSHARE, CLONE_NEWNET),
    "join_init_mounts": joins("mnt"),
    "join_init_network": joins("net"),
    "push_terminal_input": pushes_input,
}


def expects(complaints, number, *arguments):
    """A call with arguments that cannot work: past the check of rights it complains of those."""
    try:
        syscall(number, *arguments)
    except Refused as refused:
        if str(refused) not in complaints:
            raise


def main():
    os.environ.setdefault("PROBE_PARENT", str(os.getppid()))
    outcome = {}
    for name in sys.argv[1:] or PROBES:
        try:
            in_child(PROBES[name])
            outcome[name] = "open"
        except Refused as refused:
            outcome[name] = str(refused)
        except OSError as error:
            outcome[name] = errno.errorcode.get(error.errno, "?")
    print(json.dumps(outcome))


main()
