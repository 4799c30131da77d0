"""An untrusted program: it does some work, and looks around for what is not its own."""

import os
import platform
import socket
import sys


def attempt(what, look):
    """Prints what a look around has found."""
    try:
        found = look()
    except OSError as error:
        found = f"nothing ({error.strerror or error})"
    print(f"{what:<22} {found}", flush=True)


def read_file():
    with open(os.environ["TARGET_FILE"]) as file:
        return file.read().strip()


def read_environments():
    """Secrets in the environment of any process that can be seen."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    variables = file.read().split(b"\0")
            except OSError:
                continue
            for variable in variables:
                if variable.startswith(b"DEMO_SECRET="):
                    return variable.decode()
    return "nothing"


def find_process():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            for word in words:
                if word.startswith(b"canary-"):
                    return f"process {name} with {word.decode()}"
    return f"nothing among {sum(name.isdigit() for name in os.listdir('/proc'))} processes"


def connect():
    address = ("127.0.0.1", int(os.environ["TARGET_PORT"]))
    with socket.create_connection(address, timeout=5) as connection:
        return connection.recv(100).decode()


def count_disks():
    devices = [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "loop"))]
    return f"{len(devices)} disks in /dev"


print(f"sum of squares         {sum(n * n for n in range(1_000_000))}")
print(f"python and kernel      {platform.python_version()} on {platform.release()}")
print(f"user                   {os.getuid()}", flush=True)
attempt("a file of the host", read_file)
attempt("a process of the host", find_process)
attempt("a secret in a variable", read_environments)
attempt("a server of the host", connect)
attempt("disks of the host", count_disks)
sys.exit(0)
